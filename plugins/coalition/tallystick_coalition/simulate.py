"""A coalition played in memory from a seed: the real rules and the real exchange over a bad net, with wrong clocks and a cheat.

Everything is drawn from the seed: the same seed plays the same, anywhere.  What must hold is checked after every step and,
once the net is good again, to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from hashlib import sha256
from itertools import combinations
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from tallystick.effects import Bonus, Count, Effect, Put, Restore, Revoke, Spend
from tallystick.errors import EventConflict, TallyError
from tallystick.events import Event
from tallystick.ledger import NEVER, Account, Lot, entry_name, entry_number, instant, moment
from tallystick.situation import Balance, Chance, LotView, Member, Programme, Situation, Unit

from . import agreement as agreements
from . import events, exchange, settle
from .agreement import Agreement, Flow
from .errors import OutsideTerms
from .exchange import Answer, Message, Unreachable, receive
from .hooks import AGREEMENTS as AGREED
from .hooks import ALIAS, MEMBER, ORDER, PAIR, TRANSFER, Coalition
from .rules import following, month_of
from .settings import Partner, Settings
from .store import OWED

START: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
UNIT: Final = Unit(name="points", plugin="points")
MEMBERS: Final = 3
#: Minor units that a brand may owe a partner; small, so that it matters.
OPEN_CAP: Final = 400
#: Rounds of asking after which everything must have come to an end.
PATIENCE: Final = 8
_FACTS: Final = {
    f"coalition.{facts.__name__.lower()}": facts
    for facts in (
        events.Agreed, events.Consented, events.Held, events.Committed, events.Voided, events.Confirmed, events.Released,
        events.Returned, events.Closed, events.Paid,
    )
}  # fmt: skip


class Broken(Exception):
    """Something does not hold that must."""


class Killed(BaseException):
    """The process that said something dies before it hears the answer."""


class Played(Struct, frozen=True, kw_only=True):
    """What a seed came to."""

    seed: int
    messages: int
    lost: int
    transfers: int
    confirmed: int
    released: int
    forged: int  #: what the cheat tried
    disputes: int  #: pairs whose books differ in the end: the cheat's
    digest: str  #: of everything that was recorded: equal for equal seeds


class Brand:
    """A brand's books in memory: what the house does with the plugin's effects, as far as the plugin uses it."""

    def __init__(self, name: str, others: Sequence[str], world: World, drift: timedelta) -> None:
        self.brand, self._world, self._drift = name, world, drift
        settings = Settings(
            brand=name,
            unit_cost=Fraction(1, 2),
            partners={other: Partner(name=other, tenant=other) for other in others},
        )
        self.programme = Programme(
            tenant=name, generation=1, hash="", zone=ZoneInfo("UTC"), currency="USD", units={"points": UNIT}
        )
        self.plugin = Coalition(settings, self.programme)
        self.accounts = {number: Account(number, "points") for number in range(1, MEMBERS + 1)}
        self.own: dict[str, dict[str, Any]] = {}
        self.counters: dict[tuple[int, str, int], int] = {}
        self.known: dict[str, tuple[bytes, Mapping[str, Any]]] = {}
        self.books: list[tuple[str, str, settle.Entry]] = []  #: partner, period, entry
        self.taken: dict[str, list[tuple[Lot, int]]] = {}  #: what a hold took and has not come back, in its order
        self.given: dict[str, list[Lot]] = {}  #: what an entry gave
        self.made = self.cleared = 0  #: points made here or arrived, less those taken back; points gone to partners
        self.returns: list[
            tuple[str, str, int, int, str]
        ] = []  #: partner, transfer, total, before, period: not yet told
        self._count = 0

    @property
    def now(self) -> datetime:
        """What this brand's clock says."""
        return self._world.now + self._drift

    def rows(self, key: str) -> Mapping[str, Any]:
        """Own rows."""
        return self.own.get(key, {})

    def statement(self, partner: str, period: str) -> str:
        """Drawn up from the books."""
        drawn = self.drawn(partner, period)
        return msgspec.json.encode(settle.sign(drawn, self.brand, self._world.keys[self.brand])).decode()

    def untold(self, partner: str, period: str) -> int:
        """Returns that the partner has not heard of."""
        return len([told for told in self.returns if told[0] == partner and told[-1] <= period])

    def drawn(self, partner: str, period: str) -> settle.Statement:
        """The statement itself."""
        return settle.draw_up((self.brand, partner), period, "USD", self.listed(partner, period))

    def listed(self, partner: str, period: str) -> list[settle.Entry]:
        """The entries of a period."""
        return [entry for who, when, entry in self.books if (who, when) == (partner, period)]

    def entries(self, partner: str, period: str) -> str:
        """The same as JSON."""
        return msgspec.json.encode(self.listed(partner, period)).decode()

    def introduction(self, partner: str) -> str:  # noqa: ARG002 - nobody asks in the play
        """Nothing."""
        return ""

    def gives(self, member: int, points: int, days: int | None) -> None:
        """Points are earned."""
        end = NEVER if days is None else instant(self.now + timedelta(days=days))
        self._count += 1
        self.accounts[member].credit(Lot(self._number(), 0, points, points, instant(self.now), end))
        self.made += points

    # -- what the house does ------------------------------------------------------------------------------------------------

    def record(self, kind: str, id: str, at: datetime, member: int, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """One event, all or nothing; the same event again is answered as before."""
        claims = msgspec.json.encode([kind, at, member, data], order="deterministic")
        if id in self.known:
            if self.known[id][0] != claims:
                raise EventConflict(id)
            return self.known[id][1]
        if at - self.now > timedelta(minutes=5):
            raise OutsideTerms("from the future")
        self._count += 1
        effects = self._asked(kind, id, at, member, data)
        self._apply(effects, member)
        told: Mapping[str, Any] = next(
            (effect.data for effect in effects if isinstance(effect, Spend) and effect.data), {}
        )
        self._note(told)
        self.known[id] = (claims, told)
        self._world.saw(self.brand, id, told)
        return told

    def _asked(self, kind: str, id: str, at: datetime, member: int, data: Mapping[str, Any]) -> Sequence[Effect]:
        facts = msgspec.convert(data, type=_FACTS[kind])
        event = Event(
            tenant=self.brand,
            id=id,
            source="coalition",
            kind=kind,
            at=at,
            received=self.now,
            member=member,
            facts=facts,
            others={},
        )
        rooms = (PAIR, AGREED, TRANSFER, ALIAS) if hasattr(facts, "partner") else ()
        own = {
            template: self.rows(template.format(facts=facts))
            for template in rooms
            if all(hasattr(facts, name) for name in ("transfer", "alias") if f".{name}" in template)
        }
        own[MEMBER] = self.rows(f"m:{member}")
        own[ORDER] = self.rows(f"order/{getattr(facts, 'order', '')}")
        account = self.accounts.get(member)
        lots = account.lots.values() if account is not None else ()
        now = instant(self.now)
        views = [
            LotView(lot.name, lot.left, moment(lot.usable_from), None if lot.expires_at == NEVER else moment(lot.expires_at), lot.issuer)
            for lot in sorted(lots, key=lambda lot: (lot.expires_at, lot.usable_from, lot.entry))
        ]  # fmt: skip
        usable = account.usable(now) if account is not None else 0
        day = self.now.toordinal()
        situation = Situation(
            now=self.now, programme=self.programme,
            member=Member(member, "active", START) if account is not None else None,
            balances={"points": Balance(usable=usable, lots=tuple(views))},
            counters={(name, "day"): n for (who, name, when), n in self.counters.items() if (who, when) == (member, day)},
            own=MappingProxyType(own), stock={}, chance=Chance(b"", ""), entry=entry_name(self._number()),
        )  # fmt: skip
        return self.plugin.redeem(event, situation)

    def _apply(self, effects: Sequence[Effect], member: int) -> None:
        name = entry_name(self._number())
        for effect in effects:
            match effect:
                case Spend() if effect.amount:
                    self.taken[name] = self.accounts[member].spend(effect.amount, instant(self.now))
                    self.cleared += effect.amount
                case Bonus():
                    end = NEVER if effect.expires_at is None else instant(effect.expires_at)
                    lot = Lot(self._number(), len(self.given.get(name, ())), effect.amount, effect.amount, instant(self.now), end,
                              issuer=effect.issuer)  # fmt: skip
                    self.accounts[member].credit(lot)
                    self.given.setdefault(name, []).append(lot)
                    self.made += effect.amount
                case Restore():
                    self._restore(effect, member)
                case Revoke():
                    own = [lot.key for lot in self.given[effect.entry]]
                    parts, opened = self.accounts[member].take_back(effect.amount or 0, instant(self.now), UNIT, own)
                    self.made -= sum(amount for _, amount in parts) + opened
                case Count():
                    key = (member, effect.counter, self.now.toordinal())
                    self.counters[key] = self.counters.get(key, 0) + effect.amount
                case Put():
                    key_ = effect.key.replace("{member}", f"m:{member}")
                    rows = {**self.own.get(key_, {}), effect.name: effect.value}
                    self.own[key_] = {name: value for name, value in rows.items() if value is not None}
                case _:
                    pass

    def _restore(self, effect: Restore, member: int) -> None:
        spent = self.taken[effect.entry]
        left = sum(amount for _, amount in spent) if effect.amount is None else effect.amount
        while left:
            lot, amount = spent.pop()
            back = min(left, amount)
            self.accounts[member].give_back(lot, back)
            self.cleared -= back
            left -= back
            if amount > back:
                spent.append((lot, amount - back))

    def _note(self, told: Mapping[str, Any]) -> None:
        if told.get("act") in OWED:
            entry = settle.Entry(
                n=told.get("n", 0), **{name: told[name] for name in settle.Entry._fields if name != "n"}
            )
            self.books.append((told["partner"], told["period"], entry))
            if told["act"] == "returned" and told["role"] == "target":
                self.returns.append((told["partner"], told["transfer"], told["n"], told["before"], told["period"]))

    def _number(self) -> int:
        return entry_number(1, self._count + 1, 0)

    # -- what must hold ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Nothing below zero, nothing above its cap, no point made or lost."""
        if any(lot.left < 0 for account in self.accounts.values() for lot in account.lots.values()):
            raise Broken(f"{self.brand}: a lot below zero")
        if sum(account.posted for account in self.accounts.values()) != self.made - self.cleared:
            raise Broken(f"{self.brand}: points were made or lost")
        for key, rows in self.own.items():
            if key.startswith("pair/") and rows.get("state", {}).get("open", 0) > OPEN_CAP:
                raise Broken(f"{self.brand}: owes more than the cap to {key}")


class Net:
    """The way from one brand to another: messages and answers are lost, repeated, kept for later; who speaks may die."""

    def __init__(self, world: World, speaker: str, name: str) -> None:
        self.name, self._world, self._speaker = name, world, speaker

    def ask(self, message: Message) -> Answer:
        """Say something, perhaps in vain."""
        world = self._world
        world.messages += 1
        books = world.brands[self.name]
        fate = world.dice(100) if world.bad else 99
        world.heard.append((self.name, message))
        if fate < 12:
            world.lost += 1
            raise Unreachable
        if fate < 20:
            world.later.append((self.name, message))
            world.lost += 1
            raise Unreachable
        answer = receive(books, message)
        if fate < 32:
            world.lost += 1
            raise Unreachable
        if fate < 40:
            again = receive(books, message)
            if answer.state not in {"refused", again.state}:
                raise Broken(f"{self.name} answered {answer.state}, then {again.state}")
        if fate < 44:
            raise Killed
        return answer


class World:
    """Some brands, their agreements, members known to all of them, and one brand that cheats."""

    def __init__(self, seed: int, brands: int) -> None:
        chance = Chance(f"simulate/{seed}".encode(), "1")
        self.dice: Callable[[int], int] = chance.below
        self.seed, self.now, self.bad = seed, START, True
        self.messages = self.lost = self.forged = self.transfers = 0
        self.later: list[tuple[str, Message]] = []
        self.heard: list[tuple[str, Message]] = []
        self.trace = sha256()
        names = [f"brand-{number}" for number in range(brands)]
        self.cheat = names[-1]
        self.keys = {name: agreements.new_key(sha256(f"simulate/{name}".encode()).digest()) for name in names}
        # most clocks are a little off; one may be off by days
        drifts = [timedelta(seconds=self.dice(240) - 120) for _ in names]
        if self.dice(2):
            drifts[self.dice(brands)] = timedelta(hours=self.dice(96) - 48)
        self.brands = {
            name: Brand(name, [other for other in names if other != name], self, drift)
            for name, drift in zip(names, drifts, strict=True)
        }
        for one, two in combinations(names, 2):
            self._agree(one, two)
        for brand in self.brands.values():
            for member in brand.accounts:
                for days in (None, 5, 40):
                    brand.gives(member, 200 + self.dice(400), days)
                for other in self.brands:
                    if other != brand.brand:
                        self.consent(brand, other, member)

    def _agree(self, one: str, two: str) -> None:
        flows = []
        for source, target in ((one, two), (two, one)):
            for kind, rate in (("convert", ("1/2", "2/3", "1")[self.dice(3)]), ("redeem", "1"), ("earn", "1/10")):
                document = {
                    "kind": kind, "source": source, "target": target, "rate": rate, "price": ("1/2", "2/3", "1")[self.dice(3)],
                    "price_for": ("source", "target")[self.dice(2)], "open_cap": OPEN_CAP, "day_cap": 300, "member_day": 300,
                }  # fmt: skip
                flows.append(msgspec.convert(document, type=Flow))
        made = Agreement(
            format="tallystick-agreement/1", name=f"{one}-{two}", version=1, brands=(one, two), currency="USD",
            keys={brand: (agreements.public_key(self.keys[brand]),) for brand in (one, two)},
            since=datetime(2026, 1, 1, tzinfo=UTC), flows=tuple(flows),
        )  # fmt: skip
        text = agreements.canonical(made)
        signatures = {
            brand: agreements.sign(self.keys[brand], agreements.PURPOSE, text.encode()) for brand in (one, two)
        }
        for brand, partner in ((one, two), (two, one)):
            books = self.brands[brand]
            books.record(
                "coalition.agreed", partner, books.now, 0, {"partner": partner, "text": text, "signatures": signatures}
            )

    @staticmethod
    def alias(one: str, two: str, member: int) -> str:
        """The code of a member between two brands: the member is the same person at both."""
        found = sha256(f"{min(one, two)}/{max(one, two)}/{member}".encode()).hexdigest()[:20]
        return found.translate(str.maketrans("0189", "wxyz"))

    def consent(self, brand: Brand, partner: str, member: int, *, given: bool = True) -> None:
        """The member agrees to be known, or takes it back."""
        alias = self.alias(brand.brand, partner, member)
        brand.record(
            "coalition.consented", f"consent/{partner}/{member}/{brand._count}", brand.now, member,  # noqa: SLF001 - a number never used before
            {"partner": partner, "alias": alias, "given": given},
        )  # fmt: skip

    def saw(self, brand: str, id: str, told: Mapping[str, Any]) -> None:
        """What happened goes into the digest of the play."""
        self.trace.update(msgspec.json.encode([brand, id, told], order="deterministic"))

    # -- what happens -------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One thing happens; then everything is checked that must always hold."""
        one, two = self._two()
        acts = (
            self._convert,
            self._convert,
            self._pay,
            self._pay,
            self._earn,
            self._back,
            self._ask,
            self._time,
            self._late,
            self._forge,
            self._mind,
        )
        with suppress(TallyError, Unreachable, Killed):  # refused, or nobody knows: that is what is played
            acts[self.dice(len(acts))](self.brands[one], two)
        for brand in self.brands.values():
            brand.check()

    def _two(self) -> tuple[str, str]:
        names = list(self.brands)
        one = self.dice(len(names))
        return names[one], names[(one + 1 + self.dice(len(names) - 1)) % len(names)]

    def _id(self) -> str:
        self.transfers += 1
        return f"t-{self.seed}-{self.transfers:06d}"

    def _convert(self, brand: Brand, partner: str) -> None:
        member, amount = 1 + self.dice(MEMBERS), 1 + self.dice(250)
        exchange.send(
            brand, Net(self, brand.brand, partner), transfer=self._id(), kind="convert", amount=amount, member=member
        )

    def _pay(self, brand: Brand, partner: str) -> None:
        alias, amount = self.alias(brand.brand, partner, 1 + self.dice(MEMBERS)), 1 + self.dice(250)
        exchange.take(brand, Net(self, brand.brand, partner), transfer=self._id(), alias=alias, points=amount)

    def _earn(self, brand: Brand, partner: str) -> None:
        alias, amount = self.alias(brand.brand, partner, 1 + self.dice(MEMBERS)), 1 + self.dice(2_000)
        exchange.send(
            brand, Net(self, brand.brand, partner), transfer=self._id(), kind="earn", amount=amount, alias=alias
        )

    def _back(self, brand: Brand, partner: str) -> None:
        """Something that was paid or earned is returned, in part or whole."""
        found = [
            (key.rpartition("/")[2], row)
            for key, rows in brand.own.items()
            if key.startswith(f"transfer/{partner}/") and (row := rows["state"])["state"] == "committed" and row["kind"] != "convert"
        ]  # fmt: skip
        if found:
            transfer, row = found[self.dice(len(found))]
            if row["returned"] < row["amount"]:
                total = row["returned"] + 1 + self.dice(row["amount"] - row["returned"])
                exchange.give_back(brand, Net(self, brand.brand, partner), transfer=transfer, total=total)

    def _ask(self, brand: Brand, _: str) -> None:
        self.asks(brand)

    def asks(self, brand: Brand) -> int:
        """The job: ask about what is held, tell what came back; how much still waits."""
        waits = 0
        for key, rows in list(brand.own.items()):
            row = rows.get("state", {})
            if key.startswith("transfer/") and row.get("state") == "held" and row["source"] == brand.brand:
                try:
                    exchange.resolve(brand, Net(self, brand.brand, row["target"]), key.rpartition("/")[2])
                except (Unreachable, TallyError):
                    waits += 1
        for told in list(brand.returns):
            partner, transfer, total, before, period = told
            try:
                if exchange.tell_return(brand, Net(self, brand.brand, partner), transfer, total, before, period):
                    brand.returns.remove(told)
                else:
                    waits += 1
            except (Unreachable, TallyError):
                waits += 1
        return waits

    def _time(self, _: Brand, __: str) -> None:
        self.now += (timedelta(seconds=self.dice(600)), timedelta(hours=self.dice(48)))[self.dice(2)]

    def _late(self, _: Brand, __: str) -> None:
        """A message that was under way arrives, or one that was heard long ago comes again."""
        if self.later and self.dice(2):
            name, message = self.later.pop(self.dice(len(self.later)))
        elif self.heard:
            name, message = self.heard[self.dice(len(self.heard))]
        else:
            return
        receive(self.brands[name], message)

    def _mind(self, brand: Brand, partner: str) -> None:
        """A member takes consent back, or thinks again."""
        member = 1 + self.dice(MEMBERS)
        self.consent(brand, partner, member, given=f"alias:{partner}" not in brand.rows(f"m:{member}"))

    def _forge(self, brand: Brand, _: str) -> None:
        """The cheat says what is not so: other amounts, other owed, other periods, codes that are nobody's."""
        if brand.brand == self.cheat or not self.heard:
            return
        _name, message = self.heard[self.dice(len(self.heard))]
        changed: dict[str, Any] = {"sender": self.cheat, "at": brand.now}
        match self.dice(5):
            case 0:
                changed |= {"action": "confirm", "owed": message.owed + 1, "period": "2026-06"}
            case 1:
                changed |= {"action": "return", "total": 10**6, "period": "2026-06"}
            case 2:
                changed |= {"action": "hold", "kind": "redeem", "alias": "a" * 20, "amount": 100, "version": 1}
            case 3:
                changed |= {"action": "commit", "kind": "convert", "amount": 100, "version": 2, "alias": message.alias}
            case _:
                changed |= {"action": "confirm", "owed": message.owed, "period": "2025-01"}
        before = (brand.made, brand.cleared, [account.posted for account in brand.accounts.values()], len(brand.books))
        transfer = message.transfer or "t-nothing-at-all"
        answer = receive(brand, msgspec.structs.replace(message, **{**changed, "transfer": transfer}))
        self.forged += 1
        if answer.state not in ("refused", "returned", "confirmed"):
            raise Broken(f"{brand.brand} was fooled: {answer.state}")
        if before != (
            brand.made,
            brand.cleared,
            [account.posted for account in brand.accounts.values()],
            len(brand.books),
        ):
            raise Broken(f"a claim of {self.cheat} moved something at {brand.brand}")

    # -- the end ------------------------------------------------------------------------------------------------------------

    def ends(self) -> int:
        """The net is good again: everything comes to an end, the books agree, and a cheat's book is disputed; how many are."""
        self.bad = False
        for name, message in self.later:
            receive(self.brands[name], message)
        for _ in range(PATIENCE):
            if not sum([self.asks(brand) for brand in self.brands.values()]):
                break
        else:
            raise Broken("something still waits for an answer")
        for brand in self.brands.values():
            brand.check()
        self._on_both_sides_or_on_neither()
        return self._settles()

    def _on_both_sides_or_on_neither(self) -> None:
        for brand in self.brands.values():
            for key, rows in brand.own.items():
                if not key.startswith("transfer/"):
                    continue
                _, partner, transfer = key.split("/")
                row = rows["state"]
                other = self.brands[partner].rows(f"transfer/{brand.brand}/{transfer}").get("state", {})
                match row["state"]:
                    case "confirmed" | "committed":
                        wanted = "committed" if row["state"] == "confirmed" else "confirmed"
                        same = all(
                            row[name] == other.get(name) for name in ("amount", "gets", "owed", "period", "returned")
                        )
                        if other.get("state") != wanted or not same:
                            raise Broken(f"{transfer}: {row['state']} at {brand.brand}, {other} at {partner}")
                    case "released" | "voided":
                        if other.get("state", "voided") not in ("released", "voided"):
                            raise Broken(f"{transfer}: {row['state']} at {brand.brand}, {other['state']} at {partner}")
                    case state:
                        raise Broken(f"{transfer}: still {state} at {brand.brand}")

    def _settles(self) -> int:
        """Every month, between all: equal statements where nobody cheats, a dispute with proofs where somebody does."""
        disputes = 0
        last = month_of(max(brand.now for brand in self.brands.values()) + timedelta(days=40))
        self.now += timedelta(days=80)
        honest = [name for name in self.brands if name != self.cheat]
        period = month_of(START - timedelta(days=5))
        while period <= last:
            owed: dict[tuple[str, str], int] = {}
            for one, two in combinations(self.brands, 2):
                exchange.close(self.brands[one], two, period)
                receive(self.brands[two], Message(action="close", sender=one, at=self.now, period=period))
                ours, theirs = self.brands[one].listed(two, period), self.brands[two].listed(one, period)
                if self.cheat == two and theirs:  # the cheat claims more, and signs it
                    theirs = [theirs[0]._replace(owed=theirs[0].owed + 1), *theirs[1:]]
                mine, yours = (settle.draw_up((one, two), period, "USD", entries) for entries in (ours, theirs))
                found = settle.differences(ours, theirs)
                if two in honest and (found or mine != yours):
                    raise Broken(f"{one} and {two} differ in {period}: {found}")
                for each in found:
                    disputes += 1
                    roots = (each.ours.leads_to() if each.ours else "", each.theirs.leads_to() if each.theirs else "")
                    if roots != (mine.root, yours.root):
                        raise Broken("a proof proves nothing")
                if not found:
                    owed |= settle.matrix(ours)
            net = settle.positions(owed)
            if sum(net.values()) or len(settle.payments(net)) > max(0, len(self.brands) - 1):
                raise Broken("positions do not sum to zero")
            period = following(period)
        return disputes


def play(seed: int, brands: int = 4, steps: int = 60) -> Played:
    """Play one seed.  Raises Broken with what does not hold."""
    world = World(seed, brands)
    for _ in range(steps):
        world.step()
    disputes = world.ends()
    states = [
        rows["state"]["state"]
        for brand in world.brands.values()
        for key, rows in brand.own.items()
        if key.startswith("transfer/")
    ]
    return Played(
        seed=seed, messages=world.messages, lost=world.lost, transfers=world.transfers, confirmed=states.count("confirmed"),
        released=states.count("released"), forged=world.forged, disputes=disputes, digest=world.trace.hexdigest(),
    )  # fmt: skip
