"""What a plugin may propose: wishes, frozen.  ``settle`` weighs them all together; nobody edits anybody else's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from msgspec import Struct

#: (index of the line in the purchase, that line's basis in minor units)
LineBasis = tuple[tuple[int, int], ...]


class Effect(Struct, frozen=True, kw_only=True):
    """Base of all proposals."""

    rule: str  #: "<plugin>.<rule>", shown on receipts and in audits


class Grant(Effect, frozen=True, kw_only=True):
    """Give *amount* of *unit*.  Base grants of one event add up; multipliers scale them; the total is rounded once.

    ``lines`` says from which lines the grant came, with each line's basis: multipliers that name lines scale the
    matching share, and a refund of a line takes back that line's share.  None means the whole order.
    A grant with ``exclusive`` displaces the stackable grants of its ``group``; among several exclusive ones the highest
    ``priority`` wins.  ``stop`` drops the grants of its group that come after it (``order`` is the rule's place).
    """

    unit: str
    amount: int  #: smallest unit, at least 0
    lines: LineBasis | None = None
    usable_from: datetime | None = None  #: None: at once
    usable_state: str = ""  #: pending until the order reaches this state
    expires_at: datetime | None = None  #: None: never
    sliding: bool = False  #: the lot's expiry moves with :class:`Extend`
    group: str = ""
    order: int = 0
    priority: int = 0
    exclusive: bool = False
    stop: bool = False
    reversible: bool = True  #: whether a refund takes it back
    to: int = 0  #: another member named by the event (``event.others``), 0 for the event's own member
    issuer: str = ""  #: provenance kept with the lot for ever
    data: Mapping[str, Any] | None = None  #: the numbers that made the amount, for the explanation


class Multiply(Effect, frozen=True, kw_only=True):
    """Scale what others grant.  Gains add up: x2 and x3 give x4, not x6; a factor of 0 wins.

    Multipliers that all say ``compound`` are multiplied with each other instead.
    """

    unit: str
    factor: Decimal | Fraction | int  #: at least 0
    lines: frozenset[int] | None = None  #: lines whose share is scaled; None: everything
    rules: frozenset[str] | None = None  #: only grants of these rules; None: of all
    compound: bool = False
    data: Mapping[str, Any] | None = None


class Bonus(Effect, frozen=True, kw_only=True):
    """A flat gain that is never multiplied."""

    unit: str
    amount: int
    usable_from: datetime | None = None
    usable_state: str = ""
    expires_at: datetime | None = None
    sliding: bool = False
    lines: LineBasis | None = None
    reversible: bool = True
    to: int = 0
    issuer: str = ""
    data: Mapping[str, Any] | None = None


class Cap(Effect, frozen=True, kw_only=True):
    """Cut the gains of this event to *limit*, per event or per window of a counter that the core keeps.

    ``per`` is "event", a window of situation.Window for the member ("day", "month", "lifetime", "P30D", ...), or
    "budget": one amount for all members under the name ``key``.  What was cut is said in the explanation.
    """

    unit: str
    limit: int
    per: str = "event"
    rules: frozenset[str] | None = None  #: only gains of these rules; None: all of the unit
    key: str = ""  #: name of the counter or budget; the default is the rule
    whole: bool = False  #: a gain that does not fit is refused whole instead of cut


class Spend(Effect, frozen=True, kw_only=True):
    """Take *amount* from the member's usable lots, earliest expiry first; refused if they do not cover it.

    An amount of 0 takes nothing and only answers: ``gives`` and ``data`` say why nothing could be applied.
    """

    unit: str
    amount: int  #: at least 0
    wanted: int | None = None  #: what the member asked for, when limits made it less
    order: str = ""  #: the order it pays for: a refund of that order gives the points back to their lots
    account: str = "redeemed"  #: where they go
    gives: Mapping[str, Any] | None = None  #: what the member gets for it (discount in minor units, reward, ...)
    data: Mapping[str, Any] | None = None


class Move(Effect, frozen=True, kw_only=True):
    """Give *amount* to another member the event names.  Lots keep their expiry and provenance; nothing is earned by it."""

    unit: str
    amount: int
    to: int
    data: Mapping[str, Any] | None = None


class Extend(Effect, frozen=True, kw_only=True):
    """Move the expiry of the member's sliding lots of *unit* to *expires_at* (never earlier)."""

    unit: str
    expires_at: datetime


class Revoke(Effect, frozen=True, kw_only=True):
    """Take back what *of_rule* gave this member in an earlier *entry* (a milestone that no longer stands).

    *amount* None means all that was not taken back yet.  Never takes more than was given.
    """

    entry: str
    of_rule: str
    amount: int | None = None


class Restore(Effect, frozen=True, kw_only=True):
    """Put back what *of_rule* spent of this member in an earlier *entry*, into the lots it was taken from.

    *amount* None means all that has not come back yet.  Never gives back more than was spent; what was used last
    comes back first.
    """

    entry: str
    of_rule: str
    amount: int | None = None


class Keep(Effect, frozen=True, kw_only=True):
    """Lower what the core takes back of *of_rule* in this refund by *amount*.  Can neither raise it nor flip its sign."""

    of_rule: str
    unit: str
    amount: int


class Count(Effect, frozen=True, kw_only=True):
    """Add *amount* to the member's counter *counter* in *window*; a full reversal of the event subtracts it again."""

    counter: str
    window: str
    amount: int = 1
    reversible: bool = True
    by_share: bool = (
        False  #: a partial reversal subtracts its share (of money), not only a full one the whole (of visits)
    )
    lines: LineBasis | None = (
        None  #: with ``by_share``: what it is about; what comes back of other lines changes nothing
    )


class Take(Effect, frozen=True, kw_only=True):
    """Take *amount* from the stock *key*; the event is refused as `out_of_stock` if less is left."""

    key: str
    amount: int = 1
    reversible: bool = True


class Restock(Effect, frozen=True, kw_only=True):
    """Put *amount* into the stock *key* (or set it, with ``absolute``)."""

    key: str
    amount: int
    absolute: bool = False


class Put(Effect, frozen=True, kw_only=True):
    """Write an own row: ``own[key][name] = value`` (JSON; None deletes).  *key* "{member}" is the event's member."""

    name: str
    value: Any
    key: str = "{member}"


class SetTier(Effect, frozen=True, kw_only=True):
    """The member holds *tier* on *ladder* from now on."""

    ladder: str
    tier: str
    reason: str
    until: datetime | None = None


class Notify(Effect, frozen=True, kw_only=True):
    """A message is due.  An intent, not a text: the notify plugin decides channel, language and whether it may go out."""

    template: str
    facts: Mapping[str, Any]
    purpose: Literal["service", "reminder", "marketing"] = "service"
    key: str = ""  #: at most one message per (member, template, key); empty: the entry
    to: int = 0
    not_before: datetime | None = None
    expires: datetime | None = None


class Command(Effect, frozen=True, kw_only=True):
    """Something a device shall do."""

    device: str
    command: str
    facts: Mapping[str, Any]


class Emit(Effect, frozen=True, kw_only=True):
    """A derived event, recorded right after this one under id ``<entry of the cause>/<rule>/<n>``."""

    kind: str
    facts: Any
    member: int = 0  #: 0: the event's own member


class Verdict(Effect, frozen=True, kw_only=True):
    """What a reviewer says.  The worst of all reviews wins: allow < hold < step_up < deny."""

    verdict: Literal["allow", "hold", "step_up", "deny"]
    reason: str  #: for staff
    gentle: str = ""  #: for the member
    data: Mapping[str, Any] | None = None


VERDICTS = ("allow", "hold", "step_up", "deny")

#: Every effect by its public name, as manifests grant it.
EFFECTS: dict[str, type[Effect]] = {
    effect.__name__: effect
    for effect in (
        Grant, Multiply, Bonus, Cap, Spend, Move, Extend, Revoke, Restore, Keep, Count, Take, Restock, Put, SetTier, Notify,
        Command, Emit, Verdict,
    )
}  # fmt: skip

#: Effects whose amount a manifest may bound.
AMOUNTS = ("Grant", "Bonus", "Spend", "Move", "Take", "Restock", "Count")
