"""What a merchant can set, and the frozen objects that the rules read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Final, Literal

import attrs

from tallystick import values

PURCHASE: Final = "purchase.completed"
REPEATS: Final = ("never", "day", "week", "month", "quarter", "half", "year", "completion")
Refunds = Literal["progress", "reward", "keep"]


@attrs.frozen(kw_only=True)
class Reward:
    """What is given: an amount of a unit, a badge, or a coupon that another plugin delivers."""

    unit: str = ""
    amount: int = 0
    badge: str = ""
    coupon: str = ""
    level: int = 0  #: of a task: only at this level (or round); 0: at each
    budget: int = 0  #: of a unit: all that may be given to everybody together; 0: no bound


@attrs.frozen(kw_only=True)
class Span:
    """From which to which day something holds, both included."""

    since: date | None = None
    until: date | None = None

    def holds(self, day: date) -> bool:
        """Whether it holds on the local *day*."""
        return (self.since is None or day >= self.since) and (self.until is None or day <= self.until)


@attrs.frozen(kw_only=True)
class Task:
    """One ``[[tasks]]`` table, or a quest, which is a task that is done when all of its steps are."""

    name: str
    title: values.Text | None = None
    on: str = PURCHASE
    when: str = ""
    audience: str = ""  #: condition about the member
    lines: str = ""
    measure: Literal["count", "sum", "distinct", "steps"] = "count"
    value: str = ""
    goal: str = "1"  #: a whole number, or a formula in `level`
    levels: int = 1
    repeat: str = "never"
    span: Span = Span()
    after: tuple[str, ...] = ()  #: tasks that come first: progress counts from the day on which they were done
    refund: Refunds = "progress"
    rewards: tuple[Reward, ...] = ()

    @property
    def by_day(self) -> bool:
        """Whether progress is kept by the day: needed where tasks follow each other."""
        return bool(self.after)


@attrs.frozen(kw_only=True)
class Calendar:
    """The calendar of check-ins: rewards of day 1, 2, 3, ... of a streak; after the last day it starts anew."""

    days: tuple[tuple[Reward, ...], ...]
    freeze_unit: str = ""  #: a unit of which each missed day takes one, so that the streak goes on


@attrs.frozen(kw_only=True)
class Badge:
    """Something to be proud of."""

    name: str
    title: values.Text | None = None
    levels: int = 1


@attrs.frozen(kw_only=True)
class Referral:
    """Bringing a friend: both are paid after the friend's first qualifying purchase has stood for some days."""

    inviter: tuple[Reward, ...] = ()
    friend: tuple[Reward, ...] = ()
    when: str = ""  #: which purchase qualifies
    days: int = 14
    limit: int = 0  #: how many friends an inviter is paid for; 0: no bound


@attrs.frozen(kw_only=True)
class Form:
    """A survey, a quiz or a vote."""

    name: str
    title: values.Text | None = None
    kind: Literal["survey", "quiz", "vote"]
    questions: Mapping[str, tuple[str, ...]]  #: question -> the answers to choose from; none: any text
    solution: Mapping[str, str] = {}
    passing: int = 0  #: right answers it takes; 0: all
    span: Span = Span()
    rewards: tuple[Reward, ...] = ()


@attrs.frozen(kw_only=True)
class Board:
    """A leaderboard: what counts, in which window, and by what it is divided."""

    name: str
    title: values.Text | None = None
    on: str = PURCHASE
    when: str = ""
    value: str = ""
    scope: str = ""  #: text of the rule language: the store, the city, the club; empty: all in one
    window: str = "month"
    audience: str = ""


@attrs.frozen(kw_only=True)
class Prize:
    """One cell of a wheel."""

    name: str
    title: values.Text | None = None
    weight: int
    stock: bool = False
    reward: Reward | None = None
    gives: Mapping[str, Any] = {}


@attrs.frozen(kw_only=True)
class Limit:
    """How often a member may draw in a window."""

    window: str
    times: int


@attrs.frozen(kw_only=True)
class Draw:
    """A wheel, a nine-grid or a scratch card."""

    name: str
    title: values.Text | None = None
    prizes: tuple[Prize, ...]
    style: Literal["wheel", "nine_grid", "scratch"] = "wheel"
    unit: str = ""
    cost: int = 0
    when: str = ""
    limits: tuple[Limit, ...] = ()
    span: Span = Span()
    instead: str = ""  #: the prize that is given where another one is out of stock

    @property
    def table(self) -> tuple[tuple[str, int], ...]:
        """The prizes and their weights, as a round is committed with them."""
        return tuple((prize.name, prize.weight) for prize in self.prizes)


