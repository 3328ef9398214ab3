"""The enabled plugins of one tenant, compiled: what runs for which event.

pluggy registers the plugins, checks their signatures and orders them.  The hot path then calls a generated function per
kind of event and hook, which passes each implementation just the arguments it names (5 implementations: 0.2 us instead
of 2.0).  ``TALLY_COMPILE=0`` calls the same implementations through pluggy's own dispatch, with the same results.
"""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, wraps
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final, Protocol

import attrs
import pluggy

from .answers import Check
from .breaker import Guard, Health, Limits, SatOut, Skipped, Tick, ask, timed
from .effects import Effect
from .errors import PluginBroken, Refused, UnknownKind
from .events import Event, EventKind
from .hookspecs import PURE, Hooks
from .lane import Apart
from .manifest import Bounds
from .quotas import counters_of, quotas_of
from .schema import did_you_mean
from .situation import CALENDAR_WINDOWS, Member, Needs, Original, Programme, Situation
from .watchdog import Overrun, absorb, fired, watch

#: What a hook came to: the proposals of all plugins in their order, and the plugins that were passed over.
Answers = tuple[list[Effect], tuple[Skipped, ...]]
#: Situations that hold a plugin's own rows, by plugin; for the plugins that :attr:`Plan.own` names.
Own = Mapping[str, Situation]

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Part:
    """One enabled plugin, made with its tenant's settings."""

    id: str
    version: str
    plugin: object
    #: hook -> kinds it wants to see: ``purchase.completed``, ``purchase.*`` or ``*``; a hook not listed sees all kinds
    interests: Mapping[str, tuple[str, ...]] = _NONE
    hooks: tuple[str, ...] = ()  #: hooks that its manifest lists: methods of these names are hooks, marked or not
    grants: Mapping[str, Bounds] = _NONE  #: effect -> bounds, as the manifest has them
    budget: Mapping[str, int] = _NONE  #: unit -> what its rules may give of it in all, as the merchant has set it


class Collect(Protocol):
    """`earn`, and `redeem`, which raises :class:`~tallystick.errors.Refused` or Unavailable as well."""

    def __call__(self, event: Event, situation: Situation, own: Own = ..., /) -> Answers: ...


class Reverse(Protocol):
    """`reverse`."""

    def __call__(self, event: Event, original: Original, situation: Situation, own: Own = ..., /) -> Answers: ...


class Review(Protocol):
    """`review`; a reviewer that fails answers with a Verdict of its own."""

    def __call__(
        self, event: Event, situation: Situation, proposals: Sequence[Effect], own: Own = ..., /
    ) -> Answers: ...


class React(Protocol):
    """`react`."""

    def __call__(
        self, event: Event, situation: Situation, outcome: Mapping[str, int], own: Own = ..., /
    ) -> Answers: ...


class EvaluateTier(Protocol):
    """`evaluate_tier`."""

    def __call__(
        self,
        event: Event,
        member: Member,
        totals: Mapping[str, int],
        now: datetime,
        situation: Situation,
        own: Own = ...,
        /,
    ) -> Answers: ...


@attrs.frozen(kw_only=True)
class Plan:
    """What runs for one kind of event.  A hook nobody wants is None."""

    kind: str
    needs: Needs  #: of all plugins together, without own rows
    own: Mapping[str, Mapping[str, frozenset[str]]]  #: plugin -> key template -> names of its own rows
    earn: Collect | None
    redeem: Collect | None
    reverse: Reverse | None
    review: Review | None
    evaluate_tier: EvaluateTier | None
    react: React | None


