"""Every hook x every fault: the culprit is passed over alone and named, by the policy of the hook."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import fields, replace

from tallystick.answers import MAY_PROPOSE, Check
from tallystick.breaker import Limits
from tallystick.effects import (
    EFFECTS,
    Bonus,
    Cap,
    Command,
    Count,
    Effect,
    Emit,
    Extend,
    Grant,
    Keep,
    Move,
    Multiply,
    Notify,
    Put,
    Restock,
    Restore,
    Revoke,
    SetTier,
    Spend,
    Take,
    Verdict,
)  # fmt: skip
from tallystick.errors import EffectRefused, Insufficient, LimitReached, PluginFailed, Refused, Unavailable
from tallystick.events import CORE_KINDS, Enrolled, Event
from tallystick.hookspecs import hookimpl
from tallystick.manifest import Bounds
from tallystick.pipeline import Part, Pipeline, compile_pipeline
from tallystick.situation import Chance, Member, Needs, Original, Programme, Situation, Unit
from tallystick.watchdog import Watchdog, fired

NOW = datetime(2025, 1, 3, 9, 30, tzinfo=UTC)
KINDS = {kind.name: kind for kind in CORE_KINDS}
PROGRAMME = Programme(
    tenant="shop", generation=1, hash="", zone=ZoneInfo("UTC"), currency="USD",
    units={"points": Unit(name="points"), "credit": Unit(name="credit", plugin="tiers")},
)  # fmt: skip
EVENT = Event(
    tenant="shop", id="e-1", source="till", kind="purchase.completed", at=NOW, received=NOW, member=1, facts=None,
    others=MappingProxyType({"friend": 2}),
)  # fmt: skip
SITUATION = Situation(
    now=NOW, programme=PROGRAMME, member=None, balances=MappingProxyType({}), counters=MappingProxyType({}),
    own=MappingProxyType({}), stock=MappingProxyType({}), chance=Chance(b"seed", "1-1-0"),
)  # fmt: skip
MEMBER = Member(number=1, status="active", enrolled_at=NOW)
ORIGINAL = Original(
    entry="1-1-0", kind="purchase.completed", at=NOW, facts=None, granted=(), value=100, returned_before=0, returned=100
)
PROPOSED = Grant(rule="good.x", unit="points", amount=1, data={"basis": 100})
ARGUMENTS: dict[str, dict[str, Any]] = {
    "earn": {"event": EVENT, "situation": SITUATION},
    "redeem": {"event": EVENT, "situation": SITUATION},
    "reverse": {"event": EVENT, "original": ORIGINAL, "situation": SITUATION},
    "review": {"event": EVENT, "situation": SITUATION, "proposals": (PROPOSED,)},
    "evaluate_tier": {"event": EVENT, "member": MEMBER, "totals": {"points": 5}, "now": NOW, "situation": SITUATION},
    "react": {"event": EVENT, "situation": SITUATION, "outcome": {"points": 5}},
}
ANY = Bounds(units=("*",), kinds=("member.enrolled",))
ALL = dict.fromkeys(EFFECTS, ANY)


@pytest.fixture(scope="module", autouse=True)
def watchdog() -> Iterator[None]:
    gc.disable()  # a collection at the bottom of an endless recursion cannot call whoever wants to hear of it
    with Watchdog():
        yield
    gc.enable()
    assert not fired


def part(name: str, grants: Mapping[str, Bounds] = ALL, **hooks: Callable[..., Any]) -> Part:
    plugin = type(name, (), {hook: hookimpl(function) for hook, function in hooks.items()})()
    return Part(id=name, version="1.5", plugin=plugin, grants=grants)


def counting(name: str) -> Callable[..., Any]:
    """A well-behaved implementation of any hook."""
    return lambda self: [Count(rule=f"{name}.x", counter="c", window="day")]


# --- the matrix ------------------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[..., Any]:
    def fault(**_: Any) -> Any:
        raise error

    return fault


def answering(answer: Any) -> Callable[..., Any]:
    return lambda **_: answer


def mine(**more: Any) -> Count:
    return Count(**{"rule": "culprit.x", "counter": "c", "window": "day", **more})


class Bag:
    """A sequence in name only."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, place: int) -> Effect:
        return mine()


