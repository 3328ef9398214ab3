"""What runs for which event, in which order and with which arguments; what plugins may need; what registration refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tallystick.effects import Bonus, Cap, Count, Effect, Grant, Spend, Verdict
from tallystick.errors import PluginBroken, UnknownKind
from tallystick.events import CORE_KINDS, Event
from tallystick.hookspecs import hookimpl
from tallystick.manifest import Bounds
from tallystick.pipeline import SAMPLE, Part, Pipeline, compile_pipeline
from tallystick.situation import Chance, Needs, Programme, Situation, Unit

NOW = datetime(2025, 1, 3, 9, 30, tzinfo=UTC)
KINDS = {kind.name: kind for kind in CORE_KINDS}
PROGRAMME = Programme(
    tenant="shop", generation=1, hash="", zone=ZoneInfo("UTC"), currency="USD", units={"points": Unit(name="points")}
)
EVENT = Event(
    tenant="shop",
    id="e-1",
    source="till",
    kind="purchase.completed",
    at=NOW,
    received=NOW,
    member=1,
    facts=None,
    others={},
)
ANY = Bounds(units=("*",))


def situation(**own: Any) -> Situation:
    return Situation(
        now=NOW,
        programme=PROGRAMME,
        member=None,
        balances={},
        counters={},
        own=own,
        stock={},
        chance=Chance(b"seed", "1-1-0"),
    )


SITUATION = situation()


def part(
    name: str,
    *,
    interests: Mapping[str, tuple[str, ...]] | None = None,
    grants: Mapping[str, Bounds] | None = None,
    **hooks: Callable[..., Any],
) -> Part:
    """A plugin whose hooks are the given functions."""
    plugin = type(name, (), {hook: hookimpl(function) for hook, function in hooks.items()})()
    granted = {"Grant": ANY, "Bonus": ANY, "Cap": ANY, "Spend": ANY, "Count": Bounds(), "Verdict": Bounds()}
    return Part(
        id=name, version="1.0", plugin=plugin, interests=interests or {}, grants=granted if grants is None else grants
    )


def compiled(*parts: Part) -> Pipeline:
    return compile_pipeline(parts, KINDS, PROGRAMME)


def test_proposals_come_in_the_order_of_the_plugins() -> None:
    pipeline = compiled(
        part("points", earn=lambda self, event: [Grant(rule="points.purchase", unit="points", amount=123)]),
        part("quiet", earn=lambda self, event: None),
        part("extra", earn=lambda self: (Bonus(rule="extra.gift", unit="points", amount=5), Cap(rule="extra.top", unit="points", limit=100))),
    )  # fmt: skip
    proposals, skipped = pipeline.plan("purchase.completed").earn(EVENT, SITUATION)
    assert [effect.rule for effect in proposals] == ["points.purchase", "extra.gift", "extra.top"]
    assert skipped == ()


def test_a_plugin_that_says_tryfirst_is_asked_first() -> None:
    last = part("last", earn=lambda self: [Count(rule="last.x", counter="c", window="day")])
    first = part("first", earn=lambda self: [Count(rule="first.x", counter="c", window="day")])
    type(first.plugin).earn = hookimpl(type(first.plugin).earn, tryfirst=True)
    proposals, _ = compiled(last, first).plan("purchase.completed").earn(EVENT, SITUATION)
    assert [effect.rule for effect in proposals] == ["first.x", "last.x"]


def test_each_implementation_gets_exactly_the_arguments_it_names() -> None:
    seen: dict[str, tuple[Any, ...]] = {}
    pipeline = compiled(
        part("a", review=lambda self, proposals, event: seen.update(a=(proposals, event)) or []),
        part("b", review=lambda self, situation: seen.update(b=(situation,)) or []),
        part("c", review=lambda self: seen.update(c=()) or []),
    )
    spend: list[Effect] = [Spend(rule="a.x", unit="points", amount=1)]
    pipeline.plan("purchase.completed").review(EVENT, SITUATION, spend)
    assert seen == {"a": (tuple(spend), EVENT), "b": (SITUATION,), "c": ()}


@pytest.mark.parametrize(
    "patterns, kinds",
    [
        (("*",), {"purchase.completed", "purchase.refunded", "member.enrolled"}),
        (("purchase.*",), {"purchase.completed", "purchase.refunded"}),
        (("purchase.refunded", "member.*"), {"purchase.refunded", "member.enrolled"}),
        (("purch.*", "purchase", "*.completed"), set()),
        (None, {"purchase.completed", "purchase.refunded", "member.enrolled"}),
    ],
)
def test_a_plugin_sees_the_kinds_it_asks_for(patterns: tuple[str, ...] | None, kinds: set[str]) -> None:
    interests = {} if patterns is None else {"earn": patterns}
    pipeline = compiled(part("p", interests=interests, earn=lambda self: []))
    asked = {"purchase.completed", "purchase.refunded", "member.enrolled"}
    assert {kind for kind in asked if pipeline.plan(kind).earn is not None} == kinds


def test_a_hook_nobody_wants_is_none() -> None:
    plan = compiled(part("p", earn=lambda self: [])).plan("purchase.completed")
    assert (plan.redeem, plan.reverse, plan.review, plan.react, plan.evaluate_tier) == (None,) * 5


def test_no_plugins_is_an_empty_plan() -> None:
    plan = compiled().plan("purchase.completed")
    assert (plan.needs, plan.own, plan.earn) == (Needs(), {}, None)


def test_a_kind_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownKind):
        compiled().plan("purchase.invented")


def test_needs_are_the_union_and_own_rows_stay_apart() -> None:
    pipeline = compiled(
        part("a", earn=lambda self: [], needs=lambda self, kind: Needs(balances=frozenset({"points"}), own={"{member}": frozenset({"seen"})})),
        part("b", earn=lambda self: [], needs=lambda self: Needs(counters=frozenset({("visits", "P30D")}), own={"board": frozenset({"top"})})),
        part("c", earn=lambda self: [], needs=lambda self, kind: None),
    )  # fmt: skip
    plan = pipeline.plan("purchase.completed")
    assert plan.needs == Needs(balances=frozenset({"points"}), counters=frozenset({("visits", "P30D")}))
    assert plan.own == {"a": {"{member}": {"seen"}}, "b": {"board": {"top"}}}


def test_a_plugin_without_interest_in_a_kind_is_not_asked_what_it_needs() -> None:
    def needs(self: object, kind: str) -> Needs:
        return Needs(balances=frozenset({"points"}))

    pipeline = compiled(part("p", interests={"earn": ("member.*",)}, earn=lambda self: [], needs=needs))
    assert pipeline.plan("purchase.completed").needs == Needs()
    assert pipeline.plan("member.enrolled").needs.balances == {"points"}


@pytest.mark.parametrize("way", [True, False], ids=["compiled", "through pluggy"])
def test_own_rows_are_shown_to_their_plugin_alone(way: bool) -> None:
    seen: dict[str, Situation] = {}
    parts = [
        part(
            "a",
            earn=lambda self, situation: seen.update(a=situation),
            needs=lambda self: Needs(own={"k": frozenset({"n"})}),
        ),
        part("b", earn=lambda self, situation: seen.update(b=situation)),
    ]
    shared, private = situation(), situation(k={"n": 1})
    compile_pipeline(parts, KINDS, PROGRAMME, compiled=way).plan("purchase.completed").earn(
        EVENT, shared, {"a": private}
    )
    assert seen["a"] is private
    assert seen["b"] is shared


def test_one_call_in_64_is_timed_and_answers_the_same() -> None:
    pipeline = compiled(part("p", earn=lambda self, event: [Grant(rule="p.x", unit="points", amount=event.member)]))
    earn = pipeline.plan("purchase.completed").earn
    answers = [earn(EVENT, SITUATION) for _ in range(2 * SAMPLE)]
    assert all(answer == answers[0] for answer in answers)
    [health] = pipeline.health()
    assert (health.calls, health.sampled, health.errors) == (2 * SAMPLE, 2, 0)
    assert health.nanoseconds > 0


def test_tally_compile_0_goes_through_pluggy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_COMPILE", "0")
    pipeline = compiled(part("p", earn=lambda self, event: [Grant(rule="p.x", unit="points", amount=7)]))
    calls: list[str] = []
    pipeline.manager.add_hookcall_monitoring(lambda name, *_: calls.append(name), lambda *_: None)
    proposals, _ = pipeline.plan("purchase.completed").earn(EVENT, SITUATION)
    assert (calls, proposals) == (["earn"], [Grant(rule="p.x", unit="points", amount=7)])


def test_tenants_of_the_same_shape_share_the_code_and_not_the_plugins() -> None:
    def make(amount: int) -> Pipeline:
        class Points:
            @hookimpl
            def earn(self) -> list[Effect]:
                return [Grant(rule="points.x", unit="points", amount=amount)]

        return compiled(Part(id="points", version="1", plugin=Points(), grants={"Grant": ANY}))

    one, two = (make(amount).plan("purchase.completed").earn for amount in (1, 2))
    assert one.__code__ is two.__code__
    assert [earn(EVENT, SITUATION)[0][0].amount for earn in (one, two)] == [1, 2]


def test_a_module_can_be_a_plugin() -> None:
    modules = []
    for amount in (1, 2):
        module = ModuleType("plugin")
        module.earn = hookimpl(lambda amount=amount: [Grant(rule="m.x", unit="points", amount=amount)])
        modules.append(compiled(Part(id="m", version="1", plugin=module, grants={"Grant": ANY})))
    assert [p.plan("purchase.completed").earn(EVENT, SITUATION)[0][0].amount for p in modules] == [1, 2]


class Plain:
    """Its author forgot the marks."""

    def earn(self) -> list[Effect]:
        return [Grant(rule="p.x", unit="points", amount=7)]

    def react(self) -> list[Effect]:
        raise AssertionError


def test_a_hook_that_the_manifest_lists_is_asked_though_its_author_forgot_to_mark_it() -> None:
    plain = compiled(Part(id="p", version="1", plugin=Plain(), hooks=("earn",), grants={"Grant": ANY}))
    plan = plain.plan("purchase.completed")
    assert [effect.amount for effect in plan.earn(EVENT, SITUATION)[0]] == [7]
    assert plan.react is None


def test_hooks_after_the_commit_are_asked_with_what_they_name() -> None:
    def committed(self: object, batch: object) -> object:
        return batch

    ((_, hook),) = compiled(part("a", committed=committed)).implementations("committed")
    assert hook(batch="b", store="s") == "b"


def test_hooks_after_the_commit_are_listed_with_their_plugins() -> None:
    def committed(self: object, batch: object) -> None: ...

    pipeline = compiled(part("a", committed=committed), part("b", earn=lambda self: []), part("c", committed=committed))
    assert [plugin for plugin, _ in pipeline.implementations("committed")] == ["a", "c"]


async def _asynchronous(self: object, event: Event) -> list[Effect]:
    return []


def _generator(self: object, event: Event) -> Any:
    yield Grant(rule="p.x", unit="points", amount=1)


def _wrapper() -> Callable[..., Any]:
    def earn(self: object, event: Event) -> Any:
        return (yield)

    return hookimpl(earn, wrapper=True)


@pytest.mark.parametrize(
    "claim, make",
    [
        ("an argument the hook does not have", lambda: part("p", earn=lambda self, purchase: [])),
        ("a hook that does not exist", lambda: part("p", earnings=lambda self: [])),
        ("a pure hook that is async", lambda: part("p", earn=_asynchronous)),
        ("a notify that is not async", lambda: part("p", notify=lambda self, message: True)),
        ("a generator", lambda: part("p", earn=_generator)),
        ("a hook listed and not implemented", lambda: part("p", interests={"react": ("*",)}, earn=lambda self: [])),
        (
            "a wrapper around the others",
            lambda: Part(id="p", version="1", plugin=type("P", (), {"earn": _wrapper()})()),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_contract_is_checked_when_plugins_are_put_together(claim: str, make: Callable[[], Part]) -> None:
    with pytest.raises(PluginBroken) as refused:
        compiled(part("good", earn=lambda self: []), make())
    assert refused.value.details == {"plugin": "p"}
    assert str(refused.value).startswith("p")


@pytest.mark.parametrize(
    "methods, said",
    [
        ({"earn": lambda self, event, purchase: []}, "earn has no argument purchase; it has event, situation"),
        ({"revers": lambda self, event: []}, 'there is no hook revers; did you mean "reverse"?'),
        ({"shelve": lambda self: []}, "there is no hook shelve"),
        ({"earn": _asynchronous}, "earn must be a plain `def`"),
        ({"earn": _generator}, "earn must return its answer, not yield it"),
        ({"earn": _wrapper()}, "earn must return its answer, not yield it"),
    ],
    ids=["an argument", "a hook, nearly", "a hook", "async", "a generator", "a wrapper"],
)
def test_a_misunderstood_hook_is_told_with_its_place(methods: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginBroken) as refused:
        compiled(part("p", **methods))
    assert re.fullmatch(
        rf"p does not keep the contract: test_pipeline\.py, line \d+: {re.escape(said)}", str(refused.value)
    )


@pytest.mark.parametrize("how", ["wrapper", "hookwrapper"])
def test_nobody_is_called_around_the_others(how: str) -> None:
    about = hookimpl(lambda self, event: [], **{how: True})  # not even a generator, as a wrapper is
    with pytest.raises(PluginBroken, match=r"test_pipeline\.py, line \d+: earn is a wrapper; nobody edits what"):
        compiled(Part(id="p", version="1", plugin=type("P", (), {"earn": about})()))


def test_two_plugins_of_one_id_are_refused() -> None:
    with pytest.raises(PluginBroken):
        compiled(part("p", earn=lambda self: []), part("p", earn=lambda self: []))


def test_a_verdict_is_a_proposal_of_its_reviewer() -> None:
    pipeline = compiled(
        part(
            "risk", review=lambda self, event: [Verdict(rule="risk.velocity", verdict="hold", reason="4 in 5 minutes")]
        )
    )
    verdicts, _ = pipeline.plan("purchase.completed").review(EVENT, SITUATION, ())
    assert [verdict.verdict for verdict in verdicts] == ["hold"]
