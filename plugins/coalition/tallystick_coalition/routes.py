"""What apps and tills ask: link a member with a partner, convert points, pay and earn at partners, read statements."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from tallystick import errands
from tallystick.errors import NotFound, Unavailable
from tallystick.values import CURRENCIES

from . import exchange, pages
from .agreement import Brand
from .desk import Desk, partner_of
from .events import Alias, Amount, Id, Period, Text
from .exchange import Done, Unreachable
from .hooks import Coalition
from .settle import Entry

Request: TypeAlias = errands.Request[Coalition]


class Link(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The member agrees to be known to a partner, or takes that back."""

    partner: Brand
    alias: Alias | None = (
        None  #: the code the member has from the partner; without it the member gets one to take there
    )
    given: bool = True


class Code(Struct, frozen=True):
    """The code by which the partner knows the member."""

    alias: str


class Convert(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points of this brand become points of the partner."""

    transfer: Id  #: chosen by the caller: asked again with the same one, nothing more happens
    partner: Brand
    points: Amount


class Pay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody pays here with points of the partner."""

    transfer: Id
    partner: Brand
    alias: Alias
    points: Amount
    order: Text = ""  #: what is paid for; a refund of it gives the points back


class Earn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody bought here and earns points of the partner."""

    transfer: Id
    partner: Brand
    alias: Alias
    amount: Annotated[int, Meta(ge=1, le=10**12, description="minor units")]


class Month(Struct, frozen=True, forbid_unknown_fields=True):
    """Which statement."""

    partner: Brand
    period: Period


class Statement(Struct, frozen=True, kw_only=True):
    """A statement as it is signed, and the entries that make it."""

    brand: str
    text: str  #: canonical JSON; the partner has the same bytes
    signature: str
    entries: list[Entry]


def link(request: Request, body: Link) -> Code:
    """Link the member with a partner, or take that back; from then on nothing is shared."""
    partner_of(Desk(request), body.partner)
    return Code(Desk(request).link(body.partner, request.member, body.alias or "", given=body.given))


def convert(request: Request, body: Convert) -> Done:
    """Convert points of the member; `held` says that the partner has not answered yet."""
    desk = Desk(request)
    partner = partner_of(desk, body.partner)
    return exchange.send(
        desk, partner, transfer=body.transfer, kind="convert", amount=body.points, member=request.member
    )


def pay(request: Request, body: Pay) -> Done:
    """Take points of a partner as payment; `gets` is the discount in minor units."""
    desk = Desk(request)
    partner = partner_of(desk, body.partner)
    try:
        return exchange.take(
            desk, partner, transfer=body.transfer, alias=body.alias, points=body.points, order=body.order
        )
    except Unreachable:
        raise Unavailable("the partner does not answer; nothing was taken") from None


def earn(request: Request, body: Earn) -> Done:
    """Let somebody earn points of a partner for a purchase here."""
    desk = Desk(request)
    partner = partner_of(desk, body.partner)
    return exchange.send(desk, partner, transfer=body.transfer, kind="earn", amount=body.amount, alias=body.alias)


def statement(request: Request, query: Month) -> Statement:
    """The statement of a period with a partner, from our own books, and what makes it."""
    desk = Desk(request)
    signed = desk.sign(desk.draw_up(query.partner, query.period))
    return Statement(
        brand=signed.brand,
        text=signed.text,
        signature=signed.signature,
        entries=desk.list_entries(query.partner, query.period),
    )


def page(request: Request, query: Month) -> str:
    """The statement as a page."""
    desk = Desk(request)
    found = desk.find(query.partner, query.period)
    if found is None:
        raise NotFound("no statement was made of this period")
    drawn = desk.draw_up(query.partner, query.period)
    entries = desk.list_entries(query.partner, query.period)
    return pages.to_html(drawn, entries, found.state, CURRENCIES.get(drawn.currency, 2), request.language)
