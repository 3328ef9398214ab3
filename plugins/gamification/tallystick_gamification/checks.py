"""Mistakes in a merchant's settings that a schema cannot see, rules included; each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from tallystick import rules
from tallystick.errands import Context
from tallystick.errors import InvalidRule
from tallystick.events import CORE_KINDS
from tallystick.rules import BOOL, INT, STRING, RuleText, check_rules, compile_expression

from .scope import PLACES, scope_of_event, scope_of_level, scope_of_member
from .settings import PURCHASE, Board, read_tasks
from .watch import text_of, text_of_board

Path = tuple[str | int, ...]
Said = tuple[Path, str | InvalidRule]
OWN_KINDS = frozenset(
    f"gamification.{name}"
    for name in (
        "checked_in", "drawn", "draw_opened", "draw_closed", "stocked", "surveyed", "quizzed", "voted", "referred", "rewarded", "shown",
    )
)  # fmt: skip
CORE = frozenset(kind.name for kind in CORE_KINDS)
#: Names that rules of the plugin itself have.
OWN_NAMES = frozenset(("check_in", "freeze", "referral", "shown", "stocked"))
REWARDED = "gamification.rewarded"
_AMOUNTS = ("unit", "badge", "coupon")


def check(document: Mapping[str, Any], context: Context) -> list[Said]:
    """What is wrong with a document that fits the schema: where, and what was expected.  Rules come last, if all else is right."""
    found = [
        *_check_names(document),
        *_check_places(document),
        *_check_tasks(document, context),
        *_check_draws(document),
    ]
    return found or [*_check_rules(document, context)]


def _check_names(document: Mapping[str, Any]) -> Iterator[Said]:
    """Everything that gives something has a name of its own: receipts show it."""
    seen: set[str] = set(OWN_NAMES)
    for part in ("tasks", "quests", "forms", "draws"):
        for place, fields in enumerate(document.get(part, ())):
            if fields["name"] in seen:
                yield (part, place, "name"), f'found "{fields["name"]}" twice; expected a name of its own'
            seen.add(fields["name"])
    boards: set[str] = set()
    for place, board in enumerate(document.get("leaderboards", ())):
        if board["name"] in boards:
            yield ("leaderboards", place, "name"), f'found "{board["name"]}" twice; expected a name of its own'
        boards.add(board["name"])


def _check_places(document: Mapping[str, Any]) -> Iterator[Said]:
    """Rewards and spans, wherever they are."""
    for part in ("tasks", "quests", "forms"):
        for place, fields in enumerate(document.get(part, ())):
            levels = fields.get("levels", 1) if fields.get("repeat") != "completion" else None
            yield from _check_rewards((part, place, "rewards"), fields.get("rewards", ()), document, levels)
            yield from _check_span((part, place), fields)
    for place, day in enumerate(document.get("check_in", {}).get("days", ())):
        yield from _check_rewards(("check_in", "days", place, "rewards"), day.get("rewards", ()), document)
    for side in ("inviter", "friend"):
        rewards = document.get("referral", {}).get(side, ())
        yield from _check_rewards(("referral", side), rewards, document)
        for place, reward in enumerate(rewards):
            if side == "inviter" and "unit" not in reward:
                yield (
                    ("referral", side, place),
                    'expected "unit" and "amount": badges and coupons go to the member of an event',
                )


def _check_rewards(
    path: Path, rewards: Sequence[Mapping[str, Any]], document: Mapping[str, Any], levels: int | None = 1
) -> Iterator[Said]:
    for place, reward in enumerate(rewards):
        yield from _check_reward((*path, place), reward, document, levels)


def _check_reward(
    path: Path, reward: Mapping[str, Any], document: Mapping[str, Any], levels: int | None
) -> Iterator[Said]:
    what = [key for key in _AMOUNTS if key in reward]
    if len(what) != 1:
        yield path, f'found {" and ".join(what) or "none of them"}; expected one of "unit", "badge", "coupon"'
        return
    if ("unit" in reward) != ("amount" in reward):
        yield path, '"unit" and "amount" go together'
    if "budget" in reward and "unit" not in reward:
        yield (*path, "budget"), '"budget" goes together with "unit" and "amount"'
    if "badge" in reward and reward["badge"] not in document.get("badges", {}):
        yield (
            (*path, "badge"),
            f'found "{reward["badge"]}"; expected one of the badges{_hint(reward["badge"], document.get("badges", {}))}',
        )
    if levels is not None and reward.get("level", 1) > levels:
        yield (*path, "level"), f"found {reward['level']}; expected a level up to {levels}"


def _check_span(path: Path, fields: Mapping[str, Any]) -> Iterator[Said]:
    if "from" in fields and "until" in fields and str(fields["until"]) < str(fields["from"]):
        yield (*path, "until"), f"found {fields['until']}; expected it after {fields['from']}"


def _check_tasks(document: Mapping[str, Any], context: Context) -> Iterator[Said]:
    tasks = document.get("tasks", ())
    known = {fields["name"]: fields for fields in tasks}
    for place, fields in enumerate(tasks):
        yield from _check_task(("tasks", place), fields, known, context)
    for place, board in enumerate(document.get("leaderboards", ())):
        yield from _check_kind(("leaderboards", place, "on"), board.get("on", PURCHASE), context)
    for place, quest in enumerate(document.get("quests", ())):
        yield from _check_steps(("quests", place, "steps"), quest["steps"], known)
        if len(set(quest["steps"])) < len(quest["steps"]):
            yield ("quests", place, "steps"), "a step comes twice; expected each once"
    yield from _check_circles(document)
    for place, form in enumerate(document.get("forms", ())):
        yield from _check_form(("forms", place), form)


def _check_task(path: Path, fields: Mapping[str, Any], known: Mapping[str, Any], context: Context) -> Iterator[Said]:
    on, measure = fields.get("on", PURCHASE), fields.get("measure", "count")
    yield from _check_kind((*path, "on"), on, context)
    if measure == "distinct" and "value" not in fields:
        yield path, '"value" is missing; expected a text to tell apart, such as "purchase.store"'
    if measure == "count" and "value" in fields:
        yield (*path, "value"), '"value" needs measure = "sum" or "distinct"'
    if measure == "distinct" and "lines" in fields:
        yield (*path, "lines"), '"lines" does not go together with measure = "distinct"'
    if "lines" in fields and on != PURCHASE:
        yield (*path, "lines"), f'"lines" needs on = "{PURCHASE}": only purchases have lines'
    if fields.get("repeat") == "completion":
        for key, wrong in (("levels", fields.get("levels", 1) > 1), ("after", bool(fields.get("after")))):
            if wrong:
                yield (*path, key), f'"{key}" does not go together with repeat = "completion"'
        if measure == "distinct":
            yield (
                (*path, "repeat"),
                'found "completion"; values are told apart within a period: expected "never" or a period',
            )
    yield from _check_steps((*path, "after"), fields.get("after", ()), known, fields)
    triggered = [reward for reward in fields.get("rewards", ()) if "badge" in reward or "coupon" in reward]
    if on == REWARDED and triggered:
        yield (
            (*path, "rewards"),
            f'the reward triggers the task itself: badges and coupons are told as "{REWARDED}"; expected a unit',
        )


def _check_steps(
    path: Path, steps: Sequence[str], known: Mapping[str, Any], task: Mapping[str, Any] | None = None
) -> Iterator[Said]:
    """What comes first is known, and runs in the same periods."""
    first = task or (known.get(steps[0]) if steps else None)
    repeat = (first or {}).get("repeat", "never")
    for place, step in enumerate(steps):
        if step not in known:
            yield (*path, place), f'found "{step}"; expected one of the tasks{_hint(step, known)}'
        elif known[step].get("repeat", "never") != repeat or repeat == "completion":
            yield (
                (*path, place),
                f'"{step}" begins anew at other times; expected tasks with the same "repeat", which is a period or "never"',
            )


def _check_circles(document: Mapping[str, Any]) -> Iterator[Said]:
    """A chain that leads back to where it began can never begin."""
    quests = {quest["name"] for quest in document.get("quests", ())}
    after = {task.name: [name for name in task.after if name not in quests] for task in read_tasks({
        "tasks": [{**fields, "goal": 1} for fields in document.get("tasks", ())], "quests": document.get("quests", ()),
    })}  # fmt: skip
    left = {name: set(names) & after.keys() for name, names in after.items()}
    while free := [name for name, names in left.items() if not names]:
        for name in free:
            del left[name]
        for names in left.values():
            names.difference_update(free)
    circle = [name for name in left if name not in quests]
    if circle:
        for part, key in (("tasks", "after"), ("quests", "steps")):
            for place, fields in enumerate(document.get(part, ())):
                if set(fields.get(key, ())) & set(circle) and (part == "quests" or fields["name"] in circle):
                    yield (part, place, key), f"the chain is circular: {' -> '.join([*circle, circle[0]])}"
                    return


def _check_form(path: Path, form: Mapping[str, Any]) -> Iterator[Said]:
    questions = form["questions"]
    if form["kind"] == "quiz" and not form.get("solution"):
        yield path, '"solution" is missing; expected the right answer of each question that counts'
    if form["kind"] != "quiz":
        for key in ("solution", "passing"):
            if key in form:
                yield (*path, key), f'"{key}" needs kind = "quiz"'
    if form["kind"] == "vote" and not all(questions.values()):
        yield (*path, "questions"), "a vote needs answers to choose from"
    for question, answer in form.get("solution", {}).items():
        if question not in questions:
            yield (
                (*path, "solution", question),
                f'found "{question}"; expected one of the questions{_hint(question, questions)}',
            )
        elif questions[question] and answer not in questions[question]:
            yield (*path, "solution", question), f'found "{answer}"; expected one of the answers to choose from'
    if form.get("passing", 0) > len(form.get("solution", {})):
        yield (*path, "passing"), f"found {form['passing']}; expected at most {len(form.get('solution', {}))}"


def _check_draws(document: Mapping[str, Any]) -> Iterator[Said]:
    for place, draw in enumerate(document.get("draws", ())):
        path: Path = ("draws", place)
        prizes = draw["prizes"]
        if sum(prize["weight"] for prize in prizes) < 1:
            yield (*path, "prizes"), "the weights sum to 0; expected at least one prize that can be drawn"
        if draw.get("style") == "nine_grid" and len(prizes) != 8:
            yield (*path, "prizes"), f"found {len(prizes)} prizes; expected 8 around the middle of a nine-grid"
        names = {prize["name"]: prize for prize in prizes}
        if len(names) < len(prizes):
            yield (*path, "prizes"), "two prizes have the same name; expected a name of its own for each"
        instead = names.get(draw.get("instead", ""))
        if "instead" in draw and (instead is None or instead.get("stock")):
            yield (*path, "instead"), f'found "{draw["instead"]}"; expected a prize of this draw without stock'
        if "instead" not in draw and any(prize.get("stock") for prize in prizes):
            yield path, '"instead" is missing; expected the prize that is given where the drawn one is out of stock'
        for n, prize in enumerate(prizes):
            if "reward" in prize:
                yield from _check_reward((*path, "prizes", n, "reward"), prize["reward"], document, 1)
        yield from _check_span(path, draw)


def _check_kind(path: Path, kind: str, context: Context) -> Iterator[Said]:
    """What counts events that nobody can send would never count."""
    if kind in CORE or kind in OWN_KINDS:
        return
    plugin = kind.partition(".")[0]
    if plugin == "gamification" or plugin not in context.plugins:
        yield path, f'found "{kind}"; expected a kind of event that this tenant knows{_hint(kind, CORE | OWN_KINDS)}'


def _hint(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), 1)
    return f'; did you mean "{close[0]}"?' if close else ""


# --- rules -----------------------------------------------------------------------------------------------------------


def _check_rules(document: Mapping[str, Any], context: Context) -> Iterator[Said]:
    """Every rule text, parsed and type-checked as it will be compiled."""
    members = scope_of_member(context.zone)
    tasks = read_tasks(document)
    for place, fields in enumerate(document.get("tasks", ())):
        path: Path = ("tasks", place)
        scope = scope_of_event(fields.get("on", PURCHASE), context.units, context.zone)
        for problem in check_rules([text_of(tasks[place])], scope, places=PLACES):
            part = problem.details["part"]
            yield (*path, part) if part in fields else path, problem
        yield from _one((*path, "audience"), fields.get("audience"), members, BOOL)
        if fields.get("measure") == "distinct":
            yield from _one((*path, "value"), fields["value"], scope, STRING)
        yield from _check_goal((*path, "goal"), fields)
    for place, fields in enumerate(document.get("leaderboards", ())):
        path = ("leaderboards", place)
        scope = scope_of_event(fields.get("on", PURCHASE), context.units, context.zone)
        board = Board(**{key: value for key, value in fields.items() if key != "title"})
        for problem in check_rules([text_of_board(board)], scope, places=PLACES):
            part = problem.details["part"]
            yield (*path, part) if part in fields else path, problem
        yield from _one((*path, "scope"), fields.get("scope"), scope, STRING)
        yield from _one((*path, "audience"), fields.get("audience"), members, BOOL)
    for place, fields in enumerate(document.get("draws", ())):
        yield from _one(("draws", place, "when"), fields.get("when"), members, BOOL)
    if when := document.get("referral", {}).get("when"):
        scope = scope_of_event(PURCHASE, context.units, context.zone)
        for problem in check_rules([RuleText("referral", when=when)], scope, places=PLACES):
            yield ("referral", "when"), problem


def _one(path: Path, text: str | None, scope: Any, expected: Any) -> Iterator[Said]:
    if text:
        try:
            rules.check(text, scope, expected)
        except InvalidRule as problem:
            yield path, problem


def _check_goal(path: Path, fields: Mapping[str, Any]) -> Iterator[Said]:
    """Each level takes more than the one before, and the first takes something."""
    said, levels = fields["goal"], fields.get("levels", 1)
    if isinstance(said, int) or said.isdecimal():
        if int(said) < 1:
            yield path, f"found {said}; expected at least 1"
        elif levels > 1:
            yield path, f'found {said} for all {levels} levels; expected a formula such as "{said} * level"'
        return
    try:
        goal = compile_expression(rules.check(said, scope_of_level(), INT))
    except InvalidRule as problem:
        yield path, problem
        return
    before = 0
    for level in range(1, levels + 1):
        now = goal(level=level)
        if now <= before:
            yield path, f"level {level} takes {now}; expected more than {before}"
            return
        before = now