class Pipeline:
    """The plugins of one tenant in one generation.  Plans are made when a kind is first met."""

    def __init__(
        self,
        parts: Sequence[Part],
        kinds: Mapping[str, EventKind],
        programme: Programme,
        *,
        limits: Limits,
        clock: Callable[[], float],
        compiled: bool,
    ) -> None:
        self.parts = tuple(parts)
        self.kinds = kinds
        self.programme = programme
        self._limits, self._clock, self._compiled = limits, clock, compiled
        self._shape, self._registry = _shape(self.parts)
        self.quotas = quotas_of(self.parts)
        self.apart = tuple([part for part in self.parts if isinstance(part.plugin, Apart)])
        self.budgets = {part.id: part.budget for part in self.parts if part.budget}
        self._counters = counters_of(self.quotas, self.budgets)
        self._plans: dict[str, Plan] = {}
        self._guards: dict[tuple[str, str], Guard] = {}
        self._checks: dict[tuple[str, str], Check] = {}
        self._alone: dict[tuple[str, str], list[Collect]] = {}

    @property
    def manager(self) -> pluggy.PluginManager:
        """The registry of the same plugins: the reference, and the way to hooks that run after the commit."""
        if self._registry is None:
            self._registry = _Registry(self.parts)
        return self._registry

    def plan(self, kind: str) -> Plan:
        """What runs for events of *kind*.  Raises UnknownKind."""
        plan = self._plans.get(kind)
        if plan is None:
            if kind not in self.kinds:
                raise UnknownKind(f"nothing here knows events of kind {kind[:128]}")
            plan = self._plans[kind] = self._make_plan(kind)
        return plan

    def foresee(self, looks: Sequence[tuple[Event, Situation, Own]]) -> None:
        """Let plugins that run apart answer `earn` and `redeem` for these events at once: one round trip each, not one per event.

        What an event comes to is decided when it is judged: if it then sees something else, they are asked anew.
        """
        for part in self.apart:
            plugin: Apart = part.plugin  # type: ignore[assignment]
            asked = [
                (hook, {"event": event, "situation": own.get(part.id, situation)})
                for hook in ("earn", "redeem")
                if (part.id, hook) not in self._guards or not self._guards[part.id, hook].shut
                for event, situation, own in looks
                if _wants(part, hook, event.kind)
            ]
            plugin.foresee(asked)

    def implementations(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """(plugin, function) of everybody who implements *hook*, in calling order.

        A function is called with all of the hook's arguments by their names, and passes on those that the plugin names.
        """
        return [
            (self.parts[step.part].id, _naming(getattr(self.parts[step.part].plugin, step.attribute), step.names))
            for step in self._shape.get(hook, ())
        ]

    def join(self, plugin: str, event: Event, source: Mapping[str, Any], into: Mapping[str, Any]) -> Sequence[Effect]:
        """What *plugin* makes of the own rows of two members who are one person; nothing if it has no say in it.

        Raises whatever the plugin raises, and EffectRefused.
        """
        step = next((step for step in self._shape.get("join", ()) if self.parts[step.part].id == plugin), None)
        if step is None:
            return ()
        part, given = self.parts[step.part], {"event": event, "source": source, "into": into}
        check = Check(part.id, "join", part.grants, programme=self.programme, kinds=self.kinds)
        answer = getattr(part.plugin, step.attribute)(*[given[name] for name in step.names])
        return check(answer, event) if answer else ()

    def ask_again(self, plugin: str, event: Event, situation: Situation) -> Answers:
        """What *plugin* alone proposes now on *event*, in `earn` and `redeem`; *situation* holds its own rows.

        Raises Refused, and Unavailable, as those hooks do.
        """
        hooks = self._alone.get((plugin, event.kind))
        if hooks is None:
            hooks = self._alone[plugin, event.kind] = self._hooks_alone(plugin, event.kind)
        effects: list[Effect] = []
        skipped: tuple[Skipped, ...] = ()
        for hook in hooks:
            answers, failed = hook(event, situation, {plugin: situation})
            effects += answers
            skipped += failed
        return effects, skipped

    def _hooks_alone(self, plugin: str, kind: str) -> list[Collect]:
        own, hooks = self.plan(kind).own, []
        for hook in ("earn", "redeem"):
            found = [
                step
                for step in self._shape.get(hook, ())
                if self.parts[step.part].id == plugin and _wants(self.parts[step.part], hook, kind)
            ]
            if found:
                hooks.append(self._make_hook(hook, found, own, {}, takes=False))
        return hooks

    def health(self) -> tuple[Health, ...]:
        """How each hook of each plugin fares, as far as it was called."""
        return tuple([guard.health() for _, guard in sorted(self._guards.items())])

    def reset(self, plugin: str) -> None:
        """Put *plugin* back into service, and ask for its needs again."""
        for (owner, _), guard in self._guards.items():
            if owner == plugin:
                guard.reset()
        self._plans, self._alone = {}, {}

    # --- making plans ------------------------------------------------------------------------------------------------

    def guard(self, plugin: str, version: str, hook: str) -> Guard:
        """Who stands around one *hook*, or one job, of one plugin."""
        guard = self._guards.get((plugin, hook))
        if guard is None:
            guard = self._guards[plugin, hook] = Guard(plugin, version, hook, self._limits, self._clock)
        return guard

    def _make_plan(self, kind: str) -> Plan:
        steps = {
            hook: [step for step in self._shape.get(hook, ()) if _wants(self.parts[step.part], hook, kind)]
            for hook in PURE
            if hook != "needs"
        }
        busy = {step.part for found in steps.values() for step in found}
        needs, own, failed = self._ask_needs(kind, busy)
        if self._counters and busy:
            needs |= Needs(counters=self._counters)
        hooks = {
            hook: self._make_hook(hook, found, own, failed, takes=bool(steps["redeem"])) if found else None
            for hook, found in steps.items()
        }
        return Plan(kind=kind, needs=needs, own=own, **hooks)

    def _ask_needs(
        self, kind: str, busy: set[int]
    ) -> tuple[Needs, Mapping[str, Mapping[str, frozenset[str]]], Mapping[int, str]]:
        total, own, failed = Needs(), {}, {}
        for step in self._shape.get("needs", ()):
            if step.part not in busy:
                continue
            part = self.parts[step.part]
            guard = self.guard(part.id, part.version, "needs")
            tick = Tick()
            guard.ticks.append(tick)
            tick.n += 1
            given = (kind,) if step.names else ()
            noted: tuple[Skipped, ...] = ()
            needs: Needs | None = None
            try:
                try:
                    needs = ask(guard, getattr(part.plugin, step.attribute), self._check_needs, None, given)
                    if fired:
                        absorb()
                except BaseException as error:  # noqa: BLE001  whatever a plugin raises stays with the plugin
                    noted = guard.skip(noted, error)
            except Overrun as error:
                noted = guard.skip(noted, error)
            if noted:
                failed[step.part] = noted[0].error
            elif needs is not None:
                if needs.own:
                    own[part.id] = MappingProxyType(dict(needs.own))
                total |= Needs(
                    balances=needs.balances, counters=needs.counters, stock=needs.stock, profile=needs.profile
                )
        return total, MappingProxyType(own), failed

    def _check_needs(self, needs: Any, _event: Event | None) -> Needs:
        """Needs that can be loaded; a plugin that asks for anything else sits out."""
        right = (
            type(needs) is Needs
            and all(unit in self.programme.units for unit in needs.balances)
            and all(type(name) is str and _is_window(window) for name, window in needs.counters)
            and all(type(key) is str for key in needs.stock)
            and all(type(key) is str and all(type(name) is str for name in names) for key, names in needs.own.items())
            and type(needs.profile) is bool
        )
        if not right:
            raise TypeError("needs")
        found: Needs = needs
        return found

    def _make_hook(
        self, hook: str, steps: Sequence[_Step], own: Mapping[str, Any], failed: Mapping[int, str], *, takes: bool
    ) -> Any:
        tick = Tick()
        calls = []
        for step in steps:
            part = self.parts[step.part]
            guard = self.guard(part.id, part.version, hook)
            guard.ticks.append(tick)
            check = self._checks.get((part.id, hook))
            if check is None:
                check = Check(part.id, hook, part.grants, programme=self.programme, kinds=self.kinds)
                self._checks[part.id, hook] = check
            function = getattr(part.plugin, step.attribute)
            if step.part in failed:
                function = _sit_out(failed[step.part])
            elif not self._compiled:
                function = _through_pluggy(self.manager, hook, part.plugin, step.names)
            private = part.id if part.id in own and "situation" in step.names else None
            calls.append(_Call(function=function, names=step.names, check=check, guard=guard, private=private))
        slowly = _slowly(hook, calls, takes=takes)
        if not self._compiled:
            return _counted(hook, tick, slowly, len(_PARAMETERS[hook]))
        make = _generate(hook, tuple([(call.names, call.private is not None) for call in calls]))
        bound: list[Any] = []
        for call in calls:
            bound += (call.function, call.check, call.guard, call.private)
        return make(tick, slowly, takes, *bound)


def compile_pipeline(
    parts: Sequence[Part],
    kinds: Mapping[str, EventKind],
    programme: Programme,
    *,
    limits: Limits = Limits(),  # noqa: B008  frozen
    clock: Callable[[], float] = time.monotonic,
    compiled: bool | None = None,
) -> Pipeline:
    """Put together the enabled plugins of one tenant, in resolver order.

    *clock* (seconds, monotonic) is the breaker's.  *compiled* False goes through pluggy; the default asks TALLY_COMPILE.
    Raises PluginBroken (with ``plugin`` in its details) if a plugin does not keep the contract.
    """
    if compiled is None:
        compiled = os.environ.get("TALLY_COMPILE", "1") != "0"
    return Pipeline(parts, kinds, programme, limits=limits, clock=clock, compiled=compiled)


# --- registration: pluggy's part -------------------------------------------------------------------------------------


@attrs.frozen
class _Step:
    """One implementation of a hook: whose, and which arguments it names."""

    part: int  #: place among the parts
    attribute: str  #: the method's name
    names: tuple[str, ...]


#: Sets of classes met before, with what pluggy said about them.
_SHAPES: Final[dict[tuple[object, ...], Mapping[str, tuple[_Step, ...]]]] = {}
_HOOKS: Final = tuple(name for name in vars(Hooks) if not name.startswith("_"))
_ASYNC: Final = frozenset({"notify", "command"})
_UNMARKED: Final = pluggy.HookimplOpts(
    wrapper=False, hookwrapper=False, optionalhook=False, tryfirst=False, trylast=False, specname=None
)


def _shape(parts: tuple[Part, ...]) -> tuple[Mapping[str, tuple[_Step, ...]], _Registry | None]:
    """Who implements what, in calling order.  Asked of pluggy once per set of plugin classes, not once per tenant."""
    key = tuple([(part.id, type(part.plugin), part.hooks) for part in parts])
    shape, registry = _SHAPES.get(key), None
    if shape is None or any(_hooks_of_its_own(part.plugin) for part in parts):
        registry = _Registry(parts)
        shape = _ask_pluggy(registry, {part.id: place for place, part in enumerate(parts)})
        while len(_SHAPES) >= 256:
            _SHAPES.pop(next(iter(_SHAPES)))
        _SHAPES[key] = shape
    for part in parts:
        for hook in part.interests:
            if not any(parts[step.part] is part for step in shape.get(hook, ())):
                raise PluginBroken(f"{part.id} lists the hook {hook} and does not implement it", plugin=part.id)
    return shape, registry


def _hooks_of_its_own(plugin: object) -> bool:
    """Whether the hooks are the object's own and not its class's."""
    return isinstance(plugin, type | ModuleType) or any(hook in getattr(plugin, "__dict__", ()) for hook in _HOOKS)


class _Registry(pluggy.PluginManager):
    """pluggy's manager, which also remembers under which name a plugin has each hook (``specname`` may differ)."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__("tallystick")
        self.attributes: dict[tuple[str, str], str] = {}
        self._registering = ""
        self._listed: tuple[str, ...] = ()
        self.add_hookspecs(Hooks)
        for part in reversed(parts):  # pluggy calls those registered last first
            self._registering, self._listed = part.id, part.hooks
            try:
                self.register(part.plugin, name=part.id)
                self.check_pending()
            except (pluggy.PluginValidationError, ValueError) as error:
                why = self._misunderstood(part.plugin) or str(error)
                raise PluginBroken(f"{part.id} does not keep the contract: {why}", plugin=part.id) from None

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        if name.startswith("__"):
            return None
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None and name in self._listed and inspect.isroutine(getattr(plugin, name)):
            options = _UNMARKED.copy()
        if options is not None:
            self.attributes[self._registering, options.get("specname") or name] = name
        return options

    def _misunderstood(self, plugin: object) -> str:
        """What an author took a hook for that it is not, and where; empty if that is not what is wrong."""
        for name in dir(plugin):
            options = self.parse_hookimpl_opts(plugin, name)
            if options is None:
                continue
            hook, function = options.get("specname") or name, getattr(plugin, name)
            place = _place(function)
            if options["wrapper"] or options["hookwrapper"]:
                return f"{place}: {hook} is a wrapper; nobody edits what other plugins answer"
            if hook not in _HOOKS:
                return f"{place}: there is no hook {hook}{did_you_mean(hook, _HOOKS)}"
            offered = [*inspect.signature(getattr(Hooks, hook)).parameters][1:]
            strange = [argument for argument in inspect.signature(function).parameters if argument not in offered]
            if strange:
                return f"{place}: {hook} has no argument {', '.join(strange)}; it has {', '.join(offered)}"
        return ""


def _place(function: Callable[..., Any]) -> str:
    code = inspect.unwrap(function).__code__
    return f"{Path(code.co_filename).name}, line {code.co_firstlineno}"


def _ask_pluggy(registry: _Registry, places: Mapping[str, int]) -> Mapping[str, tuple[_Step, ...]]:
    shape: dict[str, tuple[_Step, ...]] = {}
    for hook in _HOOKS:
        found = []
        for implementation in reversed(getattr(registry.hook, hook).get_hookimpls()):
            _check_implementation(hook, implementation)
            plugin = implementation.plugin_name
            found.append(_Step(places[plugin], registry.attributes[plugin, hook], tuple(implementation.argnames)))
        if found:
            shape[hook] = tuple(found)
    return shape


def _check_implementation(hook: str, implementation: pluggy.HookImpl) -> None:
    function = implementation.function
    if implementation.wrapper or implementation.hookwrapper:
        why = "is a wrapper; nobody edits what other plugins answer"
    elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        why = "must return its answer, not yield it"
    elif inspect.iscoroutinefunction(function) is not (hook in _ASYNC):
        why = "must be an `async def`" if hook in _ASYNC else "must be a plain `def`"
    else:
        return
    plugin = implementation.plugin_name
    raise PluginBroken(f"{plugin} does not keep the contract: {_place(function)}: {hook} {why}", plugin=plugin)


def _through_pluggy(
    manager: pluggy.PluginManager, hook: str, plugin: object, names: tuple[str, ...]
) -> Callable[..., Any]:
    """One plugin's implementation, called by pluggy."""
    others = [other for other in manager.get_plugins() if other is not plugin]
    caller = manager.subset_hook_caller(hook, others)
    rest = dict.fromkeys(set(inspect.signature(getattr(Hooks, hook)).parameters) - {"self", *names})

    def call(*given: Any) -> Any:
        answers = caller(**dict(zip(names, given, strict=True)), **rest)
        return answers[0] if answers else None

    return call


def _naming(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    @wraps(function)
    def call(**given: Any) -> Any:
        return function(**{name: given[name] for name in names})

    return call


# --- routing ---------------------------------------------------------------------------------------------------------


def _wants(part: Part, hook: str, kind: str) -> bool:
    patterns = part.interests.get(hook)
    return patterns is None or _matches(patterns, kind)


@lru_cache(4096)
def _matches(patterns: tuple[str, ...], kind: str) -> bool:
    return any(
        pattern in ("*", kind) or (pattern.endswith(".*") and kind.startswith(pattern[:-1])) for pattern in patterns
    )


def _is_window(window: Any) -> bool:
    return type(window) is str and (
        window in CALENDAR_WINDOWS or window == "budget" or re.fullmatch(r"P[1-9][0-9]{0,3}D", window) is not None
    )


# --- the generated part ----------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Call:
    function: Callable[..., Any]
    names: tuple[str, ...]
    check: Check
    guard: Guard
    private: str | None  #: the plugin whose own rows its situation holds


#: hook -> its arguments, in order
_PARAMETERS: Final = {
    hook: tuple(inspect.signature(getattr(Hooks, hook)).parameters)[1:] for hook in PURE if hook != "needs"
}
#: One call in this many is timed.  A power of two.
SAMPLE: Final = 64
#: Mappings and lists the core hands over are wrapped, so that a plugin that changes them fails alone.
_FREEZE: Final = {
    "outcome": "if type(outcome) is dict: outcome = MappingProxyType(outcome)",
    "totals": "if type(totals) is dict: totals = MappingProxyType(totals)",
    "proposals": "if type(proposals) is not tuple: proposals = tuple(proposals)",
}


@lru_cache(1024)
def _generate(hook: str, calls: tuple[tuple[tuple[str, ...], bool], ...]) -> Callable[..., Any]:
    """A function that makes the compiled *hook* for implementations that name these arguments (and have own rows).

    Cached by shape: tenants with other plugins or settings of the same shape share the code.
    """
    parameters = _PARAMETERS[hook]
    event = "event" if "event" in parameters else "None"
    bound = "".join([f", f{i}, c{i}, g{i}, p{i}" for i in range(len(calls))])
    lines = [
        f"def make(tick, slowly, takes{bound}):",
        f"    def {hook}({', '.join(parameters)}, own=NONE, /):",
        "        tick.n = n = tick.n + 1",
        f"        if not n & {SAMPLE - 1}:",
        f"            return slowly({', '.join(parameters)}, own)",
        *[f"        {_FREEZE[name]}" for name in parameters if name in _FREEZE],
        *[f"        s{i} = own[p{i}]" for i, (_, private) in enumerate(calls) if private],
        "        out = []",
        "        skipped = ()",
    ]
    watched: dict[int, str] = {}
    for i, (names, private) in enumerate(calls):
        given = "".join([f", s{i}" if name == "situation" and private else f", {name}" for name in names])
        failed = {
            "redeem": f"raise g{i}.refusal(error) from None",
            "review": f"skipped = g{i}.doubt(skipped, error, out, proposals, takes)",
        }.get(hook, f"skipped = g{i}.skip(skipped, error)")
        watched[len(lines) + 3] = watched[len(lines) + 5] = watched[len(lines) + 7] = f"g{i}"
        lines += [
            "        try:",
            "            try:",
            f"                if not g{i}.shut: r = f{i}({given[2:]})",
            "                else:",
            f"                    r = g{i}.attempt(f{i}, c{i}, {event}, ({given[2:]}{',' if names else ''}))",
            "                if r:",
            f"                    r = c{i}[type(r[0])](r, {event}) if type(r) is list else c{i}(r, {event})",
            "                if fired: absorb()",
            *(
                ["            except Refused:", "                absorb()", "                raise"]
                if hook == "redeem"
                else []
            ),
            "            except BaseException as error:",
            f"                {failed}",
            "            else:",
            "                if r: out += r",
            "        except Overrun as error:",
            f"            {failed}",
        ]
    lines += ["        return out, skipped", f"    return {hook}"]
    names_ = {
        "NONE": _NONE, "MappingProxyType": MappingProxyType, "Overrun": Overrun, "Refused": Refused, "absorb": absorb, "fired": fired,
    }  # fmt: skip
    exec(compile("\n".join(lines), f"<pipeline {hook}>", "exec"), names_)  # noqa: S102  names come from our own hookspecs
    make: Callable[..., Any] = names_["make"]  # type: ignore[assignment]
    for constant in make.__code__.co_consts:
        if inspect.iscode(constant):
            watch(constant, watched)
    return make


def _slowly(hook: str, calls: Sequence[_Call], *, takes: bool) -> Callable[..., Answers]:
    """The same as the generated function, step by step and with a stop-watch: for samples, and for TALLY_COMPILE=0."""
    parameters = _PARAMETERS[hook]
    sees_event, situation = "event" in parameters, parameters.index("situation")
    asked = [(call, [parameters.index(name) for name in call.names]) for call in calls]

    def failed(
        guard: Guard, error: BaseException, skipped: tuple[Skipped, ...], out: list[Effect], proposals: Sequence[Effect]
    ) -> tuple[Skipped, ...]:
        if hook == "redeem":
            raise guard.refusal(error) from None
        if hook == "review":
            return guard.doubt(skipped, error, out, proposals, takes)
        return guard.skip(skipped, error)

    def step_by_step(*values: Any) -> Answers:
        given = [_frozen(name, value) for name, value in zip(parameters, values, strict=False)]
        event, shared = given[0] if sees_event else None, given[situation]
        out: list[Effect] = []
        skipped: tuple[Skipped, ...] = ()
        for call, places in asked:
            guard = call.guard
            given[situation] = values[-1][call.private] if call.private else shared
            try:
                try:
                    answer = timed(guard, call.function, call.check, event, [given[place] for place in places])
                    if fired:
                        absorb()
                except BaseException as error:
                    if hook == "redeem" and isinstance(error, Refused):
                        absorb()
                        raise
                    skipped = failed(guard, error, skipped, out, given[-1])
                else:
                    if answer:
                        out += answer
            except Overrun as error:
                skipped = failed(guard, error, skipped, out, given[-1])
        return out, skipped

    return step_by_step


def _frozen(name: str, value: Any) -> Any:
    if name in ("outcome", "totals") and type(value) is dict:
        return MappingProxyType(value)
    return tuple(value) if name == "proposals" else value


def _counted(hook: str, tick: Tick, function: Callable[..., Answers], arguments: int) -> Callable[..., Answers]:
    def call(*values: Any) -> Answers:
        tick.n += 1
        return function(*values) if len(values) > arguments else function(*values, _NONE)

    call.__name__ = hook
    return call


def _sit_out(why: str) -> Callable[..., Any]:
    def sit_out(*_: Any) -> Any:
        raise SatOut(f"its needs are not known: {why}")

    return sit_out


__all__ = ["SAMPLE", "Answers", "Health", "Limits", "Own", "Part", "Pipeline", "Plan", "Skipped", "compile_pipeline"]
