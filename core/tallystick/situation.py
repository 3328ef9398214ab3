"""What a rule may know: filled once under the locks, before any plugin runs, from what plugins declared they need."""

from __future__ import annotations

import hmac
from calendar import isleap
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal
from zoneinfo import ZoneInfo

import attrs
from msgspec import Struct

#: Counter windows in the programme's zone; ``P30D`` means the last thirty local days, today included.
Window = str
CALENDAR_WINDOWS = ("day", "week", "month", "quarter", "half", "year", "lifetime")

_EPOCH, _FAR = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
Rounding = Literal["floor", "half_up", "half_even", "ceil"]
Shortfall = Literal["negative", "within_balance", "pending_only"]


@attrs.frozen(kw_only=True)
class Unit:
    """Something the ledger counts: points, tier credit, stamps, stored value."""

    name: str
    decimals: int = 0  #: digits shown after the point; the ledger counts the smallest unit
    rounding: Rounding = "floor"  #: applied once, to the total of one event in this unit
    shortfall: Shortfall = "negative"  #: what happens when more is taken back than is left
    shortfall_limit: int | None = None  #: the deepest deficit `negative` may open
    grace_days: int = 0  #: how long points given back into an expired lot stay usable
    plugin: str = ""  #: who declared it


@attrs.frozen(kw_only=True)
class Programme:
    """A tenant's programme as one generation sees it."""

    tenant: str
    generation: int
    hash: str  #: content hash of the checked settings
    zone: ZoneInfo
    currency: str
    units: Mapping[str, Unit]
    language: str = "en"
    birthday_29_february: Literal["02-28", "03-01"] = "02-28"
    #: exchange rates into the programme's currency: (currency, from date) -> programme minor units per foreign minor unit
    rates: Mapping[str, tuple[tuple[date, Fraction], ...]] = {}
    #: what plugins declare for all others to read, by plugin: plain data of their settings, the same for every member
    declared: Mapping[str, Any] = {}
    #: plugins that this generation has and that do not run any more: they are asked about no late event
    off: tuple[str, ...] = ()

    def unit(self, name: str) -> Unit:
        """The unit of that name; one that nobody declares any more (its plugin is off) goes by the core's own terms."""
        return self.units.get(name) or Unit(name=name)

    #: the day that was asked for last, with its first instant and that of the next: events come mostly in the order of time
    _day: list[tuple[datetime, datetime, date]] = attrs.field(
        init=False, eq=False, repr=False, factory=lambda: [(_EPOCH, _EPOCH, _EPOCH.date())]
    )

    def local_date(self, instant: datetime) -> date:
        """The programme's calendar day at *instant*."""
        begin, end, day = self._day[0]
        if begin <= instant < end:
            return day
        day = instant.astimezone(self.zone).date()
        if _EPOCH < instant < _FAR:
            begin, end = (
                datetime.combine(each, time.min, self.zone).astimezone(UTC) for each in (day, day + timedelta(days=1))
            )
            if begin <= instant < end:  # in zones that skip or repeat a midnight there is nothing to remember
                self._day[0] = begin, end, day
        return day

    def rate(self, currency: str, day: date) -> Fraction | None:
        """Programme minor units per minor unit of *currency* on *day*; None if no rate is known."""
        if currency == self.currency:
            return Fraction(1)
        known = [rate for since, rate in self.rates.get(currency, ()) if since <= day]
        return known[-1] if known else None

    def birthday(self, birthday: Birthday, year: int) -> date:
        """The day on which *birthday* is kept in *year*: 29 February has a declared day in common years."""
        if (birthday.month, birthday.day) == (2, 29) and not isleap(year):
            return date(year, 3, 1) if self.birthday_29_february == "03-01" else date(year, 2, 28)
        return date(year, birthday.month, birthday.day)


class Birthday(Struct, frozen=True):
    """Month and day; the year is nobody's business here."""

    month: int
    day: int


class Member(Struct, frozen=True):
    """What rules may know of a member.  No name, no phone, no external id."""

    number: int
    status: Literal["active", "blocked", "merged", "erased"]
    enrolled_at: datetime
    tags: tuple[str, ...] = ()
    birthday: Birthday | None = None  #: present only if a rule needs it
    tiers: Mapping[str, str] = {}  #: ladder -> tier held before this event
    language: str = ""


