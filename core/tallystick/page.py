"""One event's page in the journal while it is being written: steps, transfers and lots, then one frozen record."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from functools import lru_cache, partial
from typing import Any

import msgspec

from .effects import (
    Cap,
    Command,
    Count,
    Effect,
    Emit,
    Extend,
    Move,
    Notify,
    Put,
    Restock,
    Restore,
    Revoke,
    SetTier,
    Spend,
    Take,
)
from .errors import EffectRefused, Refused
from .events import Event
from .ledger import (
    DAY,
    EXPIRED,
    HELD,
    ISSUED,
    NEVER,
    REDEEMED,
    REVERSED,
    Account,
    Lot,
    LotGiven,
    Part,
    Record,
    Step,
    Transfer,
    entry_name,
    instant,
    member_name,
    parse_entry,
    parse_member,
)
from .settle import Posting, Settlement, cap_key, plugin_of
from .situation import Programme
from .windows import bucket_of, grain_of
from .working import Working

#: member, unit, usable from, expires at, sliding, waits for, issuer: gains with equal terms share a lot
Terms = tuple[int, str, int, int, bool, str, str]


class Page:
    """Applies what was settled to the working state and keeps the account of it.

    Everything it does is undone by ``working.undo()``; nothing is final before the record is written.
    """

    # what few events have stays an empty tuple of the class
    gives: Sequence[Mapping[str, Any]] = ()
    counts: Sequence[tuple[int, str, str, int, int, str]] = ()
    takes: Sequence[tuple[str, int, bool]] = ()
    intents: Sequence[Notify | Command] = ()
    emits: Sequence[Emit] = ()
    deferred: Sequence[Effect] = ()
    seen: Sequence[str | None] = ()  #: of a held page: what the row of each deferred effect was when it was judged
    targets: Sequence[str] = ()  #: of a held page: where each transfer into the hold goes when it is released
    #: of lots that wait for something: from when each can be used once that has happened, and what else it waits for
    later: Mapping[str, tuple[int, str]] = {}
    seed = ""
    joined: tuple[int, int] | None = None  #: (source, into) of a merge
    parted: int = 0  #: the member that was merged and is not any more
    reached: Collection[str] = ()  #: states that the order reached before this was judged
    kept: bytes = b""  #: what was seen by plugins of which one was passed over
    repairs: int = 0  #: the entry that this one makes good
    _day: date | None = None

    def __init__(
        self, entry: int, event: Event, working: Working, programme: Programme, now: int, *, held: bool = False
    ) -> None:
        self.entry, self.event, self.working, self.programme, self.now = entry, event, working, programme, now
        self.name = entry_name(entry)
        self.held = held
        self.steps: list[Step] = []
        self.transfers: list[Transfer] = []
        self.lots: list[LotGiven] = []
        self.touched: set[tuple[int, str]] = set()
        self.outcome: dict[str, int] = {}

    @property
    def day(self) -> date:
        """The programme's local day of the event."""
        if self._day is None:
            self._day = self.programme.local_date(self.event.at)
        return self._day

    # -- what was settled -----------------------------------------------------------------------------------------

    def apply(self, settled: Settlement) -> None:
        """Write one settlement: gains, spends, moves, counters, stock, own rows, tiers, messages."""
        self.steps += settled.steps
        if settled.plain:
            self.grant(settled.postings)
            return
        for spend in settled.spends:
            self.spend(spend)
        for move in settled.moves:
            self.move(move)
        if settled.postings:
            self.grant(settled.postings)
        for take in settled.takes:
            self._stock(take)
        self.count(settled)
        self._rest(settled)

    def count(self, settled: Settlement) -> None:
        """Use caps up, and add to counters."""
        if settled.caps:
            self._use_caps(settled.caps)
        if not settled.counts:
            return
        windows: dict[tuple[str, str, str, int], str] = {}
        day, mine, add, noted = self.day, self.event.member, self.working.add, []
        for count in settled.counts:
            window, counter, amount = count.window, count.counter, count.amount
            grain, start = bucket_of(window, day)
            member = 0 if window == "budget" else mine
            # windows that share daily buckets count once
            if windows.setdefault((count.rule, counter, grain, member), window) == window and amount:
                add((member, counter, grain, start), amount)
                noted.append((member, counter, grain, start, amount, _mode(count)))
        self.counts = (*self.counts, *noted)

    def _rest(self, settled: Settlement) -> None:
        if self.held:
            self.deferred = (
                *self.deferred, *settled.revokes, *settled.restores, *settled.puts, *settled.tiers, *settled.extends,
                *settled.intents, *settled.emits,
            )  # fmt: skip
        else:
            for revoke in settled.revokes:
                self.revoke(revoke)
            for restore in settled.restores:
                self.restore(restore)
            self.follow(settled.puts, settled.tiers, settled.extends, settled.intents, settled.emits)

    def follow(
        self,
        puts: Sequence[Put],
        tiers: Sequence[SetTier],
        extends: Sequence[Extend],
        intents: Sequence[Notify | Command],
        emits: Sequence[Emit],
    ) -> None:
        """Everything of a settlement that moves no amount."""
        for put in puts:
            key, owner = put.key, self.event.member
            if key == "{member}":
                key = f"m:{owner}"
            else:
                key = key.replace("{member}", f"m:{owner}")
                owner = int(key[2:]) if key.startswith("m:") and key[2:].isdigit() else 0
            self.working.put_own(put.rule.partition(".")[0], key, put.name, owner, put.value)
        for tier in tiers:
            row = {
                "tier": tier.tier,
                "since": instant(self.event.received),
                "until": instant(tier.until) if tier.until else 0,
                "reason": tier.reason,
            }
            self.working.put_own("core", f"m:{self.event.member}", f"tier:{tier.ladder}", self.event.member, row)
            self.steps.append(
                Step(
                    rule=tier.rule,
                    effect="tier",
                    data={"ladder": tier.ladder, "tier": tier.tier, "reason": tier.reason},
                )
            )
        for extend in extends:
            self._extend(extend)
        if intents:
            self.intents = (*self.intents, *intents)
        if emits:
            self.emits = (*self.emits, *emits)

    # -- gains ----------------------------------------------------------------------------------------------------

    def grant(self, postings: Sequence[Posting]) -> None:
        """Open lots: gains with equal terms share one, each rule keeps its own transfer into it."""
        if len(postings) == 1:
            self._open_lot(self._terms(postings[0]), postings)
            return
        lots: dict[Terms, list[Posting]] = {}
        for posting in postings:
            lots.setdefault(self._terms(posting), []).append(posting)
        for terms, parts in lots.items():
            self._open_lot(terms, parts)

    def _terms(self, posting: Posting) -> Terms:
        gain = posting.gain
        member = gain.to or self.event.member
        if not member:
            raise EffectRefused(f"{posting.rule}: a guest order cannot earn", rule=posting.rule)
        waits = ""
        state = gain.usable_state
        if state and state != getattr(self.event.facts, "state", "") and state not in self.reached:
            waits = f"{getattr(self.event.facts, 'order', '')}/{gain.usable_state}"
        usable_from = self.now if gain.usable_from is None else instant(gain.usable_from)
        expires_at = NEVER if gain.expires_at is None else instant(gain.expires_at)
        return member, gain.unit, usable_from, expires_at, gain.sliding, waits, gain.issuer

    def _open_lot(self, terms: Terms, parts: Sequence[Posting]) -> None:
        member, unit, usable_from, expires_at, sliding, waits, issuer = terms
        name = f"{self.name}.{len(self.lots)}"
        if (self.held and waits) or ((self.held or waits) and usable_from > self.now):
            self.later = {**self.later, name: (usable_from, waits)}
        if self.held:
            usable_from, waits = NEVER, "held"
        elif waits:
            usable_from = NEVER
        total = parts[0].amount if len(parts) == 1 else sum([posting.amount for posting in parts])
        lot = Lot(self.entry, len(self.lots), total, total, usable_from, expires_at, sliding, waits, issuer, fresh=True)
        self.working.credit(self.working.account(member, unit), lot)
        self.touched.add((member, unit))
        holder = member_name(member)
        self.lots.append(LotGiven(name, holder, unit, total, lot.left, usable_from, expires_at, sliding, waits, issuer))
        for posting in parts:
            self.transfers.append(Transfer(ISSUED, holder, unit, posting.amount, posting.rule, "", name))
        if member == self.event.member:
            self.outcome[unit] = self.outcome.get(unit, 0) + total

    # -- spending -------------------------------------------------------------------------------------------------

    def spend(self, spend: Spend) -> None:
        """Sweep what is due, then take from usable lots; refused as a whole if they do not cover it."""
        if spend.amount:  # 0 only answers, and a guest may be answered, too
            if not self.event.member:
                raise Refused("only a member can spend")
            account = self._open(self.event.member, spend.unit)
            parts = account.spend(spend.amount, self.now)
            self._debit(account, parts, HELD if self.held else spend.account, spend.rule)
            if self.held:
                self.targets = (*self.targets, *[spend.account] * len(parts))
        self.steps.append(
            Step(
                rule=spend.rule,
                effect="spend",
                unit=spend.unit,
                amount=-spend.amount,
                wanted=spend.wanted,
                data=spend.data,
            )
        )
        if spend.gives:
            self.gives = (*self.gives, dict(spend.gives))
        self.outcome[spend.unit] = self.outcome.get(spend.unit, 0) - spend.amount

    def move(self, move: Move) -> None:
        """Hand lots over to another member: expiry, start and provenance stay with them."""
        if move.to == self.event.member:
            raise Refused("a gift needs somebody else")
        account = self._open(self.event.member, move.unit)
        parts = account.spend(move.amount, self.now)
        self.outcome[move.unit] = self.outcome.get(move.unit, 0) - move.amount
        self.steps.append(Step(rule=move.rule, effect="move", unit=move.unit, amount=-move.amount, data=move.data))
        if self.held:
            self._debit(account, parts, HELD, move.rule)
            self.targets = (*self.targets, *[member_name(move.to)] * len(parts))
            return
        self.hand_over(account, parts, move.to, move.rule)

    def hand_over(self, account: Account, parts: Sequence[Part], to: int, rule: str, *, debit: str = "") -> None:
        """Open a lot at *to* for each part, with the part's own terms."""
        target = self.working.account(to, account.unit)
        self.touched.add((to, account.unit))
        for source, amount in parts:
            lot = Lot(
                self.entry, len(self.lots), amount, amount, source.usable_from, source.expires_at, source.sliding,
                source.waits, source.issuer, fresh=True,
            )  # fmt: skip
            self.working.credit(target, lot)
            name = f"{self.name}.{lot.part}"
            self.lots.append(
                LotGiven(
                    name, target.name, account.unit, amount, lot.left, lot.usable_from, lot.expires_at, lot.sliding,
                    lot.waits, lot.issuer,
                )
            )  # fmt: skip
            self.transfers.append(
                Transfer(debit or account.name, target.name, account.unit, amount, rule, source.name, name)
            )

    def expire(self, account: Account) -> int:
        """Sweep what is due in *account*; each lot once, and only what is left of it."""
        parts = account.expire(self.now)
        if parts:
            self._debit(account, parts, EXPIRED, "core.expire")
            expired = self.working.expired
            for lot, amount in parts:
                self.working.set(expired, lot.name, expired.get(lot.name, 0) + amount)
            total = sum([amount for _, amount in parts])
            self.steps.append(
                Step(
                    rule="core.expire", effect="expire", unit=account.unit, amount=-total, member=self._whose(account.member)
                )
            )  # fmt: skip
            return total
        return 0

    def _open(self, member: int, unit: str) -> Account:
        account = self.working.touch(self.working.account(member, unit))
        if not account.complete:
            raise EffectRefused(f"lots of {unit} were not declared in needs")
        self.touched.add((member, unit))
        self.expire(account)
        return account

    def _whose(self, member: int) -> str:
        """Whom a step is about, where it is not the event's own member: what happens to others is not told as theirs."""
        who = self.working.who
        return "" if who(member) == who(self.event.member) else member_name(member)

    def _debit(self, account: Account, parts: Sequence[Part], credit: str, rule: str) -> None:
        self.touched.add((account.member, account.unit))
        for lot, amount in parts:
            self.transfers.append(Transfer(account.name, credit, account.unit, amount, rule, lot.name))

    # -- taking back and giving back --------------------------------------------------------------------------------

    def take_back(self, member: int, unit: str, amount: int, rule: str, own: Sequence[str], note: str = "") -> int:
        """Take back up to *amount* under the unit's shortfall policy; what was taken."""
        account = self.working.touch(self.working.account(member, unit))
        keys = [
            (number, int(part))
            for name in own
            for entry, _, part in [name.rpartition(".")]
            if (number := parse_entry(entry)) is not None
        ]
        self.expire(account)
        parts, opened = account.take_back(amount, self.now, self.programme.unit(unit), keys)
        self._debit(account, parts, REVERSED, rule)
        if opened:
            self.touched.add((member, unit))
            self.transfers.append(Transfer(account.name, REVERSED, unit, opened, rule))
        taken = sum([part for _, part in parts]) + opened
        self.steps.append(
            Step(
                rule=rule, effect="take_back", unit=unit, amount=-taken,
                wanted=-amount if taken != amount else None, note=note or ("shortfall" if taken != amount else ""),
                member=self._whose(member),
            )
        )  # fmt: skip
        if member == self.event.member:
            self.outcome[unit] = self.outcome.get(unit, 0) - taken
        return taken

    def lapsed(self, number: int, record: Record, place: int, amount: int) -> int:
        """How much of *amount*, which is to be taken back of a gain, expired before anybody had it; that is noted, and not taken."""
        step = record.explanation[place]
        lots = lots_of(record, step)
        for found in [self.working.lot(name) for name in lots]:
            if found is not None:
                self.expire(self.working.touch(self.working.account(found[0], found[1])))
        gone = sum([self.working.expired.get(name, 0) for name in lots])
        if not gone:
            return 0
        for other, each in enumerate(record.explanation):  # what shares a lot shares what expired of it
            if each.effect in GAINS and not set(lots).isdisjoint(lots_of(record, each)):
                gone -= self.working.taken.get((number, LAPSED + other), 0)
        gone = min(gone, amount)
        if gone <= 0:
            return 0
        self.working.take(number, LAPSED + place, gone)
        whose = self._whose(parse_member(step.member or record.member) or 0)
        self.steps.append(
            Step(rule=step.rule, effect="take_back", unit=step.unit, wanted=-gone, note="expired", member=whose)
        )
        return gone

    def give_back(self, parts: Sequence[tuple[str, int]], unit: str, rule: str, *, debit: str) -> int:
        """Put spent points back into their lots; what has expired meanwhile expires at once, with an own entry."""
        grace = self.programme.unit(unit).grace_days
        total, owners = 0, dict[int, int]()
        for name, amount in parts:
            found = self.working.lot(name)
            if found is None:
                raise Refused(f"lot {name} is not known")
            member, _, lot = found
            account = self.working.touch(self.working.account(member, unit))
            self.working.touch_lot(lot)
            if lot.expires_at <= self.now and grace:
                self.expire(account)  # what was left in it stays expired: grace is for what comes back
                was, lot.expires_at = lot.expires_at, self.now + grace * DAY
                self.steps.append(
                    Step(
                        rule=rule,
                        effect="grace",
                        unit=unit,
                        data={"lot": name, "was": was, "expires_at": lot.expires_at},
                        member=self._whose(member),
                    )
                )
            absorbed = account.give_back(lot, amount)
            self.touched.add((member, unit))
            # what a deficit absorbed never reached the lot: lots can be recomputed from transfers in any order
            if amount > absorbed:
                self.transfers.append(Transfer(debit, account.name, unit, amount - absorbed, rule, "", name))
            if absorbed:
                self.transfers.append(Transfer(debit, account.name, unit, absorbed, rule))
            total += amount
            owners[member] = owners.get(member, 0) + amount
            if member == self.event.member:
                self.outcome[unit] = self.outcome.get(unit, 0) + amount
        for member, back in owners.items():
            self.steps.append(Step(rule=rule, effect="give_back", unit=unit, amount=back, member=self._whose(member)))
        for name, _ in parts:
            found = self.working.lot(name)
            if found is not None:
                self.expire(self.working.account(found[0], unit))
        return total

    def revoke(self, revoke: Revoke) -> None:
        """Take back what a rule gave in an earlier entry, less what was taken back of it already."""
        number = parse_entry(revoke.entry)
        found = self.working.original(number) if number is not None else None
        if found is None or number is None:
            raise EffectRefused(f"{revoke.rule}: there is no entry {revoke.entry}", rule=revoke.rule)
        record, wanted = found[0], revoke.amount
        mine = member_name(self.event.member)
        for place, step in enumerate(record.explanation):
            if step.rule != revoke.of_rule or step.effect not in GAINS or (step.member or record.member) != mine:
                continue
            left = step.amount - self.working.taken.get((number, place), 0)
            amount = left if wanted is None else min(left, wanted)
            if amount > 0:
                self.working.take(number, place, amount)
                wanted = None if wanted is None else wanted - amount
                amount -= self.lapsed(number, record, place, amount)
                if amount:
                    self.take_back(self.event.member, step.unit, amount, revoke.rule, lots_of(record, step))

    def put_back(
        self, spent: Sequence[tuple[Transfer, str]], before: int, amount: int, *, released: bool = False
    ) -> None:
        """Put *amount* of what was *spent* back, behind the part *before* that came back earlier: last used first."""
        back: dict[str, list[tuple[str, int]]] = {}
        for transfer, to in reversed(spent):
            skip = min(before, transfer.amount)
            before -= skip
            part = min(amount, transfer.amount - skip)
            if part:
                back.setdefault(to if released else transfer.credit, []).append((transfer.lot, part))
                amount -= part
        for debit, parts in back.items():
            self.give_back(parts, spent[0][0].unit, spent[0][0].rule, debit=debit)

    def restore(self, restore: Restore) -> None:
        """Put back what a rule spent in an earlier entry, less what came back of it already."""
        number = parse_entry(restore.entry)
        found = self.working.original(number) if number is not None else None
        if found is None or number is None:
            raise EffectRefused(f"{restore.rule}: there is no entry {restore.entry}", rule=restore.rule)
        record, wanted = found[0], restore.amount
        owner = parse_member(record.member)
        if owner is None or self.working.who(owner) != self.event.member or record.status != "recorded":
            raise EffectRefused(f"{restore.rule}: nothing of {restore.entry} can come back", rule=restore.rule)
        for place, step, spent in spent_of(record):
            before = self.working.taken.get((number, place), 0)
            left = -step.amount - before
            amount = left if wanted is None else min(left, wanted)
            if step.effect == "spend" and step.rule == restore.of_rule and amount > 0:
                self.working.take(number, place, amount)
                wanted = None if wanted is None else wanted - amount
                self.put_back(spent, before, amount)

    # -- small things -----------------------------------------------------------------------------------------------

    def _use_caps(self, caps: Sequence[tuple[Cap, int]]) -> None:
        """What caps let through uses them up; windows that share daily buckets are used up once."""
        used: dict[tuple[int, str, str], dict[str, int]] = {}
        about: dict[tuple[int, str, str], list[tuple[str, frozenset[str] | None]]] = {}
        for cap, amount in caps:
            member = 0 if cap.per == "budget" else self.event.member
            key = (member, cap_key(cap)[0], grain_of(cap.per))
            windows = used.setdefault(key, {})
            windows[cap.per] = windows.get(cap.per, 0) + amount
            about.setdefault(key, []).append((cap.unit, cap.rules))
        for key, windows in used.items():
            self._count(key[0], key[1], next(iter(windows)), max(windows.values()), _of_gains(tuple(about[key])))

    def _count(self, member: int, counter: str, window: str, amount: int, mode: str) -> None:
        if amount:
            grain, start = bucket_of(window, self.day)
            self.working.add((member, counter, grain, start), amount)
            self.counts = (*self.counts, (member, counter, grain, start, amount, mode))

    def count_again(self, counts: Sequence[tuple[int, str, str, int, int, str]]) -> None:
        """Add to counters what a plugin that had failed had not added."""
        for member, counter, grain, start, amount, mode in counts:
            self.working.add((member, counter, grain, start), amount)
            self.counts = (*self.counts, (member, counter, grain, start, amount, mode))

    def uncount(self, counts: Sequence[tuple[int, str, str, int, int]]) -> None:
        """Give counters back what a reversed event had added."""
        for owner, counter, grain, start, amount in counts:
            member = self.working.who(owner)
            if amount:
                self.working.add((member, counter, grain, start), -amount)
                self.counts = (*self.counts, (member, counter, grain, start, -amount, ""))

    def _stock(self, take: Take | Restock) -> None:
        prefix = f"{plugin_of(take.rule)}:"
        key = take.key if take.key.startswith(prefix) else prefix + take.key
        if isinstance(take, Restock) and take.absolute:
            self.working.set_stock(key, take.amount)
        elif isinstance(take, Restock):
            self.restock(key, take.amount)
        else:
            self.working.take_stock(key, take.amount)
            self.takes = (*self.takes, (key, take.amount, take.reversible))

    def restock(self, key: str, amount: int) -> None:
        """Put something back on its shelf."""
        self.working.add_stock(key, amount)

    def _extend(self, extend: Extend) -> None:
        expires_at = instant(extend.expires_at)
        key = (self.event.member, extend.unit)
        self.working.extend(key, expires_at, self.now)
        account = self.working.accounts.get(key)
        if account is not None:
            for lot in account.lots.values():
                if lot.sliding and self.now < lot.expires_at < expires_at:
                    self.working.touch_lot(lot).expires_at = expires_at
        self.steps.append(Step(rule=extend.rule, effect="extend", unit=extend.unit, data={"expires_at": expires_at}))

    # -- the record -------------------------------------------------------------------------------------------------

    def name_versions(self, versions: Mapping[str, str]) -> None:
        """Say of every step in which version its rule was asked; gains have theirs since they were weighed."""
        for place, step in enumerate(self.steps):
            if not step.version and (version := versions.get(plugin_of(step.rule))):
                self.steps[place] = msgspec.structs.replace(step, version=version)

    def balances(self) -> dict[str, int]:
        """Posted balance per touched unit of the event's own member, after the event."""
        number, accounts = self.event.member, self.working.accounts
        touched = self.touched if len(self.touched) < 2 else sorted(self.touched)
        return {unit: accounts[member, unit].posted for member, unit in touched if member == number}

    def record(
        self, *, status: str, verdict: str = "allow", order: str = "", value: int = 0, facts: str = "", actor: str = "",
        **more: Any,
    ) -> Record:  # fmt: skip
        """The frozen page."""
        event = self.event
        written = Record if not more else partial(Record, **more)
        return written(
            entry=self.name,
            tenant=event.tenant,
            id=event.id,
            source=event.source,
            kind=event.kind,
            at=instant(event.at),
            received=self.now,
            generation=self.programme.generation,
            programme=self.programme.hash,
            off=self.programme.off,
            member=member_name(event.member) if event.member else "",
            status=status,
            verdict=verdict,
            order=order,
            value=value,
            facts=facts,
            actor=actor,
            explanation=tuple(self.steps),
            transfers=tuple(self.transfers),
            lots=tuple(self.lots),
            balances=self.balances(),
            counts=tuple(self.counts),
            takes=tuple(self.takes),
            gives=tuple(self.gives),
            seed=self.seed,
        )