def change_the_event(**given: Any) -> Any:
    (given.get("event") or given["member"]).member = 2


def change_a_mapping(**given: Any) -> Any:
    if "proposals" in given:
        given["proposals"][0].data["basis"] = 10**6
    (given.get("outcome") or given.get("totals") or given["situation"].balances)["points"] = 10**6


def change_a_list(**given: Any) -> Any:
    given.get("proposals", ()).append(PROPOSED)


def loop(**_: Any) -> Any:
    while True:
        pass


def loop_that_sleeps(**_: Any) -> Any:
    while True:
        time.sleep(0.001)


def loop_that_hides_errors(**_: Any) -> Any:
    while True:
        try:
            sum(range(100))
        except Exception:  # noqa: BLE001
            continue


def loop_once_more_when_ended(**_: Any) -> Any:
    try:
        loop()
    except BaseException:  # noqa: BLE001
        loop()


def recurse(**given: Any) -> Any:
    return recurse(**given)


FAULTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "raises": ("raised", raising(ValueError("the secret of m-1"))),
    "raises an error of the house": ("raised", raising(EffectRefused.__mro__[1]("the secret of m-1"))),
    "ends the process": ("raised", raising(SystemExit(3))),
    "interrupts": ("raised", raising(KeyboardInterrupt())),
    "recurses": ("raised", recurse),
    "loops": ("overran", loop),
    "loops and sleeps": ("overran", loop_that_sleeps),
    "loops and hides errors": ("overran", loop_that_hides_errors),
    "loops again when ended": ("overran", loop_once_more_when_ended),
    "answers a number": ("refused", answering(7)),
    "answers a text": ("refused", answering("Count")),
    "answers bytes": ("refused", answering(b"Count")),
    "answers one effect": ("refused", answering(mine())),
    "answers a mapping": ("refused", answering({"Count": mine()})),
    "answers a set": ("refused", answering({1, 2})),
    "answers a bag": ("refused", answering(Bag())),
    "answers an iterator": ("refused", answering(iter([mine()]))),
    "answers with None inside": ("refused", answering([None])),
    "answers with a class inside": ("refused", answering([Count])),
    "answers with a dict inside": ("refused", answering([mine(), {"rule": "culprit.x"}])),
    "an effect of its own": ("refused", answering([type("Mine", (Count,), {}, frozen=True)(rule="culprit.x", counter="c", window="day")])),
    "negative": ("refused", answering([mine(amount=-1)])),
    "true as a number": ("refused", answering([mine(amount=True)])),
    "a float": ("refused", answering([mine(amount=1.0)])),
    "a text as a number": ("refused", answering([mine(amount="1")])),
    "more than 64 bits bear": ("refused", answering([mine(amount=10**30)])),
    "out of bounds": ("refused", answering([mine(amount=101)])),
    "out of bounds together": ("refused", answering([mine(amount=60), mine(amount=41)])),
    "too many": ("refused", answering([mine(amount=1)] * 4)),
    "far too many": ("refused", answering([mine(amount=0)] * 2_000)),
    "another's rule": ("refused", answering([mine(rule="good.x")])),
    "a rule without a name": ("refused", answering([mine(rule="culprit.")])),
    "a rule that only begins alike": ("refused", answering([mine(rule="culprits.x")])),
    "a rule that is no text": ("refused", answering([mine(rule=7)])),
    "a rule that cannot be a key": ("refused", answering([mine(rule=["culprit.x"])])),
    "no rule": ("refused", answering([mine(rule=None)])),
    "a very long rule": ("refused", answering([mine(rule="culprit." + "x" * 200)])),
    "not granted": ("refused", answering([Put(rule="culprit.x", name="n", value=1)])),
    "a good one and a bad one": ("refused", answering([mine(), mine(amount=-1)])),
    "changes the event": ("raised", change_the_event),
    "changes a mapping": ("raised", change_a_mapping),
    "changes a list": ("raised", change_a_list),
}  # fmt: skip


