"""What others may ask about gamification: progress, streak and badges of a member, leaderboards, proofs of draws."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from types import SimpleNamespace
from typing import Any

from msgspec import Struct

from tallystick import queries
from tallystick.ledger import instant
from tallystick.values import Text

from . import boards, draws, forms, hooks, store
from .checkin import ROW, Streak, read_streak
from .errors import NotOffered
from .jobs import Errand
from .periods import period_of
from .tasks import Look, Tasks


class TaskView(Struct, frozen=True, kw_only=True):
    """A member's progress in one task, in the present period."""

    task: str
    title: Mapping[str, str]  #: what it is called, by language; empty if the merchant did not say
    progress: int
    goal: int  #: what the next level (or round) takes in all; of the last level, what it took
    level: int
    levels: int  #: 0: without end
    begun: bool  #: whether what comes before it is done


class ChanceView(Struct, frozen=True, kw_only=True):
    """How often a member could draw now."""

    draw: str
    open: bool  #: whether a round is open, and today is within the draw's days
    chances: int | None  #: None: without end


class BoardView(Struct, frozen=True, kw_only=True):
    """One line of a leaderboard."""

    rank: int
    name: str  #: as the member chose to be shown, or a pseudonym
    score: int


def today(errand: Errand) -> date:
    """The programme's present day."""
    day: date = errand.plugin.programme.local_date(errand.now)
    return day


def rows_of(errand: Errand, member: int) -> Mapping[str, Any]:
    """All that the plugin keeps of a member."""
    with errand.house.reading() as conn:
        return store.own_rows(conn, errand.tenant, f"m:{member}")


def tasks_of(errand: Errand, member: int) -> list[TaskView]:
    """Where *member* stands in every task and quest as of today."""
    tasks, day = errand.plugin.tasks, today(errand)
    with errand.house.reading() as conn:
        rows = store.own_rows(conn, errand.tenant, f"m:{member}")
        counted = store.counters_of(conn, errand.tenant, member, [plain.key[0] for plain in tasks.plain.values()])
    return views(tasks, rows, counted, day)


def views(
    tasks: Tasks, rows: Mapping[str, Any], counted: Mapping[tuple[str, str, int], int], day: date
) -> list[TaskView]:
    """What own rows, and counters by their name and the start of their window, come to on *day*."""
    look = Look(tasks, SimpleNamespace(own={"{member}": rows}, entry=""))  # type: ignore[arg-type]
    found = []
    for task in tasks.by_name.values():
        if not task.span.holds(day):
            continue
        if (plain := tasks.plain.get(task.name)) is not None:
            counter, window = plain.key
            progress = max(0, counted.get((counter, window, boards.start_of(window, day)), 0))
            level = plain.level(progress)
            found.append(
                TaskView(
                    task=task.name, title=titled(task.title), progress=progress, goal=plain.goal(level), level=level,
                    levels=0 if plain.endless else task.levels, begun=True,
                )
            )  # fmt: skip
            continue
        period = period_of(task.repeat, day)
        progress, level = look.count(task, period), look.level(task, period)
        if task.measure == "steps":
            steps = [tasks.by_name[step] for step in task.after]
            progress, goal = sum(look.done_on(step, period) is not None for step in steps), len(steps)
        elif task.repeat == "completion":
            goal = tasks.goals[task.name][0] * (level + 1)
        else:
            goals = tasks.goals[task.name]
            goal = goals[min(level, len(goals) - 1)]
        found.append(
            TaskView(
                task=task.name, title=titled(task.title), progress=progress, goal=goal, level=level,
                levels=0 if task.repeat == "completion" else task.levels,
                begun=task.measure == "steps" or look.begins(task, period) is not None,
            )
        )  # fmt: skip
    return found


def titled(title: Text | None) -> Mapping[str, str]:
    """What something is called, by language; nothing if the merchant did not say."""
    return title.languages if title is not None else {}