#: Behind the steps of an explanation: places under which is remembered how much of a take-back had expired.
LAPSED = 1 << 22
#: Effects of steps that gave somebody something.
GAINS = ("grant", "bonus", "multiply")


def lots_of(record: Record, step: Step) -> list[str]:
    """The lots into which a step's gain went."""
    holder = step.member or record.member
    return [
        t.into
        for t in record.transfers
        if t.into and t.rule == step.rule and t.unit == step.unit and t.credit == holder
    ]


def spent_of(record: Record) -> Iterator[tuple[int, Step, list[tuple[Transfer, str]]]]:
    """Each spend and gift of an entry with its place, its transfers in the order they were taken, and where they end."""
    targets = iter((record.more or {}).get("to", ()))
    # steps and transfers were written in the same order
    taken = iter([(t, next(targets, REDEEMED) if t.credit == HELD else t.credit) for t in record.transfers if t.lot])
    for place, step in enumerate(record.explanation):
        left, mine = -step.amount, []
        while left > 0 and step.effect in ("spend", "move", "expire"):
            found = next(taken)
            mine.append(found)
            left -= found[0].amount
        if mine and step.effect in ("spend", "move"):
            yield place, step, mine


def effects_document(effects: Sequence[Effect]) -> list[Any]:
    """Effects as JSON values, for a held event's deferred part."""
    return [[type(effect).__name__, msgspec.to_builtins(effect)] for effect in effects]


