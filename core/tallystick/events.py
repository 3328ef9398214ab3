"""What happened: the facts that come in, each kind with a public name and one class that says what may be in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal

import attrs
from msgspec import Meta, Struct

#: No amount, sum or balance may leave 64 bits; one event may not come near.
MAX_AMOUNT = 10**12
MAX_LINES = 1_000

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=128)]
Amount = Annotated[int, Meta(ge=0, le=MAX_AMOUNT, description="minor units (cents) of the event's currency")]
Points = Annotated[int, Meta(ge=1, le=MAX_AMOUNT, description="smallest unit of the ledger unit")]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$", max_length=3, description="ISO 4217")]


class Facts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every facts class: frozen, no unknown fields, defaults left out of the canonical form.

    Subclass it in a plugin and name the class in ``plugin.toml`` under ``[events]``.
    """


class Line(Facts, frozen=True):
    """One line of a receipt."""

    sku: Name
    amount: Amount  #: price times quantity, tax included, before any discount
    quantity: Annotated[int, Meta(ge=0, le=10**9)] = 1
    discount: Amount = 0  #: promotional discount that belongs to this line alone
    tax: Amount = 0  #: tax contained in ``amount - discount``
    department: Text = ""
    category: Text = ""
    brand: Text = ""
    labels: Annotated[tuple[Text, ...], Meta(max_length=32)] = ()
    #: reward lines never earn; shipping and fees are outside the usual basis; stored_value is a top-up or a gift card sold
    kind: Literal["item", "shipping", "fee", "reward", "stored_value"] = "item"

    @property
    def net(self) -> int:
        """What the line costs after its own discount."""
        return self.amount - self.discount


class Payment(Facts, frozen=True):
    """How a part of the order was paid."""

    method: Literal["cash", "card", "points", "stored_value", "gift_card", "other"]
    amount: Amount


class Purchase(Facts, frozen=True, dict=True):  # a dict: what is worked out of a receipt stays with it
    """A completed sale: the receipt as the till printed it."""

    order: Name  #: the order's number; one order earns once, and refunds name it
    currency: Currency
    lines: Annotated[tuple[Line, ...], Meta(min_length=1, max_length=MAX_LINES)]
    discount: Amount = 0  #: promotional discount on the whole order, not on a line
    payments: Annotated[tuple[Payment, ...], Meta(max_length=32)] = ()
    coupons: Annotated[tuple[Name, ...], Meta(max_length=32)] = ()
    store: Text = ""
    channel: Text = ""
    cashier: Text = ""
    device: Text = ""
    state: Text = "completed"  #: where the order stands; rewards may wait for a later state (see order.advanced)

    def __post_init__(self) -> None:
        for line in self.lines:
            if line.discount > line.amount or line.tax > line.amount:
                raise ValueError(f"line {line.sku}: discount and tax cannot exceed the line's amount")
        if self.total < 0:
            raise ValueError("the order's discount exceeds its lines")

    @cached_property
    def total(self) -> int:
        """What the customer owes for all lines after all promotional discounts, tax included, in minor units."""
        return sum([line.amount - line.discount for line in self.lines]) - self.discount

    @cached_property
    def goods(self) -> tuple[Line, ...]:
        """The lines that are goods: no shipping, fees, rewards or stored value."""
        return tuple([line for line in self.lines if line.kind == "item"])

    @property
    def items(self) -> int:
        """As ``total``, without shipping, fees and stored value."""
        return sum([line.amount - line.discount for line in self.goods]) - self.discount

    @property
    def paid_with_points(self) -> int:
        """The part of the order that was paid with points, in minor units."""
        return sum([payment.amount for payment in self.payments if payment.method == "points"])


class Returned(Facts, frozen=True):
    """A line that came back, whole or in part."""

    line: Annotated[int, Meta(ge=0, lt=MAX_LINES)]  #: its place in the order's lines, from 0
    amount: Amount  #: value returned, in the order's minor units, as the line's net amount counts it


class Refund(Facts, frozen=True):
    """Goods or money came back.  Name the lines, or one amount; naming neither returns all that is left."""

    order: Name
    lines: Annotated[tuple[Returned, ...], Meta(max_length=MAX_LINES)] = ()
    amount: Amount | None = None
    reason: Text = ""
    store: Text = ""
    cashier: Text = ""

    def __post_init__(self) -> None:
        if self.lines and self.amount is not None:
            raise ValueError("name the returned lines or one amount, not both")


class OrderAdvanced(Facts, frozen=True):
    """An order reached a further state, for example `delivered`; what waited for that state becomes usable."""

    order: Name
    state: Annotated[str, Meta(min_length=1, max_length=64)]


class OrderClaimed(Facts, frozen=True):
    """A guest order is linked to a member, who earns for it now under the rules of then.  Saying it twice changes nothing."""

    order: Name


class Enrolled(Facts, frozen=True):
    """A person joined the programme.  Personal data does not belong here: it goes to `POST /v1/members`."""

    channel: Text = ""
    store: Text = ""
    invited_by: Name | None = None  #: the member whose invitation was used


