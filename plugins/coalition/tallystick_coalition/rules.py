"""The rules of transfers between brands, each a function that could be printed on a poster.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from tallystick.situation import LotView

from .agreement import Agreement, Flow, exact
from .errors import ExposureReached, Mismatch, OutsideTerms
from .events import Part


class Provenance(NamedTuple):
    """Whose points these are: who made them, what one of them costs that brand, and under which agreement they came."""

    brand: str
    unit_cost: Fraction
    agreement: str

    def __str__(self) -> str:
        return f"{self.brand} {self.unit_cost} {self.agreement}"


def read_provenance(issuer: str) -> Provenance | None:
    """The provenance that a lot carries; None if the house itself made it, or somebody else wrote there.

    >>> read_provenance("grocer 1/2 grocer-fuel/3").unit_cost
    Fraction(1, 2)
    """
    words = issuer.split(" ")
    if len(words) != 3:
        return None
    try:
        return Provenance(words[0], exact(words[1]), words[2])
    except (ValueError, TypeError):
        return None


def leaving(lots: Iterable[LotView], amount: int, now: datetime, own: Provenance) -> tuple[Part, ...]:
    """What *amount* is made of when it leaves: the lots a spend takes, in its order, told by expiry and provenance.

    A lot that the house itself made gets the provenance *own*; others keep theirs.
    """
    usable = [
        lot for lot in lots if lot.left and lot.usable_from <= now and (lot.expires_at is None or lot.expires_at > now)
    ]
    usable.sort(
        key=lambda lot: (lot.expires_at is None, lot.expires_at or now, lot.usable_from)
    )  # stable: ties as they came
    found: dict[tuple[datetime | None, str], int] = {}
    for lot in usable:
        taken = min(lot.left, amount)
        amount -= taken
        if taken:
            key = (lot.expires_at, lot.issuer if read_provenance(lot.issuer) is not None else str(own))
            found[key] = found.get(key, 0) + taken
    return tuple(Part(amount=taken, expires=expires, issuer=issuer) for (expires, issuer), taken in found.items())


class Arriving(NamedTuple):
    """Points as they are opened at the target."""

    amount: int
    expires: datetime | None
    issuer: str


def arriving(parts: Sequence[Part], amount: int, flow: Flow, now: datetime) -> list[Arriving]:
    """What converted *parts* become: together exactly what the rate gives, no later expiry, the first brand's provenance.

    Raises Mismatch if the parts are not the amount, or one of them is past its time.
    """
    if sum(part.amount for part in parts) != amount:
        raise Mismatch("the parts do not add up to the amount", pointer="/data/parts")
    latest = valid_until(now, flow.valid_days)
    before, given, found = 0, 0, []
    for part in parts:
        before += part.amount
        whole = flow.gets(before)
        if part.expires is not None and part.expires <= now:
            raise Mismatch("points that have expired cannot arrive", pointer="/data/parts")
        expires = min([at for at in (part.expires, latest) if at is not None], default=None)
        if whole > given:
            found.append(Arriving(whole - given, expires, _arrived(part.issuer, flow)))
        given = whole
    return found


class Uncounted(NamedTuple):
    """What came back after it was counted for tiers: nothing that was counted goes down, so what comes next counts less."""

    points: int = 0
    spent: int = 0

    def plus(self, other: Uncounted) -> Uncounted:
        """Both together."""
        return Uncounted(self.points + other.points, self.spent + other.spent)

    def set_off(self, points: int, spent: int) -> tuple[tuple[int, int], Uncounted]:
        """What of *points* and of *spent* counts, and what is left to be set off.

        >>> Uncounted(0, 2_000).set_off(50, 5_000)
        ((50, 3000), Uncounted(points=0, spent=0))
        """
        used = min(self.points, points), min(self.spent, spent)
        return (points - used[0], spent - used[1]), Uncounted(self.points - used[0], self.spent - used[1])


def valid_until(now: datetime, days: int | None) -> datetime | None:
    """When something ends that lives so many days; None: never."""
    return None if days is None else now + timedelta(days=days)


def _arrived(issuer: str, flow: Flow) -> str:
    known = read_provenance(issuer)
    if known is None:
        raise Mismatch("a part does not say whose points they are", pointer="/data/parts")
    return str(known._replace(unit_cost=(known.unit_cost / exact(flow.rate)).limit_denominator(10**6)))


def check_amount(flow: Flow, amount: int) -> None:
    """A transfer keeps the bounds of the agreement and gives at least something.  Raises OutsideTerms."""
    if not flow.minimum <= amount <= flow.maximum:
        raise OutsideTerms(f"the agreement takes {flow.minimum} to {flow.maximum} at once", pointer="/data/amount")
    if not flow.gets(amount):
        raise OutsideTerms("this is too little to give anything", pointer="/data/amount")


def in_force(agreements: Mapping[str, Any], version: int, at: datetime, read: Any) -> Agreement:
    """The agreement of that *version*, if no later one is in force at *at*.  Raises OutsideTerms."""
    texts = {int(name): row["text"] for name, row in agreements.items()}
    later = max((number for number in texts if read(texts[number]).since <= at), default=0)
    if version != later:
        raise OutsideTerms(f"version {version} of the agreement is not the one in force", pointer="/data/version")
    found: Agreement = read(texts[version])
    return found


# --- what a brand keeps of a partner -------------------------------------------------------------------------------


class Pair(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a brand stands with a partner: what it owes under way and unpaid, today's part of it, and what is closed."""

    open: int = 0  #: minor units owed to the partner and not paid, what is held included
    day: int = 0  #: the UTC day of `used`, days since 1970
    used: int = 0  #: minor units that came to be owed on that day
    held: Mapping[str, int] = {}  #: transfers that wait for an answer, by the month they began in
    closed: str = ""  #: the last period that is closed
    paid: str = ""  #: the last period that was paid

    def holding(self, flow: Flow, owed: int, at: datetime) -> Pair:
        """With a further transfer under way.  Raises ExposureReached, or OutsideTerms if its month is closed."""
        day, month = _day(at), month_of(at)
        used = (self.used if day == self.day else 0) + owed
        if flow.open_cap is not None and self.open + owed > flow.open_cap:
            raise ExposureReached(
                f"more than {flow.open_cap} would be owed to the partner", left=max(0, flow.open_cap - self.open)
            )
        if flow.day_cap is not None and used > flow.day_cap:
            raise ExposureReached(f"more than {flow.day_cap} would be owed to the partner on one day")
        if month <= self.closed:
            raise OutsideTerms(f"the period {self.closed} is closed")
        held = {**self.held, month: self.held.get(month, 0) + 1}
        return replace(self, open=self.open + owed, day=day, used=used, held=held)

    def decided(self, owed: int, at: datetime, *, released: bool) -> Pair:
        """With one transfer less under way; what was *released* is not owed."""
        month = month_of(at)
        held = {**self.held, month: self.held.get(month, 0) - 1}
        back = owed if released else 0
        used = self.used - back if _day(at) == self.day else self.used
        left = {month: number for month, number in held.items() if number > 0}
        return replace(self, open=self.open - back, used=max(0, used), held=left)

    def document(self) -> Any:
        """As it is kept."""
        return to_builtins(self)