class CountedBy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a count is about, where it is not the whole order: a reversal subtracts what came back of that."""

    lines: tuple[tuple[int, int], ...] = ()  #: lines of the order, with their weights
    #: gains of a unit, by these rules or by all (None): it goes as far back as they do
    gains: tuple[tuple[str, tuple[str, ...] | None], ...] = ()


def _mode(count: Count) -> str:
    """How a reversal treats what was counted: by the share that came back of the order or of some lines, only when all came
    back, or not at all.
    """
    if not count.reversible:
        return ""
    if not count.by_share:
        return "whole"
    return _by(CountedBy(lines=count.lines)) if count.lines else "share"


@lru_cache(maxsize=1_024)
def _of_gains(caps: tuple[tuple[str, frozenset[str] | None], ...]) -> str:
    """How a reversal treats what caps let through: what is taken back of the gains they are about makes room again."""
    gains = {(unit, None if rules is None else tuple(sorted(rules))) for unit, rules in caps}
    return _by(CountedBy(gains=tuple(sorted(gains, key=lambda gain: (gain[0], gain[1] or ())))))


def _by(about: CountedBy) -> str:
    return msgspec.json.encode(about, order="deterministic").decode()


@lru_cache(maxsize=1_024)
def counted_by(mode: str) -> CountedBy | None:
    """What a count is about; None if its mode is a word."""
    return msgspec.json.decode(mode, type=CountedBy) if mode[:1] == "{" else None