class Merged(Facts, frozen=True):
    """The event's member and another one are the same person: everything goes over to the other."""

    into: Name
    reason: Text = ""


class Unmerged(Facts, frozen=True):
    """A merge was a mistake: the two part again, as far as nothing was spent meanwhile."""

    entry: Name  #: the entry of the merge
    reason: Text = ""


class Decision(Facts, frozen=True):
    """What was decided about an entry that had been held."""

    entry: Name
    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    by: Text = ""


class Arrival(Struct):
    """An event as a door handed it over: checked against its kind, not yet matched with a member.

    ``canonical`` is the canonical JSON of everything the sender claims; equal canonical bytes mean equal facts.
    """

    tenant: str
    id: str
    source: str
    kind: str
    at: datetime
    member: str  #: the reference as sent: an external id or ``m-`` and twelve digits; empty for a guest
    facts: Facts
    canonical: bytes
    actor: str = ""  #: the key or command that brought it, for the audit
    cause: int = 0  #: the entry that derived this event, if one did
    depth: int = 0
    early: bool = False  #: it claims a time too far ahead of the clock: only what was recorded already is answered


class Event(Struct, frozen=True, kw_only=True):
    """What plugins see of an occurrence.  Frozen; names members by number, never by a personal id."""

    tenant: str
    id: str
    source: str
    kind: str
    at: datetime  #: when it happened, as the source says; chooses rules and windows
    received: datetime  #: when the house heard of it; decides about lots and stock
    member: int  #: member number, 0 for a guest
    facts: Any  #: the kind's own class, e.g. :class:`Purchase`
    others: Mapping[str, int]  #: further members that the facts name, by field, e.g. ``{"to": 4711...}``
    depth: int = 0


@attrs.frozen(kw_only=True)
class EventKind:
    """A kind of event: its public name, its facts and what the core must know to lock the right keys."""

    name: str
    facts: type[Facts]
    summary: Mapping[str, str]  #: one sentence per language
    example: Mapping[str, Any]
    plugin: str = "core"
    members: tuple[str, ...] = ()  #: facts fields that are references to other members
    guest: bool = False  #: may come without a member
    #: permission a key needs to send it; the default is the general one
    permission: str = "events.write"
    blocked: bool = False  #: happens to blocked members too: something that was set aside comes back to them

    @property
    def order_field(self) -> bool:
        """Whether the facts name an order (then the order's key is locked)."""
        return "order" in self.facts.__struct_fields__


def _kind(name: str, facts: type[Facts], en: str, zh: str, example: dict[str, Any], **more: Any) -> EventKind:
    return EventKind(name=name, facts=facts, summary={"en": en, "zh": zh}, example=example, **more)


_LINES = [
    {"sku": "COFFEE-250", "amount": 899, "quantity": 1, "department": "GROCERY", "category": "COFFEE"},
    {"sku": "MILK-1L", "amount": 258, "quantity": 2, "department": "GROCERY", "category": "MILK"},
    {"sku": "FILTER-100", "amount": 349, "discount": 50, "department": "HOUSEHOLD"},
]

#: The kinds every house knows.  Everything else is brought by plugins.
CORE_KINDS: tuple[EventKind, ...] = (
    _kind("purchase.completed", Purchase, "A sale was completed.", "完成了一笔购买。",
          {"order": "R-1001", "currency": "USD", "lines": _LINES, "store": "main-street"}, guest=True),
    _kind("purchase.refunded", Refund, "Goods of an order were returned.", "订单商品被退回（退款）。",
          {"order": "R-1001", "lines": [{"line": 0, "amount": 899}]}, guest=True),
    _kind("purchase.cancelled", Refund, "An order was cancelled: all that is left of it is returned.",
          "订单被取消，剩余部分全部退回。", {"order": "R-1001", "reason": "customer changed their mind"}, guest=True),
    _kind("order.advanced", OrderAdvanced, "An order reached a further state.", "订单进入下一状态。",
          {"order": "R-1001", "state": "delivered"}, guest=True),
    _kind("order.claimed", OrderClaimed, "A guest order was linked to a member.", "游客订单已关联到会员。",
          {"order": "R-1002"}, permission="members.write"),
    _kind("member.enrolled", Enrolled, "A person joined the programme.", "会员加入计划。",
          {"channel": "app"}, members=("invited_by",), permission="members.write"),
    _kind("member.merged", Merged, "Two members turned out to be one person.", "两个会员合并为一人。",
          {"into": "m-000000004711"}, members=("into",), permission="members.merge"),
    _kind("member.unmerged", Unmerged, "Two merged members part again.", "撤销会员合并。",
          {"entry": "1-42-0", "reason": "two sisters, one phone"}, guest=True, permission="members.merge"),
    _kind("entry.released", Decision, "A held entry was released.", "被冻结的流水已放行。",
          {"entry": "1-42-0", "reason": "receipt checked"}, guest=True, permission="holds.decide"),
    _kind("entry.voided", Decision, "A held entry was voided.", "被冻结的流水已作废。",
          {"entry": "1-42-0", "reason": "card was stolen"}, guest=True, permission="holds.decide"),
)  # fmt: skip