def streak_of(errand: Errand, member: int) -> Streak:
    """How a member stands with check-ins; a streak that a missed day has ended has length 0."""
    streak = read_streak(rows_of(errand, member).get(ROW))
    return streak if streak.day >= today(errand).toordinal() - 1 else streak._replace(length=0)


def badges_of(errand: Errand, member: int) -> dict[str, int]:
    """The member's badges, with the level of each."""
    rows = rows_of(errand, member)
    return {
        name.removeprefix("badge:"): row["level"] for name, row in sorted(rows.items()) if name.startswith("badge:")
    }


def chances_of(errand: Errand, member: int) -> list[ChanceView]:
    """Of each draw, how often *member* could turn it now: what is usable pays for so many, limits leave so many."""
    plugin, day = errand.plugin, today(errand)
    names = [hooks.drawn_counter(draw) for draw in plugin.settings.draws.values()]
    with errand.house.reading() as conn:
        usable = {
            unit: balance.usable
            for unit, balance in queries.balances(conn, errand.tenant, member, instant(errand.now)).items()
        }
        counted = store.counters_of(conn, errand.tenant, member, names)
        person = store.person(conn, errand.tenant, member)
        rounds = {
            name: store.own_rows(conn, errand.tenant, f"draw/{name}").get("round") for name in plugin.settings.draws
        }
    found = []
    for draw in plugin.settings.draws.values():
        round_ = draws.read_round(rounds[draw.name])
        is_open = round_ is not None and round_.open and round_.table == draw.table and draw.span.holds(day)
        left = [
            limit.times - counted.get((hooks.drawn_counter(draw), limit.window, boards.start_of(limit.window, day)), 0)
            for limit in draw.limits
        ]
        chances = draws.chances(usable.get(draw.unit, 0), draw.cost, max(0, min(left)) if left else None)
        if not is_open or not plugin.may_draw(draw, person, day):
            chances = 0
        found.append(ChanceView(draw=draw.name, open=is_open, chances=chances))
    return found


class PrizeView(Struct, frozen=True, kw_only=True):
    """A prize of a draw."""

    prize: str
    weight: int
    left: int | None  #: pieces left; None: not counted


class DrawView(Struct, frozen=True, kw_only=True):
    """A draw as those who run it see it."""

    draw: str
    open: bool
    round: int  #: the last one; 0: none yet
    prizes: tuple[PrizeView, ...]


def draws_of(errand: Errand) -> list[DrawView]:
    """Every draw with its round, its prizes and what is left of them."""
    found = []
    with errand.house.reading() as conn:
        for draw in errand.plugin.settings.draws.values():
            row = draws.read_round(store.own_rows(conn, errand.tenant, f"draw/{draw.name}").get("round"))
            keys = {prize.name: hooks.shelf(draw.name, prize.name) for prize in draw.prizes if prize.stock}
            left = store.stock_of(conn, errand.tenant, keys.values())
            prizes = tuple(
                PrizeView(
                    prize=prize.name, weight=prize.weight, left=left.get(keys[prize.name], 0) if prize.stock else None
                )
                for prize in draw.prizes
            )
            found.append(
                DrawView(
                    draw=draw.name, open=row is not None and row.open, round=row.number if row is not None else 0, prizes=prizes
                )
            )  # fmt: skip
    return found


class TaskSummary(Struct, frozen=True, kw_only=True):
    """How a task fares with everybody."""

    task: str
    title: Mapping[str, str]
    members: int  #: who reached its first level, in any period
    times: int  #: levels and rounds reached by all together


class BadgeSummary(Struct, frozen=True, kw_only=True):
    """Who has a badge."""

    badge: str
    title: Mapping[str, str]
    members: int


class BoardSummary(Struct, frozen=True, kw_only=True):
    """Who leads, where a leaderboard is not divided, in the window in which something was counted last."""

    board: str
    title: Mapping[str, str]
    top: tuple[BoardView, ...]