class Balance(Struct, frozen=True):
    """A member's balance of one unit at ``situation.now``."""

    posted: int = 0  #: sum of all transfers
    usable: int = 0  #: posted - due - pending; what can be spent now
    pending: int = 0  #: granted, not yet usable
    due: int = 0  #: expired, not yet swept
    lots: tuple[LotView, ...] = ()


class LotView(Struct, frozen=True):
    """One lot as a plugin may see it."""

    lot: str
    left: int
    usable_from: datetime
    expires_at: datetime | None
    issuer: str = ""  #: provenance: brand, unit cost and agreement, as the granting plugin wrote it


class Chance:
    """Chance drawn by the core, reproducible from the house's secret and the entry: the only randomness a hook may use."""

    __slots__ = ("_entry", "_secret", "_seed", "drawn")

    def __init__(self, secret: bytes, entry: str) -> None:
        self._secret, self._entry, self._seed = secret, entry, b""
        self.drawn = 0  #: how many draws were made; stored with the record

    @property
    def seed(self) -> bytes:
        """Thirty-two bytes nobody can guess before the entry exists; the record keeps their hash."""
        if not self._seed:
            self._seed = hmac.digest(self._secret, f"chance/{self._entry}".encode(), "sha256")
        return self._seed

    def below(self, bound: int) -> int:
        """An unbiased integer in [0, *bound*), from HMAC-SHA256 of the seed and a counter, by rejection."""
        if bound < 1:
            raise ValueError("bound must be at least 1")
        limit = (1 << 256) - (1 << 256) % bound
        while True:
            number = int.from_bytes(hmac.digest(self.seed, self.drawn.to_bytes(8, "big"), "sha256"), "big")
            self.drawn += 1
            if number < limit:
                return number % bound


class Original(Struct, frozen=True):
    """The entry that a refund or cancellation takes back, as `reverse` hooks see it."""

    entry: str
    kind: str
    at: datetime
    facts: Any
    #: (rule, unit, amount) the member gained in that entry and later entries of the same cause
    granted: tuple[tuple[str, str, int], ...]
    value: int  #: value of the order in minor units
    returned_before: int  #: of that value, returned by earlier refunds
    returned: int  #: cumulative, this refund included

    @property
    def complete(self) -> bool:
        """Whether nothing of the order is left."""
        return self.returned >= self.value


class Situation(Struct, frozen=True):
    """Everything a pure hook may look at besides the event.

    ``now`` is the received time.  ``own`` holds the plugin's own rows that its needs named: ``own[key][name]``, decoded.
    ``counters`` maps ``(name, window)`` to the value before this event.
    """

    now: datetime
    programme: Programme
    member: Member | None
    balances: Mapping[str, Balance]
    counters: Mapping[tuple[str, str], int]
    own: Mapping[str, Mapping[str, Any]]
    stock: Mapping[str, int]  #: what is left per stock key that needs named
    chance: Chance
    original: Original | None = None
    others: Mapping[int, Member] = {}
    entry: str = ""  #: the entry being written, for rules that may have to revoke it later


class Needs(Struct, frozen=True, kw_only=True):
    """What must be known before a plugin's hooks can run for one kind of event.

    Templates are filled from the event by the core: ``{member}``, ``{order}``, ``{facts.prize}``, ``{others.to}``.
    They are computed once per generation, not per event.
    """

    balances: frozenset[str] = frozenset()  #: units whose usable balance and lots are looked at or spent
    counters: frozenset[tuple[str, Window]] = frozenset()  #: (counter, window)
    #: own rows: key template -> names; the key ``{member}`` is the member's, anything else is shared by the tenant
    own: Mapping[str, frozenset[str]] = {}
    stock: frozenset[str] = frozenset()  #: stock key templates
    profile: bool = False  #: birthday and language of the member

    def __or__(self, other: Needs) -> Needs:
        keys = {*self.own, *other.own}
        return Needs(
            balances=self.balances | other.balances,
            counters=self.counters | other.counters,
            own={key: self.own.get(key, frozenset()) | other.own.get(key, frozenset()) for key in keys},
            stock=self.stock | other.stock,
            profile=self.profile or other.profile,
        )


def to_decimal(amount: int, decimals: int) -> Decimal:
    """An amount in smallest units as people read it."""
    return Decimal(amount).scaleb(-decimals)