def month_of(at: datetime) -> str:
    """The period an instant falls into: months in UTC, the same for every brand.

    >>> month_of(datetime(2026, 6, 30, 23, 59, tzinfo=UTC))
    '2026-06'
    """
    day = at.astimezone(UTC)
    return f"{day.year:04d}-{day.month:02d}"


def _day(at: datetime) -> int:
    return at.astimezone(UTC).toordinal()


def following(period: str) -> str:
    """The period after.

    >>> following("2026-12")
    '2027-01'
    """
    year, month = int(period[:4]), int(period[5:])
    return f"{year + month // 12:04d}-{month % 12 + 1:02d}"


def period_for(now: datetime, closed: str) -> str:
    """The period in which something counts that happens now: the present month, or the first one that is not closed."""
    return max(month_of(now), following(closed) if closed else "")


def check_period(period: str, pair: Pair, first: str, now: datetime) -> None:
    """A period that a partner names is open, not before the *first* it can be, and not in the future.  Raises Mismatch."""
    if period <= pair.closed or not first <= period <= following(month_of(now)):
        raise Mismatch("this cannot count in that period", pointer="/data/period")


def returned(flow: Flow, amount: int, before: int, total: int) -> tuple[int, int]:
    """(less owed, less given) when *total* of *amount* has come back in all, *before* of it earlier; cumulatively exact."""
    owed, gets = (flow.owed, flow.gets)
    return (
        _value(owed, amount - before) - _value(owed, amount - total),
        _value(gets, amount - before) - _value(gets, amount - total),
    )


def _value(function: Any, amount: int) -> int:
    return int(function(amount)) if amount else 0
