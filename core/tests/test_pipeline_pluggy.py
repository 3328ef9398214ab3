"""The compiled pipeline and pluggy's own dispatch are the same thing: results, order, arguments and exceptions."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tallystick.breaker import Limits, Skipped
from tallystick.effects import Count, Effect
from tallystick.errors import LimitReached, PluginFailed, Refused
from tallystick.events import CORE_KINDS, Event
from tallystick.hookspecs import hookimpl
from tallystick.manifest import Bounds
from tallystick.pipeline import Part, compile_pipeline
from tallystick.situation import Chance, Member, Original, Programme, Situation

NOW = datetime(2025, 1, 3, 9, 30, tzinfo=UTC)
KINDS = {kind.name: kind for kind in CORE_KINDS}
PROGRAMME = Programme(tenant="shop", generation=1, hash="", zone=ZoneInfo("UTC"), currency="USD", units={})
NONE: Any = MappingProxyType({})
VALUES: dict[str, Any] = {
    "event": Event(
        tenant="shop", id="e-1", source="till", kind="purchase.completed", at=NOW, received=NOW, member=1, facts=None, others=NONE
    ),
    "situation": Situation(
        now=NOW, programme=PROGRAMME, member=None, balances=NONE, counters=NONE, own=NONE, stock=NONE, chance=Chance(b"seed", "1-1-0")
    ),
    "original": Original(
        entry="1-1-0", kind="purchase.completed", at=NOW, facts=None, granted=(), value=1, returned_before=0, returned=1
    ),
    "proposals": (Count(rule="some.x", counter="c", window="day"),),
    "outcome": MappingProxyType({"points": 1}),
    "totals": MappingProxyType({"points": 2}),
    "member": Member(number=1, status="active", enrolled_at=NOW),
    "now": NOW,
}  # fmt: skip
HOOKS = {
    "earn": ("event", "situation"),
    "redeem": ("event", "situation"),
    "reverse": ("event", "original", "situation"),
    "review": ("event", "situation", "proposals"),
    "evaluate_tier": ("event", "member", "totals", "now", "situation"),
    "react": ("event", "situation", "outcome"),
}
#: hook -> (plugin, the arguments it got by name)
Log = list[tuple[str, tuple[tuple[str, int], ...]]]
ERRORS = (
    ValueError("x"),
    KeyError("x"),
    LimitReached("x"),
    Refused("x"),
    SystemExit(1),
    StopIteration(),
    RecursionError(),
)


def random_implementation(chance: random.Random, plugin: str, hook: str, log: Log) -> Callable[..., Any]:
    """A function that names some of the hook's arguments, in any order, and always does the same."""
    names = chance.sample(HOOKS[hook], chance.randint(0, len(HOOKS[hook])))
    answer: Any = chance.choice(
        [
            None, [], (),
            [Count(rule=f"{plugin}.a", counter="c", window="day", amount=chance.randint(0, 9))],
            (Count(rule=f"{plugin}.a", counter="c", window="day"), Count(rule=f"{plugin}.b", counter="d", window="day")),
        ]
    )  # fmt: skip
    error = chance.choice(ERRORS) if chance.random() < 0.15 else None

    def act(**given: Any) -> Any:
        log.append((plugin, tuple((name, id(value)) for name, value in given.items())))
        if error is not None:
            raise error
        return answer

    scope: dict[str, Any] = {"act": act}
    exec(
        f"def {hook}({', '.join(['self', *names])}): return act({', '.join(f'{name}={name}' for name in names)})", scope
    )
    return hookimpl(scope[hook], tryfirst=chance.random() < 0.2, trylast=chance.random() < 0.2)


def random_parts(chance: random.Random, log: Log) -> list[Part]:
    parts = []
    present = chance.sample(list(HOOKS), 2)
    for number in range(chance.randint(0, 6)):
        hooks = {
            hook: random_implementation(chance, f"p{number}", hook, log) for hook in present if chance.random() < 0.8
        }
        plugin = type(f"P{number}", (), hooks)()
        parts.append(Part(id=f"p{number}", version="1", plugin=plugin, grants={"Count": Bounds()}))
    return parts


def through_pluggy(manager: Any, hook: str, log: Log) -> tuple[list[Effect], list[str], list[Log], list[BaseException]]:
    """Pluggy's own dispatch, repeated without whoever raised: effects, who raised, all logs, all exceptions."""
    broken: list[str] = []
    logs: list[Log] = []
    errors: list[BaseException] = []
    while True:
        log.clear()
        caller = manager.subset_hook_caller(hook, [manager.get_plugin(plugin) for plugin in broken])
        try:
            answers = caller(**{name: VALUES[name] for name in HOOKS[hook]})
        except BaseException as error:  # noqa: BLE001
            broken.append(log[-1][0])
            logs.append(list(log))
            errors.append(error)
        else:
            logs.append(list(log))
            return [effect for answer in answers for effect in answer], broken, logs, errors


def ask(call: Callable[..., Any], names: tuple[str, ...]) -> tuple[list[Effect], tuple[Skipped, ...], Refused | None]:
    try:
        return *call(*[VALUES[name] for name in names]), None
    except Refused as refusal:
        return [], (), refusal


@pytest.mark.parametrize("way", [True, False], ids=["compiled", "through pluggy"])
@pytest.mark.parametrize("block", range(6))
def test_a_thousand_random_registries_answer_as_pluggy_does(block: int, way: bool) -> None:
    chance = random.Random(block)
    raised = refused = answered = 0
    for _ in range(1_000):
        log: Log = []
        pipeline = compile_pipeline(
            random_parts(chance, log), KINDS, PROGRAMME, limits=Limits(errors=1_000), compiled=way
        )
        plan = pipeline.plan("purchase.completed")
        for hook, names in HOOKS.items():
            effects, broken, logs, errors = through_pluggy(pipeline.manager, hook, log)
            log.clear()
            call = getattr(plan, hook)
            if call is None:  # nobody implements it
                assert (effects, broken, logs) == ([], [], [[]])
                continue
            mine, skipped, refusal = ask(call, names)
            if refusal is not None:
                refused += 1
                assert (hook, log) == ("redeem", logs[0])
                same = refusal is errors[0]
                named = isinstance(refusal, PluginFailed) and refusal.details["plugin"] == broken[0]
                assert same if isinstance(errors[0], Refused) else named
                continue
            assert hook != "redeem" or not broken
            assert [effect for effect in mine if not effect.rule.endswith(".failed")] == effects
            assert [one.plugin for one in skipped] == broken
            for one, error in zip(skipped, errors, strict=True):
                said = error.code if isinstance(error, Refused) else type(error).__name__
                assert one.error.startswith(said)
            assert [entry for entry in log if entry[0] not in broken] == logs[-1]
            assert log[: len(logs[0])] == logs[0]
            raised += len(broken)
            answered += len(effects)
    assert min(raised, refused, answered) > 50  # the registries are not trivial
