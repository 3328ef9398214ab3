"""What can happen to points beside purchases: they are redeemed, gifted, adjusted, and rewards are put on the shelf."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from tallystick.events import MAX_AMOUNT, Amount, Currency, Facts, Name, Points, Text

Change = Annotated[int, Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT, description="smallest unit; above 0 gives, below 0 takes")]
Pieces = Annotated[int, Meta(ge=1, le=10_000)]
Stock = Annotated[int, Meta(ge=0, le=10**9)]
Reason = Annotated[str, Meta(min_length=1, max_length=500)]


class Redeemed(Facts, frozen=True):
    """A member pays with points: for a part of an order, or for a reward of the catalogue.

    Name ``points`` for a discount, or ``reward`` for a reward; not both.
    """

    points: Points | None = None  #: how many the member wants to spend; limits may make it fewer
    reward: Text = ""  #: a reward of the catalogue
    quantity: Pieces = 1  #: how many pieces of the reward
    order: Text = ""  #: the order it pays for: a refund of that order gives the points back
    total: Amount | None = None  #: what the order costs, in its currency's minor units; bounds the discount
    currency: Currency | None = None  #: the order's currency; the programme's if absent
    store: Text = ""
    cashier: Text = ""
    device: Text = ""  #: the till's, or the member's own: what asked for it

    def __post_init__(self) -> None:
        if (self.points is None) == (not self.reward):
            raise ValueError("name points or a reward, and not both")
        if self.quantity != 1 and not self.reward:
            raise ValueError("quantity belongs to a reward")


class Gifted(Facts, frozen=True):
    """A member gives points to another one.  The points keep their expiry; nobody earns anything by it."""

    to: Name  #: the member who gets them
    points: Points
    device: Text = ""  #: what asked for it


class Adjusted(Facts, frozen=True):
    """Staff give or take points by hand.  Above the programme's limit a second person must have approved."""

    points: Change
    reason: Reason
    by: Name  #: who does it: a staff number or login, not a name
    #: the second person; over HTTP a second key sends here what the refusal to the first one said
    approved_by: Text = ""

    def __post_init__(self) -> None:
        if self.points == 0:
            raise ValueError("an adjustment of 0 points changes nothing")


class Restocked(Facts, frozen=True):
    """Pieces of a reward were put on the shelf, or counted."""

    reward: Name
    pieces: Stock
    counted: bool = False  #: the shelf was counted: *pieces* is what is there now, not what was added


class Expiring(Facts, frozen=True):
    """Points of the member expire soon: the daily job says so once for each batch, and the member is reminded."""

    until: Annotated[datetime, Meta(tz=True, description="batches that expire until then are named")]
