"""What the plugin machinery costs per event, and what putting plugins together costs.  CPU time, best of several rounds.

The yardsticks are the same implementations called one after the other with their results in one list (no machinery at
all), and pluggy's own dispatch (no guard, no check of the answers).  All rounds are interleaved.

    python bench/pipeline.py
"""

from __future__ import annotations

import gc
import inspect
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from tallystick import pipeline as pipelines
from tallystick.effects import Count, Effect, Grant, Notify, Verdict
from tallystick.events import CORE_KINDS, Event, Line, Purchase
from tallystick.hookspecs import hookimpl
from tallystick.manifest import Bounds
from tallystick.pipeline import Part, Pipeline, compile_pipeline
from tallystick.situation import Chance, Needs, Programme, Situation, Unit
from tallystick.watchdog import Watchdog

KINDS = {kind.name: kind for kind in CORE_KINDS}
NOW = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
PROGRAMME = Programme(
    tenant="shop", generation=1, hash="", zone=ZoneInfo("UTC"), currency="USD", units={"points": Unit(name="points")}
)
NONE: Any = MappingProxyType({})
PURCHASE = Purchase(
    order="R-1001",
    currency="USD",
    lines=(Line(sku="COFFEE", amount=899), Line(sku="MILK", amount=258), Line(sku="FILTER", amount=349, discount=50)),
)
EVENT = Event(
    tenant="shop", id="e-1", source="till", kind="purchase.completed", at=NOW, received=NOW, member=1, facts=PURCHASE, others=NONE
)  # fmt: skip
SITUATION = Situation(
    now=NOW, programme=PROGRAMME, member=None, balances=NONE, counters=NONE, own=NONE, stock=NONE,
    chance=Chance(b"seed", "1-1-0"),
)  # fmt: skip
GRANTS: Mapping[str, Bounds] = {
    "Grant": Bounds(units=("*",), max_per_event=100_000), "Count": Bounds(), "Notify": Bounds(), "Verdict": Bounds(),
}  # fmt: skip
ROUNDS = 60


def speaking(rule: str) -> Callable[..., Sequence[Effect]]:
    """Grants a few points."""
    return lambda self, event: [Grant(rule=rule, unit="points", amount=14)]  # noqa: ARG005


def ready(rule: str) -> Callable[..., Sequence[Effect]]:
    """Always answers the same, so that only the machinery is measured."""
    answer = [Grant(rule=rule, unit="points", amount=14)]
    return lambda self, event: answer  # noqa: ARG005


def explaining(rule: str) -> Callable[..., Sequence[Effect]]:
    """Grants by line, with the numbers that made the amount."""

    def earn(self: object, event: Event) -> Sequence[Effect]:  # noqa: ARG001
        data = {"basis": 1456, "points": 1, "per": 100}
        lines = ((0, 899), (1, 258), (2, 299))
        return [Grant(rule=rule, unit="points", amount=14, lines=lines, expires_at=NOW, data=data)]

    return earn


def quiet(rule: str) -> Callable[..., Sequence[Effect]]:  # noqa: ARG001
    """Has nothing to say."""
    return lambda self, event, situation: ()  # noqa: ARG005


def part(name: str, **hooks: Callable[..., Any]) -> Part:
    """A plugin of a class of its own."""
    plugin = type(name, (), {hook: hookimpl(function) for hook, function in hooks.items()})()
    return Part(id=name, version="1", plugin=plugin, grants=GRANTS)


def earning(number: int, kind: Callable[[str], Callable[..., Any]]) -> list[Part]:
    """*number* plugins that earn."""
    return [part(f"p{i}", earn=kind(f"p{i}.earn")) for i in range(number)]


def shop() -> list[Part]:
    """Ten plugins as a merchant may run them: five earn, two of them by line; one reviews; some react."""
    reviewed: Sequence[Effect] = [Verdict(rule="risk.all", verdict="allow", reason="nothing seen")]
    return [
        part("points", earn=explaining("points.earn")),
        part("coalition", earn=explaining("coalition.earn")),
        *[part(f"promotion{i}", earn=speaking(f"promotion{i}.earn")) for i in range(3)],
        part("birthday", earn=quiet("")),
        part("gifts", redeem=lambda self, event: (), react=lambda self, event, outcome: ()),  # noqa: ARG005
        part("risk", review=lambda self, event, situation, proposals: reviewed),  # noqa: ARG005
        part("games", react=lambda self, event: [Count(rule="games.visit", counter="visits", window="lifetime")]),  # noqa: ARG005
        part(
            "notify",
            react=lambda self, event, outcome: [Notify(rule="notify.earned", template="earned", facts={"points": 70})],  # noqa: ARG005
        ),
    ]


def whole(pipeline: Pipeline) -> Callable[[], Any]:
    """All hooks of one event, as the engine calls them."""

    def run() -> Any:
        plan = pipeline.plan("purchase.completed")
        outcome = {"points": 70}
        proposals, _ = plan.earn(EVENT, SITUATION) if plan.earn else ([], ())
        if plan.redeem:
            plan.redeem(EVENT, SITUATION)
        if plan.review:
            plan.review(EVENT, SITUATION, proposals)
        return plan.react(EVENT, SITUATION, outcome) if plan.react else None

    return run


