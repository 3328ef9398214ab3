"""What an app does for a member: progress, check-in, badges, leaderboards, draws with their proof, invitations, answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from tallystick import errands
from tallystick.errors import EventConflict
from tallystick.ledger import Record, member_name

from . import api, store
from .checkin import Streak
from .hooks import Gamification

SOURCE = "gamification.app"
Named = Annotated[str, Meta(min_length=1, max_length=64, description="names this request: sent again it is done once")]


Request: TypeAlias = errands.Request[Gamification]


class CheckIn(Struct, frozen=True, kw_only=True):
    """A streak of check-ins."""

    length: int  #: days in a row, as of today
    best: int
    total: int
    today: bool  #: whether the member has checked in today
    day: int  #: the place in the calendar that today's check-in has, or the next one would have, from 1
    days: int  #: how many days the calendar has; 0: there is none


class Badge(Struct, frozen=True, kw_only=True):
    """A badge of the programme, and what the member has of it."""

    badge: str
    title: Mapping[str, str]
    level: int  #: 0: not yet
    levels: int


class Chance(Struct, frozen=True, kw_only=True):
    """A draw, and how often the member could turn it now."""

    draw: str
    title: Mapping[str, str]
    style: str
    open: bool
    chances: int | None  #: what tokens and limits leave; None: without end
    unit: str
    cost: int
    prizes: tuple[str, ...]


class FormView(Struct, frozen=True, kw_only=True):
    """A survey, quiz or vote that is open."""

    form: str
    title: Mapping[str, str]
    kind: str
    questions: Mapping[str, tuple[str, ...]]
    answered: bool


class Member(Struct, frozen=True, kw_only=True):
    """Everything an app shows of a member."""

    tasks: list[api.TaskView]
    check_in: CheckIn
    badges: list[Badge]
    draws: list[Chance]
    forms: list[FormView]


class Done(Struct, frozen=True, kw_only=True):
    """What came of what the member did."""

    entry: str
    gained: Mapping[str, int]  #: by unit; below 0: spent
    gives: tuple[Mapping[str, Any], ...]


class Said(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that is done once."""

    id: Named
    store: Annotated[str, Meta(max_length=64)] = ""


class Turned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The member turns the wheel; the salt goes into the drawing of lots."""

    id: Named
    salt: Annotated[str, Meta(max_length=64)] = ""


class Answers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The member's answers, by question."""

    id: Named
    answers: Annotated[dict[str, str], Meta(max_length=100)] = {}


class TopQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of a leaderboard."""

    scope: Annotated[str, Meta(max_length=128, description="the store, city or club")] = ""
    on: Annotated[date | None, Meta(description="a day of the window, by default today")] = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 10


class PlaceQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which leaderboard, and when."""

    scope: Annotated[str, Meta(max_length=128, description="the store, city or club")] = ""
    on: Annotated[date | None, Meta(description="a day of the window, by default today")] = None


class RoundQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which round of a draw."""

    round: Annotated[int, Meta(ge=0, description="0: the last one")] = 0


class Place(Struct, frozen=True, kw_only=True):
    """The member's own place; rank 0: not on the list."""

    rank: int
    score: int


class Referral(Struct, frozen=True, kw_only=True):
    """What a member tells friends, and what came of it."""

    code: str  #: `invited_by` of the friend's enrolment
    invited: int  #: friends for whom the member was paid
    by: str  #: who invited the member; empty: nobody
    due: date | None  #: from when the member's own first purchase pays both sides


# --- to see ----------------------------------------------------------------------------------------------------------


def member(request: Request) -> Member:
    """Tasks with progress, the streak, badges, draws with chances, and what can be answered."""
    return Member(
        tasks=api.tasks_of(request, request.member), check_in=_check_in(request), badges=badges(request),
        draws=[_chance(request, view) for view in api.chances_of(request, request.member)], forms=_forms(request),
    )  # fmt: skip


def tasks(request: Request) -> list[api.TaskView]:
    """Where the member stands in every task and quest, in the present periods."""
    return api.tasks_of(request, request.member)


def badges(request: Request) -> list[Badge]:
    """All badges of the programme with the level the member has."""
    held = api.badges_of(request, request.member)
    return [
        Badge(badge=name, title=api.titled(badge.title), level=held.get(name, 0), levels=badge.levels)
        for name, badge in request.plugin.settings.badges.items()
    ]


