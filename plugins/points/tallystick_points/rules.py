"""The rules of points, each a function that could be printed on a poster.  Pure: all they know comes in as arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from fractions import Fraction
from typing import Literal, NamedTuple

from tallystick.effects import Keep
from tallystick.errors import ApprovalNeeded
from tallystick.situation import LotView, Original

from .events import Adjusted
from .settings import Band, Redeem

Status = Literal["applied", "reduced", "below_minimum", "limit_reached"]


def points_for(basis: int, points: int, per: int) -> int:
    """*points* for every *per* minor units of *basis*; the remainder is rounded down.

    >>> points_for(1999, 1, 100), points_for(4000, 3, 100)
    (19, 120)
    """
    return basis * points // per


def progressive(basis: int, before: int, bands: Sequence[Band]) -> int:
    """Each part of *basis* earns by the band it falls into, after *before* has been spent; rounded down once.

    >>> bands = [Band(start=0, points=1, per=100), Band(start=500_000, points=12, per=1000)]
    >>> progressive(300_000, 400_000, bands)
    3400
    """
    before = max(0, before)
    after = before + basis
    total = Fraction(0)
    for place, band in enumerate(bands):
        end = bands[place + 1].start if place + 1 < len(bands) else after
        inside = min(after, end) - max(before, band.start)
        if inside > 0:
            total += Fraction(inside * band.points, band.per)
    return total.numerator // total.denominator


class Payment(NamedTuple):
    """What paying with points comes to."""

    points: int  #: how many are spent; 0 if it cannot be done
    discount: int  #: what they are worth, in minor units
    status: Status
    by: str = ""  #: what made it fewer than asked for: balance, share, maximum, limit or step


def payment(
    wanted: int,
    usable: int,
    redeem: Redeem,
    *,
    total: int | None = None,
    left: int | None = None,
    times_left: bool = True,
) -> Payment:
    """Pay with as many points as wanted, held, and allowed; whole steps only; nothing at all below the minimum.

    *total* is what the order costs in minor units, *left* how many points the member's limits still allow.

    >>> by_hundreds = Redeem(points=100, gives=500, step=100)
    >>> payment(1050, 5000, by_hundreds)
    Payment(points=1000, discount=5000, status='reduced', by='step')
    """
    if not times_left:
        return Payment(0, 0, "limit_reached", "limit")
    bounds = {"wanted": wanted, "balance": max(0, usable)}
    if total is not None:
        money = total * redeem.share.numerator // redeem.share.denominator
        bounds["share"] = money * redeem.points // redeem.gives
    if redeem.maximum is not None:
        bounds["maximum"] = redeem.maximum
    if left is not None:
        bounds["limit"] = max(0, left)
    by = min(bounds, key=lambda bound: bounds[bound])
    points = bounds[by] - bounds[by] % redeem.step
    if by == "wanted" and points < wanted:
        by = "step"
    if points == 0 or points < redeem.minimum:
        if by == "limit" and bounds["limit"] < max(redeem.step, redeem.minimum):
            return Payment(0, 0, "limit_reached", by)
        return Payment(0, 0, "below_minimum", "minimum" if by in ("wanted", "step") else by)
    return Payment(
        points, points * redeem.gives // redeem.points, *(("reduced", by) if points < wanted else ("applied", ""))
    )


def check_approval(adjusted: Adjusted, approve_above: int | None) -> None:
    """An adjustment above the limit needs a second person, who is not the first.  Raises ApprovalNeeded otherwise."""
    if approve_above is None or abs(adjusted.points) <= approve_above:
        return
    if not adjusted.approved_by:
        raise ApprovalNeeded(
            f"an adjustment of {adjusted.points} is above {approve_above}; a second person must approve it",
            pointer="/data/approved_by", limit=approve_above,
        )  # fmt: skip
    if adjusted.approved_by.strip().casefold() == adjusted.by.strip().casefold():
        raise ApprovalNeeded(
            f"an adjustment of {adjusted.points} is above {approve_above}; the one who makes it cannot approve it",
            pointer="/data/approved_by", limit=approve_above,
        )  # fmt: skip


def kept(original: Original, returned_on: date, last_day: date) -> list[Keep]:
    """Points of an order that comes back after the *last_day* are the member's to keep."""
    if returned_on <= last_day:
        return []
    return [
        Keep(rule="points.refund", of_rule=rule, unit=unit, amount=amount)
        for rule, unit, amount in original.granted
        if rule.startswith("points.") and amount > 0
    ]


class Expiring(NamedTuple):
    """One batch of points that is going to expire."""

    expires_at: datetime
    points: int
    lot: str


def expiring_soon(lots: Iterable[LotView], now: datetime, until: datetime) -> list[Expiring]:
    """Every batch that expires after *now* and not later than *until*; the earliest first, then as they are given."""
    soon = [
        Expiring(lot.expires_at, lot.left, lot.lot)
        for lot in lots
        if lot.left > 0 and lot.expires_at is not None and now < lot.expires_at <= until
    ]
    return sorted(soon, key=lambda batch: batch.expires_at)