@pytest.mark.parametrize("way", [True, False], ids=["compiled", "through pluggy"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("hook", ARGUMENTS)
def test_a_fault_passes_over_the_culprit_alone(hook: str, fault: str, way: bool) -> None:
    cause, function = FAULTS[fault]
    arguments = ARGUMENTS[hook]
    names = ", ".join(arguments)
    scope: dict[str, Any] = {"function": function}
    exec(f"def {hook}(self, {names}): return function({', '.join(f'{name}={name}' for name in arguments)})", scope)
    pipeline = compile_pipeline(
        [
            part("before", **{hook: counting("before")}),
            part("culprit", {"Count": Bounds(max_per_event=100, max_count=3)}, **{hook: scope[hook]}),
            part("behind", **{hook: counting("behind")}),
        ],
        KINDS, PROGRAMME, compiled=way,
    )  # fmt: skip
    call = getattr(pipeline.plan("purchase.completed"), hook)
    if hook == "redeem":
        with pytest.raises(PluginFailed) as refused:
            call(*arguments.values())
        assert refused.value.details == {"plugin": "culprit", "hook": "redeem", "cause": cause}
        said = str(refused.value)
    else:
        effects, skipped = call(*arguments.values())
        assert [(one.plugin, one.version, one.hook, one.cause) for one in skipped] == [("culprit", "1.5", hook, cause)]
        verdicts = ["culprit.failed"] if hook == "review" else []
        assert [effect.rule for effect in effects] == ["before.x", *verdicts, "behind.x"]
        said = skipped[0].error
    assert "secret" not in said
    [health] = [one for one in pipeline.health() if one.plugin == "culprit"]
    assert (health.errors, health.overruns > 0) == (1, cause == "overran")
    assert not fired


@pytest.mark.parametrize(
    "hook, effect",
    [
        (hook, "Verdict" if hook == "reverse" else "Keep" if hook != "review" else "Grant")
        for hook in ARGUMENTS
    ],
)  # fmt: skip
def test_a_hook_cannot_propose_what_is_not_its_business(hook: str, effect: str) -> None:
    check = Check("culprit", hook, ALL, programme=PROGRAMME, kinds=KINDS)
    with pytest.raises(EffectRefused, match=f"{effect} cannot be proposed by {hook}"):
        check([EXAMPLES[effect]], EVENT)


# --- what a failure means --------------------------------------------------------------------------------------------


def boom(self: object) -> Any:
    raise RuntimeError("broken")


@pytest.mark.parametrize("way", [True, False], ids=["compiled", "through pluggy"])
@pytest.mark.parametrize("refusal", [Refused("no"), LimitReached("three a day"), Insufficient()])
def test_a_refusal_of_redeem_passes_with_its_own_code(refusal: Refused, way: bool) -> None:
    def redeem(self: object) -> Any:
        raise refusal

    pipeline = compile_pipeline([part("gifts", redeem=redeem)], KINDS, PROGRAMME, compiled=way)
    with pytest.raises(Refused) as raised:
        pipeline.plan("purchase.completed").redeem(EVENT, SITUATION)
    assert raised.value is refusal
    assert pipeline.health()[0].errors == 0


SPEND = Spend(rule="gifts.x", unit="points", amount=1)
MOVE = Move(rule="gifts.x", unit="points", amount=1, to=2)


@pytest.mark.parametrize(
    "redeems, proposals, verdict",
    [
        (False, (PROPOSED,), "allow"),
        (False, (), "allow"),
        (False, (PROPOSED, SPEND), "hold"),
        (False, (MOVE,), "hold"),
        (True, (PROPOSED,), "hold"),
    ],
)
def test_a_reviewer_that_fails_holds_what_takes_and_marks_what_gives(
    redeems: bool, proposals: tuple[Effect, ...], verdict: str
) -> None:
    parts = [part("risk", review=boom)]
    if redeems:
        parts.append(part("gifts", redeem=counting("gifts")))
    pipeline = compile_pipeline(parts, KINDS, PROGRAMME)
    [said], [skipped] = pipeline.plan("purchase.completed").review(EVENT, SITUATION, proposals)
    assert (said.verdict, said.rule, skipped.plugin) == (verdict, "risk.failed", "risk")
    assert "RuntimeError" in said.reason
    assert "broken" not in said.reason


@pytest.mark.parametrize(
    "needs",
    [
        lambda self: 1 / 0,
        lambda self: "points",
        lambda self: {"balances": ["points"]},
        lambda self: Needs(balances=frozenset({"miles"})),
        lambda self: Needs(counters=frozenset({("visits", "fortnight")})),
        lambda self: Needs(own={"k": [1]}),
        lambda self: Needs(profile=1),
        lambda self: loop(),
    ],
    ids=["raises", "text", "mapping", "unknown unit", "unknown window", "no names", "no flag", "loops"],
)
def test_a_plugin_whose_needs_are_not_known_sits_out_by_the_policy_of_each_hook(needs: Callable[..., Any]) -> None:
    hooks = {hook: counting("p") for hook in ARGUMENTS}
    pipeline = compile_pipeline(
        [part("p", needs=needs, **hooks), part("other", earn=counting("other"))], KINDS, PROGRAMME
    )
    plan = pipeline.plan("purchase.completed")
    effects, [skipped] = plan.earn(EVENT, SITUATION)
    assert ([effect.rule for effect in effects], skipped.cause) == (["other.x"], "sat_out")
    with pytest.raises(Unavailable) as refused:
        plan.redeem(EVENT, SITUATION)
    assert refused.value.details == {"plugin": "p"}
    [verdict], _ = plan.review(EVENT, SITUATION, (SPEND,))
    assert verdict.verdict == "hold"
    assert [plan.react(EVENT, SITUATION, {})[1][0].cause, plan.reverse(EVENT, ORIGINAL, SITUATION)[1][0].cause] == [
        "sat_out"
    ] * 2


def test_needs_are_asked_again_after_a_reset() -> None:
    broken = [True]

    def needs(self: object) -> Needs:
        return Needs(balances=frozenset({"points"} if not broken else {"miles"}))

    pipeline = compile_pipeline([part("p", needs=needs, earn=counting("p"))], KINDS, PROGRAMME)
    assert pipeline.plan("purchase.completed").needs == Needs()
    broken.clear()
    pipeline.reset("p")
    assert pipeline.plan("purchase.completed").needs.balances == {"points"}
    assert pipeline.plan("purchase.completed").earn(EVENT, SITUATION)[1] == ()


# --- the fields of effects -------------------------------------------------------------------------------------------

SOON = NOW + timedelta(days=1)
DATA = {"basis": 1999, "rate": Decimal("1.5"), "lines": [1, 2], "more": {"day": "friday", "on": True, "none": None}}
TIMES: dict[str, Any] = {"usable_from": NOW, "usable_state": "delivered", "expires_at": SOON, "sliding": True}
#: One right example of each effect with no field left at its default.
EXAMPLES: dict[str, Effect] = {
    type(effect).__name__: effect
    for effect in (
        Grant(rule="culprit.x", unit="points", amount=9, lines=((0, 5), (2, 7)), group="g", order=1, priority=-1, exclusive=True, stop=True,
              reversible=False, to=2, issuer="brand", data=DATA, **TIMES),
        Multiply(rule="culprit.x", unit="points", factor=Decimal("1.5"), lines=frozenset({1}), rules=frozenset({"a.b"}), compound=True, data=DATA),
        Bonus(rule="culprit.x", unit="points", amount=9, lines=((0, 5),), reversible=False, to=2, issuer="brand", data=DATA, **TIMES),
        Cap(rule="culprit.x", unit="points", limit=100, per="month", rules=frozenset({"a.b"}), key="k", whole=True),
        Spend(rule="culprit.x", unit="points", amount=9, wanted=10, order="R-1", account="sold", gives=DATA, data=DATA),
        Move(rule="culprit.x", unit="points", amount=9, to=2, data=DATA),
        Extend(rule="culprit.x", unit="points", expires_at=SOON),
        Revoke(rule="culprit.x", entry="1-1-0", of_rule="culprit.y", amount=3),
        Restore(rule="culprit.x", entry="1-1-0", of_rule="culprit.y", amount=3),
        Keep(rule="culprit.x", of_rule="culprit.y", unit="points", amount=3),
        Count(rule="culprit.x", counter="visits", window="P30D", amount=2, reversible=False, by_share=True, lines=((0, 700),)),
        Take(rule="culprit.x", key="mug", amount=2, reversible=False),
        Restock(rule="culprit.x", key="mug", amount=2, absolute=True),
        Put(rule="culprit.x", name="seen", value=[1, {"a": "b"}], key="board"),
        SetTier(rule="culprit.x", ladder="main", tier="gold", reason="spent enough", until=SOON),
        Notify(rule="culprit.x", template="welcome", facts=DATA, purpose="marketing", key="k", to=2, not_before=NOW, expires=SOON),
        Command(rule="culprit.x", device="kiosk-1", command="play", facts=DATA),
        Emit(rule="culprit.x", kind="member.enrolled", facts=Enrolled(channel="app"), member=2),
        Verdict(rule="culprit.x", verdict="hold", reason="velocity", gentle="please wait", data=DATA),
    )
}  # fmt: skip


def check(effect: Effect, *, event: Event | None = EVENT, bounds: Bounds = ANY) -> list[Effect]:
    """What the pipeline takes of an answer of this one effect, in whichever hook may propose it."""
    name = next(cls.__name__ for cls in EFFECTS.values() if isinstance(effect, cls))
    hook = next(hook for hook, allowed in MAY_PROPOSE.items() if name in allowed)
    return list(Check("culprit", hook, {name: bounds}, programme=PROGRAMME, kinds=KINDS)([effect], event))


@pytest.mark.parametrize("name", EFFECTS)
def test_an_effect_with_every_field_set_is_taken(name: str) -> None:
    effect = EXAMPLES[name]
    assert all(field.required or getattr(effect, field.name) != field.default for field in fields(type(effect)))
    assert check(effect) == [effect]


class Odd:
    """Of no type that any field has."""


ODD = (Odd(), 1.5, b"x", "\x00" * 30_000, -(10**30), datetime(2025, 1, 1), [Odd()], {"a": Odd()}, {1: 1})  # noqa: DTZ001


@pytest.mark.parametrize(
    "name, field", [(name, field.name) for name, effect in EFFECTS.items() for field in fields(effect)]
)
def test_a_field_of_a_wrong_type_is_refused(name: str, field: str) -> None:
    for value in ODD:
        if field == "value" and isinstance(value, float | datetime | int):
            continue  # an own row may hold them
        with pytest.raises(EffectRefused):
            check(replace(EXAMPLES[name], **{field: value}))


@pytest.mark.parametrize(
    "name, fields",
    [
        ("Multiply", {"factor": Decimal("NaN")}),
        ("Multiply", {"factor": Decimal("Infinity")}),
        ("Multiply", {"factor": Decimal("-0.5")}),
        ("Multiply", {"factor": Decimal("1E+999999")}),
        ("Multiply", {"factor": Decimal("1E-999999")}),
        ("Multiply", {"factor": Fraction(-1, 2)}),
        ("Multiply", {"factor": True}),
        ("Multiply", {"factor": 10**9}),
        ("Multiply", {"lines": frozenset({-1})}),
        ("Multiply", {"rules": {"a.b"}}),
        ("Grant", {"unit": "miles"}),
        ("Grant", {"unit": None}),
        ("Grant", {"unit": ["points"]}),
        ("Grant", {"to": 3}),
        ("Grant", {"lines": ((0,),)}),
        ("Grant", {"lines": ((0, -1),)}),
        ("Grant", {"lines": ((5_000, 1),)}),
        ("Grant", {"lines": [(0, 1)]}),
        ("Grant", {"expires_at": "2025-01-01"}),
        ("Grant", {"order": None}),
        ("Grant", {"data": {"x": "\ud800"}}),
        ("Grant", {"data": {"x": 10**5_000}}),
        ("Grant", {"data": {"x": {1, 2}}}),
        ("Grant", {"data": {"x": [0] * 3_000}}),
        ("Move", {"to": 3}),
        ("Move", {"amount": 0}),
        ("Take", {"amount": 0}),
        ("Verdict", {"verdict": "maybe"}),
        ("Notify", {"purpose": "spam"}),
        ("Notify", {"facts": None}),
        ("Emit", {"kind": "purchase.completed"}),
        ("Emit", {"facts": EVENT}),
        ("Emit", {"facts": Enrolled(channel="x" * 1_000)}),
        ("Emit", {"facts": {"colour": "blue"}}),
        ("Emit", {"member": 3}),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(name: str, fields: Mapping[str, Any]) -> None:
    with pytest.raises(EffectRefused):
        check(replace(EXAMPLES[name], **fields))


def test_a_document_without_end_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(EffectRefused):
        check(replace(EXAMPLES["Grant"], data=endless))


@pytest.mark.parametrize(
    "name, bounds, taken",
    [
        ("Grant", Bounds(units=("points",)), True),
        ("Grant", Bounds(units=("credit",)), False),
        ("Grant", Bounds(), True),  # a unit of the programme itself
        ("Grant", Bounds(units=("*",), max_amount=9), True),
        ("Grant", Bounds(units=("*",), max_amount=8), False),
        ("Grant", Bounds(units=("*",), max_per_event=8), False),
        ("Multiply", Bounds(units=("*",), max_factor=Fraction(3, 2)), True),
        ("Multiply", Bounds(units=("*",), max_factor=Fraction(149, 100)), False),
        ("Emit", Bounds(), False),
        ("Emit", Bounds(kinds=("member.enrolled",)), True),
    ],
)
def test_the_bounds_of_the_manifest_hold(name: str, bounds: Bounds, taken: bool) -> None:
    if taken:
        assert check(EXAMPLES[name], bounds=bounds)
    else:
        with pytest.raises(EffectRefused):
            check(EXAMPLES[name], bounds=bounds)


def test_a_unit_of_another_plugin_needs_to_be_granted() -> None:
    with pytest.raises(EffectRefused):
        check(replace(EXAMPLES["Grant"], unit="credit"), bounds=Bounds())


def test_without_an_event_there_is_no_other_member() -> None:
    with pytest.raises(EffectRefused):
        check(EXAMPLES["Notify"], event=None)


def test_what_was_proposed_cannot_be_changed_by_anybody() -> None:
    kept: dict[str, Any] = {"basis": 1, "deep": {"list": [1]}}
    [grant] = check(replace(EXAMPLES["Grant"], data=kept))
    kept["basis"] = 10**6
    kept["deep"]["list"].append(2)
    assert grant.data == {"basis": 1, "deep": {"list": (1,)}}
    with pytest.raises(TypeError):
        grant.data["basis"] = 2
    with pytest.raises(TypeError):
        grant.data["deep"].update(x=1)


def test_facts_of_a_derived_event_are_read_as_at_the_door() -> None:
    [emitted] = check(replace(EXAMPLES["Emit"], facts={"channel": "app"}))
    assert emitted.facts == Enrolled(channel="app")


# --- the breaker -----------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Fragile:
    """A plugin that can be broken and mended."""

    broken = False

    @hookimpl
    def earn(self) -> list[Effect]:
        if self.broken:
            raise RuntimeError
        return [mine()]


def fragile(clock: Clock, **limits: Any) -> tuple[Fragile, Pipeline, Callable[[], str]]:
    """The plugin, its pipeline, and a call that says what came of it."""
    plugin = Fragile()
    pipeline = compile_pipeline(
        [Part(id="culprit", version="1", plugin=plugin, grants=ALL)],
        KINDS, PROGRAMME, limits=Limits(**{"errors": 3, "window": 60, "share": 0.5, "wait": 5, "probes": 2, **limits}), clock=clock,
    )  # fmt: skip
    earn = pipeline.plan("purchase.completed").earn

    def call() -> str:
        effects, skipped = earn(EVENT, SITUATION)
        assert len(effects) + len(skipped) == 1
        return skipped[0].cause if skipped else "answered"

    return plugin, pipeline, call


def state(pipeline: Pipeline) -> str:
    [health] = pipeline.health()
    assert health.ok is (health.state == "closed")
    return health.state


def test_the_breaker_opens_tries_again_and_closes() -> None:
    clock = Clock()
    plugin, pipeline, call = fragile(clock)
    plugin.broken = True
    assert [call() for _ in range(5)] == ["raised"] * 3 + ["open"] * 2
    assert state(pipeline) == "open"
    clock.now += 5
    assert (call(), state(pipeline)) == ("raised", "open")  # a probe that failed doubles the wait
    plugin.broken = False
    clock.now += 9
    assert call() == "open"
    clock.now += 1
    assert (call(), state(pipeline)) == ("answered", "half_open")
    assert (call(), state(pipeline)) == ("answered", "closed")


def test_errors_far_apart_do_not_open_it() -> None:
    clock = Clock()
    plugin, pipeline, call = fragile(clock)
    plugin.broken = True
    for _ in range(10):
        assert call() == "raised"
        clock.now += 31
    assert state(pipeline) == "closed"


def test_a_small_share_of_errors_does_not_open_it() -> None:
    plugin, pipeline, call = fragile(Clock())
    for _ in range(20):
        plugin.broken = True
        assert call() == "raised"
        plugin.broken = False
        assert [call(), call(), call()] == ["answered"] * 3
    assert state(pipeline) == "closed"


def test_a_person_can_put_it_back_at_once() -> None:
    plugin, pipeline, call = fragile(Clock())
    plugin.broken = True
    for _ in range(4):
        call()
    plugin.broken = False
    assert call() == "open"
    pipeline.reset("culprit")
    assert (call(), state(pipeline)) == ("answered", "closed")


def test_an_open_breaker_refuses_what_spends_and_holds_what_it_should_review() -> None:
    pipeline = compile_pipeline(
        [part("p", redeem=boom, review=boom)], KINDS, PROGRAMME, limits=Limits(errors=1), clock=Clock()
    )
    plan = pipeline.plan("purchase.completed")
    for cause in ("raised", "open"):
        with pytest.raises(PluginFailed) as refused:
            plan.redeem(EVENT, SITUATION)
        [verdict], [skipped] = plan.review(EVENT, SITUATION, (SPEND,))
        assert (refused.value.details["cause"], verdict.verdict, skipped.cause) == (cause, "hold", cause)


def test_health_names_the_culprit_and_the_place() -> None:
    plugin, pipeline, call = fragile(Clock())
    call()
    plugin.broken = True
    call()
    [health] = pipeline.health()
    assert (health.plugin, health.hook, health.calls, health.errors, health.skipped) == ("culprit", "earn", 2, 1, 1)
    assert health.last_error.startswith("RuntimeError in ")
    assert "/" not in health.last_error


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns every 50 us instead of every 5 ms: races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.00005)
    yield
    sys.setswitchinterval(before)


def test_no_shot_of_the_watchdog_strays_into_the_core(eager_threads: None) -> None:
    """Hooks that end about when they are shot: whatever happens, it happens to them."""

    def earn(self: object, event: Event) -> Any:
        until = time.perf_counter() + 0.002
        while time.perf_counter() < until:
            pass
        return [mine()]

    pipeline = compile_pipeline(
        [part("culprit", earn=earn, react=earn), part("other", earn=counting("other"))],
        KINDS, PROGRAMME, limits=Limits(errors=10**9),
    )  # fmt: skip
    plan = pipeline.plan("purchase.completed")
    with Watchdog(budget=0.001, patience=0.002, period=0.0005):
        for _ in range(300):
            effects, skipped = plan.earn(EVENT, SITUATION)
            assert len(effects) + len(skipped) == 2
            assert effects[-1].rule == "other.x"
            assert not fired
    [overran] = [
        health.overruns for health in pipeline.health() if health.plugin == "culprit" and health.hook == "earn"
    ]
    assert overran > 0


def test_a_process_in_which_a_loop_was_ended_can_be_profiled() -> None:
    code = """
import sys, threading
from tallystick import watchdog
watchdog.fired.add(threading.get_ident())
watchdog.absorb()
sys.setprofile(lambda *_: None)
(lambda: None)()
sys.setprofile(None)
print(watchdog.fired)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