@attrs.frozen(kw_only=True)
class Settings:
    """The plugin as one merchant has set it up."""

    tasks: tuple[Task, ...] = ()  #: quests come behind their steps
    badges: Mapping[str, Badge] = {}
    calendar: Calendar | None = None
    referral: Referral | None = None
    forms: Mapping[str, Form] = {}
    boards: tuple[Board, ...] = ()
    draws: Mapping[str, Draw] = {}


def read(document: Mapping[str, Any]) -> Settings:
    """Make the frozen settings of a document that :data:`SCHEMA` and ``checks.check`` have accepted."""
    return Settings(
        tasks=read_tasks(document),
        badges={
            name: Badge(name=name, title=_title(badge), levels=badge.get("levels", 1))
            for name, badge in document.get("badges", {}).items()
        },
        calendar=_calendar(document["check_in"]) if "check_in" in document else None,
        referral=_referral(document["referral"]) if "referral" in document else None,
        forms={form["name"]: _form(form) for form in document.get("forms", ())},
        boards=tuple(
            Board(**_plain(board, "title"), title=_title(board)) for board in document.get("leaderboards", ())
        ),
        draws={draw["name"]: _draw(draw) for draw in document.get("draws", ())},
    )


def read_tasks(document: Mapping[str, Any]) -> tuple[Task, ...]:
    """The tasks, with what quests add: each step comes after the one before, and the quest is done with its steps."""
    before: dict[str, list[str]] = {}
    quests = document.get("quests", ())
    for quest in quests:
        for first, second in zip(quest["steps"], quest["steps"][1:], strict=False):
            before.setdefault(second, []).append(first)
    tasks = [_task(fields, before.get(fields["name"], [])) for fields in document.get("tasks", ())]
    known = {task.name: task for task in tasks}
    for quest in quests:
        steps = [known[step] for step in quest["steps"] if step in known]
        tasks.append(
            Task(
                name=quest["name"], title=_title(quest), on="", measure="steps", after=tuple(quest["steps"]), rewards=_rewards(quest),
                repeat=steps[0].repeat if steps else "never", refund=quest.get("refund", "progress"),
            )
        )  # fmt: skip
    return tuple(tasks)


def _plain(fields: Mapping[str, Any], *without: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in without}


def _title(fields: Mapping[str, Any]) -> values.Text | None:
    return values.text(fields["title"]) if "title" in fields else None


def _rewards(fields: Mapping[str, Any]) -> tuple[Reward, ...]:
    return tuple(Reward(**reward) for reward in fields.get("rewards", ()))


def _span(fields: Mapping[str, Any]) -> Span:
    return Span(since=_day(fields.get("from")), until=_day(fields.get("until")))


def _day(said: Any) -> date | None:
    return date.fromisoformat(said) if isinstance(said, str) else said


def _task(fields: Mapping[str, Any], before: list[str]) -> Task:
    plain = _plain(fields, "title", "rewards", "from", "until", "after", "goal")
    after = tuple(dict.fromkeys([*fields.get("after", ()), *before]))
    return Task(
        **plain, title=_title(fields), goal=str(fields.get("goal", 1)), span=_span(fields), after=after, rewards=_rewards(fields),
    )  # fmt: skip


def _calendar(fields: Mapping[str, Any]) -> Calendar:
    return Calendar(
        days=tuple(_rewards(day) for day in fields["days"]),
        freeze_unit=fields.get("freeze_unit", ""),
    )


def _referral(fields: Mapping[str, Any]) -> Referral:
    inviter, friend = ([Reward(**reward) for reward in fields.get(side, ())] for side in ("inviter", "friend"))
    return Referral(**_plain(fields, "inviter", "friend"), inviter=tuple(inviter), friend=tuple(friend))


def _form(fields: Mapping[str, Any]) -> Form:
    plain = _plain(fields, "title", "rewards", "from", "until", "questions")
    questions = {name: tuple(answers) for name, answers in fields["questions"].items()}
    return Form(**plain, title=_title(fields), questions=questions, span=_span(fields), rewards=_rewards(fields))


def _draw(fields: Mapping[str, Any]) -> Draw:
    cost = fields.get("cost", {})
    return Draw(
        name=fields["name"], title=_title(fields), style=fields.get("style", "wheel"), when=fields.get("when", ""),
        unit=cost.get("unit", ""), cost=cost.get("amount", 0), instead=fields.get("instead", ""), span=_span(fields),
        limits=tuple(Limit(**limit) for limit in fields.get("limits", ())),
        prizes=tuple(
            Prize(
                name=prize["name"], title=_title(prize), weight=prize["weight"], stock=prize.get("stock", False), gives=dict(prize.get("gives", {})),
                reward=Reward(**prize["reward"]) if "reward" in prize else None,
            )
            for prize in fields["prizes"]
        ),
    )  # fmt: skip


