"""What is known while one batch is thought through: read once under the locks, changed event by event, written once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import msgspec

from .errors import OutOfStock
from .ledger import Account, Lot, OrderNote, OrderState, Record, entry_name, moment, parse_entry
from .situation import Balance, LotView, Member
from .windows import grain_of, start_of

CounterKey = tuple[int, str, str, int]  # member, counter, grain, first day


class Person:
    """A member as the batch sees it: the public view, and the key under which facts are sealed."""

    __slots__ = ("number", "secret", "view")

    def __init__(self, number: int, secret: bytes | None, view: Member) -> None:
        self.number, self.secret, self.view = number, secret, view


class OrderEntry:
    """An entry that named an order."""

    __slots__ = ("entry", "fresh", "lines", "loose", "member", "order", "returned", "role", "value", "was")

    def __init__(
        self,
        order: str,
        entry: int,
        role: str,
        member: int,
        value: int = 0,
        returned: int = 0,
        lines: str = "",
        *,
        fresh: bool = True,
    ) -> None:
        self.order, self.entry, self.role, self.member, self.value, self.returned = (
            order,
            entry,
            role,
            member,
            value,
            returned,
        )
        self.lines: dict[int, int] = {}
        self.loose = 0  #: returned as an amount, without naming lines
        if lines:
            state = msgspec.json.decode(lines)
            self.lines = {int(index): back for index, back in state.get("lines", {}).items()}
            self.loose = state.get("loose", 0)
        self.fresh = fresh
        self.was = None if fresh else self.row

    @property
    def row(self) -> tuple[str, int, str]:
        """Role, returned value and what came back of each line, as stored."""
        if not self.lines and not self.loose:
            return self.role, self.returned, ""
        state: dict[str, Any] = {}
        if self.lines:
            state["lines"] = {str(index): back for index, back in sorted(self.lines.items())}
        if self.loose:
            state["loose"] = self.loose
        return self.role, self.returned, msgspec.json.encode(state).decode()


class NotRead(Exception):
    """An entry or a stock is asked for that nobody could know of before the event was judged: read it and judge again."""

    def __init__(self, entry: int = 0, *, stock: str = "") -> None:
        super().__init__(entry or stock)
        self.entry, self.stock = entry, stock


def _put_back(where: dict[Any, Any], key: Any, value: Any) -> None:
    """Let *key* be what it was; None: nothing."""
    if value is None:
        where.pop(key, None)
    else:
        where[key] = value


class Working:
    """One tenant's state within a batch.  Every change is logged, so that a failing event leaves no trace."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.epoch = 0  #: of the lease under which it will be written
        self.people: dict[int, Person] = {}
        self.references: dict[str, int] = {}
        self.merged: dict[int, int] = {}  # member -> the member it was merged into
        self.profiles: dict[int, bytes] = {}
        self.accounts: dict[tuple[int, str], Account] = {}
        self.complete: set[int] = set()
        self.lots: dict[tuple[int, int], tuple[int, str, Lot]] = {}
        self.expired: dict[str, int] = {}  #: lot -> how much of it expired, of lots from which something is taken back
        self.opened: list[tuple[int, str, Lot]] = []  #: of these, the ones that this batch opens
        self.counters: dict[CounterKey, int] = {}
        self.counted: dict[CounterKey, int] = {}
        self.known_counters: set[str] = set()
        self.own: dict[tuple[str, str], dict[str, Any]] = {}
        self.put: dict[tuple[str, str, str], tuple[int, Any]] = {}
        self.stock: dict[str, int] = {}
        self.stocked: dict[str, int] = {}
        self.stock_set: dict[str, int] = {}
        self.orders: dict[str, list[OrderEntry]] = {}
        self.originals: dict[int, tuple[Record, bytes | None]] = {}
        self.sought: set[int] = set()  #: entries that were looked for besides
        self.taken: dict[tuple[int, int], int] = {}
        self.took: dict[tuple[int, int], int] = {}
        self.extended: list[tuple[int, int, int, str]] = []  # expires at, now, member, unit
        self._log: list[tuple[Any, ...]] = []
        # what the event at hand did to earlier entries, to orders and to shelves: its record says so
        self.took_now: list[tuple[int, int, int]] = []
        self.noted: list[tuple[OrderEntry, OrderState | None]] = []
        self.restocked: list[tuple[str, int]] = []

    # -- all or nothing ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start an event: what came before stays."""
        self._log.clear()
        self.took_now.clear()
        self.noted.clear()
        self.restocked.clear()

    def undo(self) -> None:
        """Forget everything since :meth:`begin`."""
        for kind, thing, *old in reversed(self._log):
            if kind == "item":
                _put_back(thing, *old)
            elif kind == "account":
                thing.posted, thing.deficit = old[0], old[1]
                thing.lots = old[2]
            elif kind == "count":
                key, value, added = old
                _put_back(self.counters, key, value)
                _put_back(self.counted, key, added)
            elif kind == "credit":
                thing.posted, thing.deficit = old[0], old[1]
                thing.lots.pop(old[2], None)
                self.lots.pop(old[2], None)
                self.opened.pop()
            elif kind == "lot":
                thing.left, thing.usable_from, thing.expires_at, thing.waits = old
            elif kind == "order":
                thing.role, thing.returned, thing.lines, thing.loose = old
            else:
                thing.pop()
        self._log.clear()

    def set(self, where: dict[Any, Any], key: Any, value: Any) -> None:
        """Write one item, undoably."""
        self._log.append(("item", where, key, where.get(key)))
        where[key] = value

    def touch(self, account: Account) -> Account:
        """Announce a change of *account* and its lots."""
        self._log.append(("account", account, account.posted, account.deficit, dict(account.lots)))
        for lot in account.lots.values():
            self._log.append(("lot", lot, lot.left, lot.usable_from, lot.expires_at, lot.waits))
        return account

    def touch_lot(self, lot: Lot) -> Lot:
        """Announce a change of *lot*."""
        self._log.append(("lot", lot, lot.left, lot.usable_from, lot.expires_at, lot.waits))
        return lot

    def credit(self, account: Account, lot: Lot) -> Lot:
        """Put a fresh lot into *account*, undoably; cheaper than announcing the whole account."""
        key = (lot.entry, lot.part)
        self._log.append(("credit", account, account.posted, account.deficit, key))
        held = self.lots[key] = (account.member, account.unit, lot)
        self.opened.append(held)
        return account.credit(lot)

    def original(self, entry: int) -> tuple[Record, bytes | None] | None:
        """An earlier entry; None if there is none.  Raises :class:`NotRead` until it was looked for."""
        if entry not in self.originals and entry not in self.sought:
            raise NotRead(entry)
        return self.originals.get(entry)

    # -- accounts ---------------------------------------------------------------------------------------------------

    def who(self, member: int) -> int:
        """The member that *member* answers as: itself, or whom it was merged into."""
        while member in self.merged:
            member = self.merged[member]
        return member

    def account(self, member: int, unit: str) -> Account:
        """The member's account of *unit*; an empty one if nothing was ever posted."""
        found = self.accounts.get((member, unit))
        if found is None:
            found = Account(member, unit)
            found.complete = True
            self.set(self.accounts, (member, unit), found)
        return found

    def accounts_of(self, member: int) -> list[Account]:
        """All accounts of *member*, by unit."""
        return [account for (number, _), account in sorted(self.accounts.items()) if number == member]

    def balance(self, member: int, unit: str, now: int) -> Balance:
        """A member's balance as rules see it."""
        account = self.accounts.get((member, unit))
        if account is None:
            return Balance()
        lots = sorted(account.lots.values(), key=lambda lot: (lot.expires_at, lot.entry, lot.part))
        return Balance(
            posted=account.posted,
            usable=account.usable(now),
            pending=account.pending(now),
            due=account.due(now),
            lots=tuple(
                LotView(
                    lot.name,
                    lot.left,
                    moment(min(lot.usable_from, 1 << 57)),
                    moment(lot.expires_at) if lot.expires_at < 1 << 57 else None,
                    lot.issuer,
                )
                for lot in lots
                if lot.left
            ),
        )

    def lot(self, name: str) -> tuple[int, str, Lot] | None:
        """(member, unit, lot) by the lot's name, if it was loaded."""
        entry, _, part = name.rpartition(".")
        number = parse_entry(entry)
        if number is None:
            return None
        found = self.lots.get((number, int(part)))
        if found is not None:
            # the account may hold the same lot already: there is only one object per lot
            member, unit, lot = found
            held = self.account(member, unit).lots.get(lot.key)
            return (member, unit, held or lot)
        return None

    def extend(self, account: tuple[int, str], expires_at: int, now: int) -> None:
        """Remember that the sliding lots of (member, unit) which are alive at *now* last until *expires_at*."""
        self.extended.append((expires_at, now, *account))
        self._log.append(("append", self.extended))

    # -- counters, stock, own rows -----------------------------------------------------------------------------------

    def count(self, member: int, name: str, window: str, day: date) -> int:
        """The counter's value in the window around *day*."""
        start, grain = start_of(window, day), grain_of(window)
        if window in (grain, "budget"):
            return self.counters.get((member, name, grain, start), 0)
        end = start_of("day", day)
        return sum(self.counters.get((member, name, "day", bucket), 0) for bucket in range(start, end + 1))

    def add(self, key: CounterKey, amount: int) -> None:
        """Add to a counter's bucket."""
        if amount:
            counters, counted = self.counters, self.counted
            value, added = counters.get(key), counted.get(key)
            self._log.append(("count", None, key, value, added))
            counters[key] = amount if value is None else value + amount
            counted[key] = amount if added is None else added + amount

    def take_stock(self, key: str, amount: int) -> None:
        """Take from (or, negative, put back into) a stock; never below zero."""
        left = self.stock.get(key)
        if left is None or left < amount:
            raise OutOfStock(f"nothing left of {key.partition('.')[2] or key}", stock=key, left=left or 0)
        self.set(self.stock, key, left - amount)
        self.set(self.stocked, key, self.stocked.get(key, 0) - amount)

    def add_stock(self, key: str, amount: int) -> None:
        """Put something back on its shelf, which need not have been read."""
        if key in self.stock:
            self.set(self.stock, key, self.stock[key] + amount)
        self.set(self.stocked, key, self.stocked.get(key, 0) + amount)
        self.restocked.append((key, amount))

    def set_stock(self, key: str, amount: int) -> None:
        """Set a stock to an absolute amount.  Raises :class:`NotRead` until it is known what was there."""
        if key not in self.stock:
            raise NotRead(stock=key)
        self.restocked.append((key, amount - self.stock[key]))
        self.set(self.stock, key, amount)
        self.set(self.stock_set, key, amount)

    def put_own(self, plugin: str, key: str, name: str, member: int, value: Any) -> None:
        """Write a plugin's own row; None deletes it."""
        rows = dict(self.own.get((plugin, key), {}))
        if value is None:
            rows.pop(name, None)
        else:
            rows[name] = value
        self.set(self.own, (plugin, key), rows)
        self.set(self.put, (plugin, key, name), (member, value))

    def tiers(self, member: int) -> Mapping[str, str]:
        """Ladder -> tier."""
        rows = self.own.get(("core", f"m:{member}"), {})
        return {name[5:]: row["tier"] for name, row in rows.items() if name.startswith("tier:")}

    # -- orders -----------------------------------------------------------------------------------------------------

    def order(self, order: str, *roles: str) -> list[OrderEntry]:
        """Entries that named *order*, in one of *roles*."""
        return [entry for entry in self.orders.get(order, ()) if entry.role in roles]

    def add_order(self, entry: OrderEntry) -> None:
        """A further entry names its order."""
        entries = self.orders.setdefault(entry.order, [])
        entries.append(entry)
        self._log.append(("append", entries))
        self.noted.append((entry, None))

    def touch_order(self, entry: OrderEntry) -> OrderEntry:
        """Announce a change of *entry*."""
        self.noted.append((entry, entry.row))
        self._log.append(("order", entry, entry.role, entry.returned, dict(entry.lines), entry.loose))
        return entry

    def take(self, entry: int, place: int, amount: int) -> None:
        """Remember that *amount* of a gain was taken back."""
        key = (entry, place)
        self.set(self.taken, key, self.taken.get(key, 0) + amount)
        self.set(self.took, key, self.took.get(key, 0) + amount)
        self.took_now.append((entry, place, amount))

    def notes(self) -> tuple[OrderNote, ...]:
        """What the event at hand did to orders."""
        seen: set[int] = set()
        notes = []
        for row, was in self.noted:
            if id(row) not in seen:  # the first word on a row says how it was
                seen.add(id(row))
                if was != row.row:
                    notes.append((row.order, entry_name(row.entry), row.member, row.value, was, row.row))
        return tuple(notes)

    def fill_lots(self, rows: Iterable[tuple[Any, ...]], *, whole: bool) -> None:
        """Take over lots of people who are locked; *whole*: these are all lots with something left."""
        for member, unit, entry, part, amount, remaining, usable_from, expires_at, sliding, waits, issuer in rows:
            account = self.accounts.get((member, unit))
            if account is None:
                account = self.accounts[member, unit] = Account(member, unit)
            lot = account.lots.get((entry, part))
            if lot is None:
                lot = Lot(entry, part, amount, remaining, usable_from, expires_at, bool(sliding), waits, issuer)
                if remaining or not whole:
                    account.lots[entry, part] = lot
            self.lots[entry, part] = (member, unit, lot)