def board(request: Request, query: TopQuery) -> list[api.BoardView]:
    """The first places of a leaderboard; members are shown by a name of their choice or a pseudonym."""
    return api.top(request, request.path["board"], scope=query.scope, on=query.on, limit=query.limit)


def place(request: Request, query: PlaceQuery) -> Place:
    """The member's own place on a leaderboard."""
    found = api.place(request, request.path["board"], request.member, scope=query.scope, on=query.on)
    return Place(rank=0, score=0) if found is None else Place(rank=found.rank, score=found.score)


def proof(request: Request, query: RoundQuery) -> dict[str, Any]:
    """What may be told of a round of a draw: the commitment while it is open, seed and all draws once it is closed."""
    told = api.proof(request, request.path["draw"], query.round)
    if "draws" in told:  # the entry names the draw; who drew is nobody's business
        told["draws"] = [{key: value for key, value in one.items() if key != "member"} for one in told["draws"]]
    return told


def referral(request: Request) -> Referral:
    """The code that a friend gives at enrolment, and what came of invitations so far."""
    rows = api.rows_of(request, request.member)
    mine = rows.get("referral") or {}
    return Referral(
        code=member_name(request.member), invited=rows.get("invited") or 0, by=member_name(mine["by"]) if mine else "",
        due=date.fromisoformat(mine["due"]) if "due" in mine and not mine.get("paid") else None,
    )  # fmt: skip


# --- to do -----------------------------------------------------------------------------------------------------------


def check_in(request: Request, body: Said) -> Done:
    """The member is here today."""
    return _do(request, body.id, "gamification.checked_in", {"store": body.store} if body.store else {})


def draw(request: Request, body: Turned) -> Done:
    """The member turns the wheel."""
    return _do(request, body.id, "gamification.drawn", {"draw": request.path["draw"], "salt": body.salt})


def answer(request: Request, body: Answers) -> Done:
    """The member answers a survey or a quiz, or votes."""
    kind = api.kind_of_form(request, request.path["form"])
    return _do(request, body.id, kind, {"form": request.path["form"], "answers": body.answers})


def _do(request: Request, id: str, kind: str, data: Mapping[str, Any]) -> Done:
    name = f"{member_name(request.member)}/{id}"
    document = {
        "id": name, "source": SOURCE, "type": kind, "time": request.now.isoformat(),
        "member": member_name(request.member), "data": data,
    }  # fmt: skip
    (outcome,) = request.record([document])
    if isinstance(outcome, EventConflict):  # said before, at another time: the answer is that of then
        with request.house.reading() as conn:
            found = store.find_event(conn, request.tenant, SOURCE, name)
        if found is None or found.kind != kind:
            raise outcome
        return _done(found)
    if isinstance(outcome, Exception):
        raise outcome
    return _done(outcome.record)


def _done(record: Record) -> Done:
    gained: dict[str, int] = {}
    for step in record.explanation:
        if step.unit and step.amount and not step.member:
            gained[step.unit] = gained.get(step.unit, 0) + step.amount
    return Done(entry=record.entry, gained=gained, gives=tuple(record.gives))


def _check_in(request: Request) -> CheckIn:
    calendar = request.plugin.settings.calendar
    streak: Streak = api.streak_of(request, request.member)
    today = streak.day == api.today(request).toordinal()
    days = len(calendar.days) if calendar is not None else 0
    length = streak.length if today else streak.length + 1
    return CheckIn(
        length=streak.length, best=streak.best, total=streak.total, today=today, days=days,
        day=(length - 1) % days + 1 if days else 0,
    )  # fmt: skip


def _chance(request: Request, view: api.ChanceView) -> Chance:
    draw = request.plugin.settings.draws[view.draw]
    return Chance(
        draw=draw.name, title=api.titled(draw.title), style=draw.style, open=view.open, chances=view.chances, unit=draw.unit,
        cost=draw.cost, prizes=tuple(prize.name for prize in draw.prizes),
    )  # fmt: skip


def _forms(request: Request) -> list[FormView]:
    rows, day = api.rows_of(request, request.member), api.today(request)
    return [
        FormView(
            form=form.name, title=api.titled(form.title), kind=form.kind, questions=form.questions,
            answered=f"form:{form.name}" in rows,
        )
        for form in request.plugin.settings.forms.values()
        if form.span.holds(day)
    ]  # fmt: skip