class Summary(Struct, frozen=True, kw_only=True):
    """Tasks, badges and leaderboards of a programme."""

    tasks: tuple[TaskSummary, ...]
    badges: tuple[BadgeSummary, ...]
    boards: tuple[BoardSummary, ...]


def summary_of(errand: Errand, *, places: int = 5) -> Summary:
    """What tasks, badges and leaderboards came to so far."""
    settings = errand.plugin.settings
    with errand.house.reading() as conn:
        reached = store.levels_reached(conn, errand.tenant)
        held = store.badges_held(conn, errand.tenant)
        starts = {board.name: store.last_window(conn, errand.tenant, board.name) for board in settings.boards}
    boards_ = [board for board in settings.boards if not board.scope]
    return Summary(
        tasks=tuple(
            TaskSummary(task=task.name, title=titled(task.title), members=members, times=times)
            for task in settings.tasks
            for members, times in [reached.get(task.name, (0, 0))]
        ),
        badges=tuple(
            BadgeSummary(badge=name, title=titled(badge.title), members=held.get(name, 0))
            for name, badge in settings.badges.items()
        ),
        boards=tuple(
            BoardSummary(
                board=board.name, title=titled(board.title),
                top=tuple(_top(errand, board.name, "", starts[board.name], places)),
            )
            for board in boards_
        ),
    )  # fmt: skip


def kind_of_form(errand: Errand, form: str) -> str:
    """The kind of event with which a form is answered.  Raises NotOffered."""
    found = errand.plugin.settings.forms.get(form)
    if found is None:
        raise NotOffered(f"there is nothing called {form!r} to answer")
    return next(kind for kind, each in forms.KINDS.items() if each == found.kind)


def top(errand: Errand, board: str, *, scope: str = "", on: date | None = None, limit: int = 100) -> list[BoardView]:
    """The first places of a leaderboard in the window around *on*, by default today.  Raises NotOffered."""
    found = next((each for each in errand.plugin.settings.boards if each.name == board), None)
    if found is None:
        raise NotOffered(f"there is no leaderboard {board!r}")
    return _top(errand, board, scope, boards.start_of(found.window, on or today(errand)), limit)


def _top(errand: Errand, board: str, scope: str, start: int, limit: int) -> list[BoardView]:
    tenant = errand.tenant
    with errand.house.reading() as conn:
        places = store.top(conn, tenant, board, start, scope, limit)
        names = store.names_of(conn, tenant, [place.member for place in places])
    return [
        BoardView(
            rank=place.rank, name=names.get(place.member) or boards.pseudonym(tenant, place.member), score=place.score
        )
        for place in places
    ]


def place(errand: Errand, board: str, member: int, *, scope: str = "", on: date | None = None) -> store.Place | None:
    """The member's own place; None if they are not on the list."""
    found = next((each for each in errand.plugin.settings.boards if each.name == board), None)
    if found is None:
        raise NotOffered(f"there is no leaderboard {board!r}")
    with errand.house.reading() as conn:
        return store.place_of(
            conn, errand.tenant, board, boards.start_of(found.window, on or today(errand)), scope, member
        )


def proof(errand: Errand, draw: str, number: int = 0) -> dict[str, Any]:
    """What may be told of a round (by default the last one): the commitment while it is open, everything once it is closed."""
    with errand.house.reading() as conn:
        rows = store.own_rows(conn, errand.tenant, f"draw/{draw}")
        found = draws.read_round(rows.get(f"round:{number}" if number else "round") or rows.get("round"))
        if found is None or (number and found.number != number):
            raise NotOffered(f"there is no such round of {draw!r}")
        told: dict[str, Any] = {
            "draw": draw, "round": found.number, "open": found.open, "commitment": found.commitment,
            "table": [list(cell) for cell in found.table],
        }  # fmt: skip
        if not found.open:
            told |= {"seed": found.seed, "draws": store.list_draws(conn, errand.tenant, draw, found.number)}
        return told
