"""The contract with plugins: every hook, when it is called, what it may return, and what happens when it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

import pluggy

if TYPE_CHECKING:
    from .effects import Effect
    from .events import Event
    from .situation import Member, Needs, Original, Situation

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
hookspec = pluggy.HookspecMarker("tallystick")
hookimpl = pluggy.HookimplMarker("tallystick")


class Hooks:
    """All hooks.  A plugin is a class, made once per tenant with its settings, whose methods implement some of them.

    An implementation names only the arguments it uses.  Hooks marked *pure* get frozen data, must not look at clock,
    chance, files, network or database, and may be called again to explain, rehearse or repair.
    """

    # --- pure, inside the transaction ------------------------------------------------------------------------------

    @hookspec
    def needs(self, kind: str) -> Needs | None:
        """Say what must be known before events of *kind* are judged.

        Called once per generation and kind, not per event: templates in the answer are filled from each event.
        On failure: the plugin sits these events out, each of its hooks by its own policy.
        """

    @hookspec
    def earn(self, event: Event, situation: Situation) -> Sequence[Effect]:
        """Propose what is gained.

        Called once per event, before :meth:`review`.  Return no effects if the event is none of your business.
        Pure.  On failure: this plugin's proposals are skipped and recorded for repair; the event goes on.
        """

    @hookspec
    def redeem(self, event: Event, situation: Situation) -> Sequence[Effect]:
        """Propose what is spent and what is given for it.

        Called once per event.  To say no, raise a :class:`~tallystick.errors.Refused` with its own code.
        Pure.  On failure: the event is refused and nothing is written.
        """

    @hookspec
    def reverse(self, event: Event, original: Original, situation: Situation) -> Sequence[Effect]:
        """Correct the plugin's own state when an order comes back, and lower (:class:`Keep`) what the core takes back.

        The core derives the take-back from the original's transfers by itself, whether or not the plugin is enabled.
        Pure.  On failure: the core's take-back stands; recorded for repair.
        """

    @hookspec
    def review(self, event: Event, situation: Situation, proposals: Sequence[Effect]) -> Sequence[Effect]:
        """Return :class:`Verdict` effects (and counts of your own); the worst verdict of all plugins wins.

        Pure.  On failure: hold for redeem, gift, transfer and conversion; earning is allowed and marked for review.
        """

    @hookspec
    def evaluate_tier(
        self, event: Event, member: Member, totals: Mapping[str, int], now: datetime, situation: Situation
    ) -> Sequence[Effect]:
        """Propose a tier, seeing the event's outcome in *totals*: gains per unit of this event (``points``), balances after
        it (``balance:points``), and the declared counters after it (``counter:NAME/WINDOW``).

        Called once per event, after what :meth:`react` proposed was settled; *situation* is as it stood before the event.
        Pure.  On failure: the tier is kept.
        """

    @hookspec
    def react(self, event: Event, situation: Situation, outcome: Mapping[str, int]) -> Sequence[Effect]:
        """Propose what follows from what was decided: milestones, tasks, messages.

        *outcome* maps unit to the amount the member gained (negative: lost) in the first round of this event.
        It also answers, when asked by name, with declared counters after it: ``counter:NAME/WINDOW``.
        Called once per event after settling; its proposals are reviewed and settled once more, then never again.
        Pure.  On failure: skipped, recorded for repair.
        """

    @hookspec
    def join(self, event: Event, source: Mapping[str, Any], into: Mapping[str, Any]) -> Sequence[Effect]:
        """Say what becomes of the plugin's own rows when two members turn out to be one person.

        Called once per merge if the one who goes has rows: *source* and *into* are the rows of both before it, by name.
        Counters are added up and rows that *into* does not have are copied by the core; return :class:`Put` (and
        :class:`SetTier`) for what must be otherwise.  They are about the member who remains.
        Deterministic, without I/O.  On failure: what the core copied stands.
        """

    # --- after the commit ------------------------------------------------------------------------------------------

    @hookspec
    async def notify(self, message: Mapping[str, Any]) -> bool | None:
        """Deliver one message over one channel: True if it went, False if it never can, None if it is not your channel.

        *message* has ``key``, ``channel`` (the name the merchant gave it), ``template``, ``purpose``, ``member``, ``language``,
        ``address``, ``subject``, ``text`` and ``facts``; consent, quiet hours and caps are dealt with before.
        May do I/O.  Called at least once per message with the same ``key``.
        On failure: retried with back-off, then a dead letter.
        """

    @hookspec
    def decode(self, frame: bytes, device: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
        """Turn a device's bytes into event documents for the door; the first plugin that answers wins.

        On failure: the frame is dropped and an alarm raised.
        """

    @hookspec
    async def command(self, command: Mapping[str, Any], device: Mapping[str, Any]) -> bool | None:
        """Send a command to a device; the first plugin that answers wins.  On failure: retried, then an alarm."""

    @hookspec
    def committed(self, batch: Sequence[Any], store: Any) -> None:
        """Learn what was committed, in order, at least once; keep own projections (leaderboards, history).

        *batch* are committed batches, each with its ``records`` (as the journal keeps them) and ``intents``; *store* is the plugin's own tables inside one transaction.
        On failure: retried; the offset does not advance.
        """

    # --- by the operator -------------------------------------------------------------------------------------------

    @hookspec
    def export_member(self, member: int, store: Any) -> Mapping[str, Any] | None:
        """Everything the plugin keeps of a member beyond what the core keeps for it."""

    @hookspec
    def erase_member(self, member: int, store: Any) -> bool | None:
        """Forget a member in own tables.  The erasure is complete only when every plugin has answered."""

    @hookspec
    def health(self) -> Mapping[str, Any] | None:
        """State of the plugin for `/readyz`: ``{"ok": bool, ...}``."""

    @hookspec
    def migrate_settings(self, document: Mapping[str, Any], version: int) -> Mapping[str, Any] | None:
        """Bring settings of an older *version* to the present one."""


#: Hooks on the event path, in the order in which an event meets them.
PURE = ("needs", "earn", "redeem", "reverse", "review", "evaluate_tier", "react")
#: What the house does when an implementation fails; see DESIGN and docs/reference/hooks.md.
ON_FAILURE = {
    "needs": "sit_out",
    "earn": "skip_and_repair",
    "redeem": "refuse",
    "reverse": "skip_and_repair",
    "review": "hold_or_mark",
    "evaluate_tier": "keep",
    "react": "skip_and_repair",
    "join": "core_copies",
    "notify": "retry",
    "decode": "drop_and_alarm",
    "command": "retry_and_alarm",
    "committed": "retry",
    "export_member": "report",
    "erase_member": "incomplete",
    "health": "report",
    "migrate_settings": "keep_old_generation",
}


class Hook(Generic[P, R_co]):
    """One hook for implementations that a type checker shall compare with it: all arguments by their names."""

    def __init__(self, spec: Callable[Concatenate[Any, P], R_co]) -> None:
        self.name = spec.__name__

    def __call__(self, function: Callable[Concatenate[S, P], R_co]) -> Callable[Concatenate[S, P], R_co]:
        """Mark *function* as an implementation of this hook.  Raises TypeError if it bears another name."""
        if function.__name__ != self.name:
            raise TypeError(f"{function.__qualname__} implements the hook {self.name} and has another name")
        marked: Callable[Concatenate[S, P], R_co] = hookimpl(function)
        return marked


class impl:  # noqa: N801  read aloud: impl.earn
    """``@impl.earn`` is ``@hookimpl`` for whoever takes all arguments: mypy and pyright find a wrong name, type or answer."""

    needs = Hook(Hooks.needs)
    earn = Hook(Hooks.earn)
    redeem = Hook(Hooks.redeem)
    reverse = Hook(Hooks.reverse)
    review = Hook(Hooks.review)
    evaluate_tier = Hook(Hooks.evaluate_tier)
    react = Hook(Hooks.react)
    join = Hook(Hooks.join)
    notify = Hook(Hooks.notify)
    decode = Hook(Hooks.decode)
    command = Hook(Hooks.command)
    committed = Hook(Hooks.committed)
    export_member = Hook(Hooks.export_member)
    erase_member = Hook(Hooks.erase_member)
    health = Hook(Hooks.health)
    migrate_settings = Hook(Hooks.migrate_settings)


def is_hook(function: object) -> bool:
    """Whether *function* is marked as an implementation of a hook."""
    return hasattr(function, "tallystick_impl")  # pluggy's mark of our project


def all_hooks() -> tuple[str, ...]:
    """Names of all hooks, in the order of their declaration."""
    return tuple(name for name in vars(Hooks) if not name.startswith("_"))