def bare(pipeline: Pipeline) -> Callable[[], Any]:
    """The same implementations, called by hand."""
    bound = {
        hook: [inspect.unwrap(function) for _, function in pipeline.implementations(hook)]
        for hook in ("earn", "redeem", "review", "react")
    }
    functions = {
        hook: [(f, f.__code__.co_varnames[1 : f.__code__.co_argcount]) for f in found] for hook, found in bound.items()
    }
    names = {"event": "e", "situation": "s", "proposals": "p", "outcome": "o"}
    lines = ["def run():", "    o = {'points': 70}"]
    scope: dict[str, Any] = {"e": EVENT, "s": SITUATION}
    for hook, found in functions.items():
        lines += [f"    {'p' if hook == 'earn' else 'r'} = []"]
        for i, (function, given) in enumerate(found):
            scope[f"{hook}{i}"] = function
            lines += [f"    {'p' if hook == 'earn' else 'r'} += {hook}{i}({', '.join(names[name] for name in given)})"]
    exec("\n".join(lines), scope)
    run: Callable[[], Any] = scope["run"]
    return run


def costs(works: Mapping[str, Callable[[], Any]], times: int = 1_000) -> dict[str, float]:
    """CPU microseconds of one call of each, the best round; rounds take turns, so that a slow minute is slow for all."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.process_time_ns()
            for _ in range(times):
                work()
            best[name] = min(best[name], (time.process_time_ns() - start) / times / 1_000)
    return best


def calls() -> None:
    """What an event pays."""
    cases = {
        "5 implementations, ready answers": earning(5, ready),
        "5 implementations, one grant each": earning(5, speaking),
        "5 grants by line with data": earning(5, explaining),
        "10 implementations with nothing to say": earning(10, quiet),
        "10 plugins, all hooks of a purchase": shop(),
    }
    print(f"{'per event, CPU us':40} {'by hand':>8} {'compiled':>9} {'pluggy':>8} {'machinery':>10}")
    for name, parts in cases.items():
        pipeline = compile_pipeline(parts, KINDS, PROGRAMME)
        works = {"by hand": bare(pipeline), "compiled": whole(pipeline)}
        hook = pipeline.manager.hook
        if all(hasattr(one.plugin, "earn") for one in parts):
            earn = pipeline.plan("purchase.completed").earn
            assert earn is not None
            works["compiled"] = partial(earn, EVENT, SITUATION)
            works["pluggy"] = partial(hook.earn, event=EVENT, situation=SITUATION)
        found = costs(works)
        pluggy = f"{found['pluggy']:8.2f}" if "pluggy" in found else f"{'':8}"
        print(
            f"{name:40} {found['by hand']:8.2f} {found['compiled']:9.2f} {pluggy} {found['compiled'] - found['by hand']:10.2f}"
        )


def compiling() -> None:
    """What a change of settings pays."""
    hooks: dict[str, Callable[..., Any]] = {
        "needs": lambda self, kind: Needs(balances=frozenset({"points"})),  # noqa: ARG005
        "earn": lambda self, event, situation: (),  # noqa: ARG005
        "review": lambda self, event: (),  # noqa: ARG005
        "react": lambda self, event, outcome: (),  # noqa: ARG005
        "reverse": lambda self, original: (),  # noqa: ARG005
    }
    classes = [
        [type(f"s{s}p{p}", (), {k: hookimpl(v) for k, v in hooks.items()}) for p in range(7 + s % 3)] for s in range(10)
    ]

    def parts(number: int) -> list[Part]:
        return [Part(id=cls.__name__, version="1", plugin=cls(), grants=GRANTS) for cls in classes[number % 10]]

    first = []
    for number in range(10):
        pipelines._generate.cache_clear()  # noqa: SLF001  as in a fresh process
        made = parts(number)
        start = time.process_time_ns()
        compile_pipeline(made, KINDS, PROGRAMME).plan("purchase.completed")
        first.append((time.process_time_ns() - start) / 1e6)
    tenants = [parts(number) for number in range(1_000)]
    again, plans = [], []
    for _ in range(5):
        gc.collect()
        start = time.process_time_ns()
        made_again = [compile_pipeline(made, KINDS, PROGRAMME) for made in tenants]
        again.append((time.process_time_ns() - start) / 1e6)
        start = time.process_time_ns()
        for pipeline in made_again:
            pipeline.plan("purchase.completed")
        plans.append((time.process_time_ns() - start) / 1e6)
    print(f"a distinct set of 7 to 9 plugins with 5 hooks each: {min(first):.1f} to {max(first):.1f} ms")
    print(f"1,000 tenants of 10 sets: {min(again):.0f} ms; their first purchases together: {min(plans):.0f} ms more")


def watching() -> None:
    """What the watchdog costs while nothing is wrong."""
    with Watchdog():
        start, begun = time.process_time(), time.monotonic()
        time.sleep(2)
        used = (time.process_time() - start) / (time.monotonic() - begun)
    print(f"watchdog: {used:.3%} of one core, nothing per event")


def main() -> None:
    """Print everything."""
    names = ("pluggy", "msgspec")
    print(f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in names)}")
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000)
    nothing = costs({"a call of an empty function": lambda: None}, 10_000)
    print(f"a call of an empty function: {nothing['a call of an empty function'] * 1_000:.0f} ns\n")
    calls()
    print()
    compiling()
    watching()


if __name__ == "__main__":
    main()