# --- what a schema can say ---------------------------------------------------------------------------------------


def _says(doc: str, rules: Mapping[str, Any], expected: str = "") -> dict[str, Any]:
    meta = {**rules.get("meta", {}), "doc": doc}
    return {**rules, "meta": {**meta, "expected": expected} if expected else meta}


def _list(items: Mapping[str, Any], **rules: Any) -> dict[str, Any]:
    return {"type": "list", "schema": dict(items), **rules}


def _table(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "dict", "schema": dict(fields)}


def _choice(*allowed: str) -> dict[str, Any]:
    return {"type": "string", "allowed": list(allowed)}


_NAME: Final = {"type": "id", "required": True}
_POSITIVE: Final = {"type": "integer", "min": 1, "max": 10**12}
_COUNT: Final = {"type": "integer", "min": 0, "max": 10**12}
_RULE: Final = {"type": "rule"}
_FLAG: Final = {"type": "boolean"}
_DAY: Final = {"type": "day"}
_WINDOW: Final = {
    "type": "string", "regex": r"day|week|month|quarter|half|year|lifetime",
    "meta": {"expected": '"day", "week", "month", "quarter", "half", "year" or "lifetime"'},
}  # fmt: skip
_REWARD: Final = {
    "unit": _says("The unit of the ledger that is given.", {"type": "unit"}),
    "amount": _says("How much of it, in its smallest part.", _POSITIVE),
    "badge": _says("A badge, at the level that was reached.", {"type": "id"}),
    "coupon": _says("A coupon that another plugin delivers: `gamification.rewarded` names it.", {"type": "string", "minlength": 1, "maxlength": 64}),
    "level": _says("Of a task: only at this level or round. By default at each.", {"type": "integer", "min": 1, "max": 10_000}),
    "budget": _says("All that may be given to everybody together.", _POSITIVE),
}  # fmt: skip
_REWARDS: Final = _says("What is given.", _list(_table(_REWARD), maxlength=32))
_TITLE: Final = _says("What it is called, in words.", {"type": "text"})
_FROM: Final = _says("The first day.", _DAY)
_UNTIL: Final = _says("The last day, included.", _DAY)
_REFUND: Final = _says(
    "What a return of the order takes back: `progress` (the default), `reward` (progress, and the reward where it no longer "
    "reaches) or `keep` (nothing).",
    _choice("progress", "reward", "keep"),
)
_TASK: Final = {
    "name": _says("The task's name: receipts show `gamification.<name>`.", _NAME),
    "title": _TITLE,
    "on": _says("The kind of event that counts. By default `purchase.completed`.", {"type": "name"}),
    "when": _says("Which of these events, in the rule language.", _RULE),
    "audience": _says("Whose events, in the rule language: a condition about `member`.", _RULE),
    "lines": _says("Which lines of a purchase, in the rule language.", _RULE),
    "measure": _says(
        "`count` (the default) counts events, `sum` adds up `value` (by default what was spent, in minor units), `distinct` "
        "counts different values.",
        _choice("count", "sum", "distinct"),
    ),
    "value": _says("What is added up, or told apart, in the rule language.", _RULE),
    "goal": _says(
        'How much it takes: a whole number, or a formula in `level` such as "3 * level".',
        {"type": ["integer", "string"], "required": True}, 'a whole number from 1, or a formula such as "3 * level"',
    ),
    "levels": _says("How many levels there are. By default 1.", {"type": "integer", "min": 1, "max": 10_000}),
    "repeat": _says(
        "When it begins anew: `never` (the default), each calendar `day`, `week`, `month`, `quarter`, `half` or `year`, or upon "
        "`completion`.",
        _choice(*REPEATS),
    ),
    "from": _FROM,
    "until": _UNTIL,
    "after": _says("Tasks that come first: this one counts from the day on which they were done.", _list({"type": "id"}, maxlength=32)),
    "refund": _REFUND,
    "rewards": _REWARDS,
}  # fmt: skip
_PRIZE: Final = {
    "name": _says("The prize.", _NAME),
    "title": _TITLE,
    "weight": _says("Its share of the chances.", {**_COUNT, "required": True}),
    "stock": _says("Whether pieces are counted; `gamification.stocked` brings them.", _FLAG),
    "reward": _says("What is given.", _table(_REWARD)),
    "gives": _says("What the till is told.", {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": {"type": ["string", "integer", "boolean"]}}),
}  # fmt: skip
_DRAW: Final = {
    "name": _says("The draw's name in `gamification.drawn`.", _NAME),
    "title": _TITLE,
    "style": _says("How it is shown: `wheel` (the default), `nine_grid` (eight prizes) or `scratch`.", _choice("wheel", "nine_grid", "scratch")),
    "cost": _says("What a draw costs. By default nothing.", _table({
        "unit": _says("The unit: points, tickets.", {"type": "unit", "required": True}),
        "amount": _says("How much.", {**_POSITIVE, "required": True}),
    })),
    "when": _says("Who may draw: a condition about `member`.", _RULE),
    "limits": _says("How often a member may draw.", _list(_table({
        "window": _says("The window, in local days.", {**_WINDOW, "required": True}),
        "times": _says("So many times.", {**_POSITIVE, "required": True}),
    }), maxlength=8)),
    "from": _FROM,
    "until": _UNTIL,
    "instead": _says("The prize without stock that is given where the drawn one is gone.", {"type": "id"}),
    "prizes": _says("The cells, in their order.", _list(_table(_PRIZE), minlength=1, maxlength=64, required=True)),
}  # fmt: skip
_FORM: Final = {
    "name": _says("The form's name in the event.", _NAME),
    "title": _TITLE,
    "kind": _says("`survey`, `quiz` or `vote`.", {**_choice("survey", "quiz", "vote"), "required": True}),
    "questions": _says("Questions, each with the answers to choose from; an empty list takes any text.", {
        "type": "dict", "required": True, "minlength": 1, "keysrules": {"type": "id"},
        "valuesrules": _list({"type": "string", "maxlength": 128}, maxlength=100),
    }),
    "solution": _says("Of a quiz: the right answers.", {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": {"type": "string"}}),
    "passing": _says("Of a quiz: how many right answers give the reward. By default all.", {"type": "integer", "min": 1, "max": 100}),
    "from": _FROM,
    "until": _UNTIL,
    "rewards": _REWARDS,
}  # fmt: skip
_BOARD: Final = {
    "name": _says("The leaderboard's name.", _NAME),
    "title": _TITLE,
    "on": _says("The kind of event that counts. By default `purchase.completed`.", {"type": "name"}),
    "when": _says("Which of these events.", _RULE),
    "audience": _says("Who takes part: a condition about `member`.", _RULE),
    "value": _says("What each adds. By default 1; anything else is taken for money, of which a return subtracts its share.", _RULE),
    "scope": _says('What it is divided by, a text such as "purchase.store". By default there is one list for all.', _RULE),
    "window": _says("When it begins anew. By default `month`.", _WINDOW),
}  # fmt: skip

#: The Cerberus schema of the plugin's settings.
SCHEMA: Final[Mapping[str, Any]] = {
    "tasks": _says("The tasks.", _list(_table(_TASK), maxlength=500)),
    "quests": _says("Tasks that follow each other.", _list(_table({
        "name": _says("The quest's name.", _NAME),
        "title": _TITLE,
        "steps": _says("The tasks, in their order.", _list({"type": "id"}, minlength=1, maxlength=32, required=True)),
        "refund": _REFUND,
        "rewards": _REWARDS,
    }), maxlength=100)),
    "badges": _says("Badges, by name.", {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": _table({
        "title": _TITLE,
        "levels": _says("How many levels it has. By default 1.", {"type": "integer", "min": 1, "max": 10_000}),
    })}),
    "check_in": _says("The calendar of check-ins.", _table({
        "days": _says("Rewards of the first, second, ... day of a streak; after the last day it starts anew.", _list(
            _table({"rewards": _REWARDS}), minlength=1, maxlength=400, required=True)),
        "freeze_unit": _says("A unit of which each missed day takes one, so that the streak goes on.", {"type": "unit"}),
    })),
    "referral": _says("Bringing friends.", _table({
        "inviter": _says("What the inviter gets.", _list(_table(_REWARD), maxlength=8)),
        "friend": _says("What the friend gets.", _list(_table(_REWARD), maxlength=8)),
        "when": _says("Which purchase qualifies. By default any.", _RULE),
        "days": _says("How many days it must stand without a return. By default 14.", {"type": "integer", "min": 0, "max": 365}),
        "limit": _says("How many friends an inviter is paid for.", _POSITIVE),
    })),
    "forms": _says("Surveys, quizzes and votes.", _list(_table(_FORM), maxlength=200)),
    "leaderboards": _says("Leaderboards.", _list(_table(_BOARD), maxlength=50)),
    "draws": _says("Draws.", _list(_table(_DRAW), maxlength=50)),
}  # fmt: skip
