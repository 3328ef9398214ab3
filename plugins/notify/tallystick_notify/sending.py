"""Carrying deliveries: each channel in threads of its own, so that a slow one delays neither the others nor the house.

A delivery is leased while it is under way; whoever is killed leaves it to the next, under the same id.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

import attrs
import msgspec

from tallystick.errors import TallyError
from tallystick.ledger import instant, member_name, moment

from . import store
from .channels import Parcel, Result
from .egress import Unanswered
from .errands import Errand, link, print_of, proof
from .plan import SYSTEMS, allowed, next_attempt
from .settings import Way
from .wording import choose, render

log = logging.getLogger("tallystick.notify")

#: Threads of a channel.
THREADS = 8
#: Deliveries written down together: many where the receiver tells repetitions by their id, one where a person would not.
TOGETHER = {"webhook": 32, "file": 32, "inbox": 100}
#: Seconds after which a thread gives the rest of its deliveries back, so that none is kept waiting by the one before.
SLOW = 5.0
#: So many failures in a row, and a channel rests.
FAILURES, REST = 5, timedelta(minutes=1)
#: How long nothing is sent to an address that mail came back from because it does not exist.
LEFT_ALONE = timedelta(days=180)


@attrs.define
class Lane:
    """One channel of one tenant in this process: its threads, what is under way, and whether it rests."""

    threads: ThreadPoolExecutor = attrs.field(factory=lambda: ThreadPoolExecutor(THREADS, "tally-notify"))
    under_way: set[Future[None]] = attrs.field(factory=set)
    failures: int = 0
    rests_until: datetime | None = None
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def told(self, result: Result, now: datetime) -> None:
        """Count failures in a row."""
        with self.lock:
            self.failures = self.failures + 1 if result.state == "again" else 0
            if self.failures >= FAILURES:
                self.rests_until, self.failures = now + REST, FAILURES - 1

    def rests(self, now: datetime) -> bool:
        """Whether nothing is to be tried now."""
        return self.rests_until is not None and now < self.rests_until

    def room(self, now: datetime, together: int) -> int:
        """How many deliveries may be begun now; after a rest one, to see whether things are better."""
        self.under_way = {future for future in self.under_way if not future.done()}
        if self.rests(now):
            return 0
        tried = self.rests_until is not None and self.failures > 0
        return 1 if tried else max(0, THREADS * 2 - len(self.under_way)) * together


#: By the house's database: a house that is gone takes its lanes along.
_lanes: WeakKeyDictionary[Any, dict[tuple[str, str], Lane]] = WeakKeyDictionary()


def lane_of(errand: Errand, way: Way) -> Lane:
    """The channel's lane in this process; made when it is first asked for."""
    lanes = _lanes.setdefault(errand.house.db, {})
    return lanes.get((errand.tenant, way.name)) or lanes.setdefault((errand.tenant, way.name), Lane())


def wait_for_all() -> None:
    """Wait until nothing is under way in this process: before it ends, and in tests."""
    for lane in [lane for lanes in list(_lanes.values()) for lane in lanes.values()]:
        wait(list(lane.under_way))


def begin(errand: Errand, way: Way) -> int:
    """Take up what a channel has room for, and let its threads carry it."""
    lane, together = lane_of(errand, way), TOGETHER.get(way.kind, 1)
    room = lane.room(errand.now, together)
    if room <= 0:
        return 0
    with errand.house.db.begin() as conn:
        taken = store.take_due(conn, errand.tenant, way.name, instant(errand.now), room)
    size = max(1, min(together, -(-len(taken) // THREADS)))
    for place in range(0, len(taken), size):
        lane.under_way.add(lane.threads.submit(_carry, errand, way, lane, taken[place : place + size]))
    return len(taken)


def _carry(errand: Errand, way: Way, lane: Lane, taken: Sequence[store.Due]) -> None:
    """Attempt one after the other, in a thread of the channel, and write down what came of them together."""
    began, done = monotonic(), list[tuple[store.Due, Mapping[str, Any]]]()
    for due in taken:
        if done and (monotonic() - began > SLOW or lane.rests(errand.now)):
            break
        done.append((due, _attempt(errand, way, lane, due)))
    with errand.house.db.begin() as conn:
        store.settle(conn, done, instant(errand.now))
        store.give_back(conn, taken[len(done) :], instant(errand.now))


def _attempt(errand: Errand, way: Way, lane: Lane, due: store.Due) -> Mapping[str, Any]:
    """One attempt; what is to be written down about it."""
    try:
        parcel = _pack(errand, way, due)
        result = parcel if isinstance(parcel, Result) else way.channel.send(parcel)
    except TallyError as error:  # a refusal of ours stays one
        result = Result("dead", error.code)
    except Unanswered as error:
        result = Result("again", str(error)[:80])
    except Exception as error:  # noqa: BLE001  a channel may raise anything; the message is tried again
        log.warning("%s of %s: %s", way.name, errand.tenant, type(error).__name__)
        result = Result("again", type(error).__name__)
    lane.told(result, errand.now)
    if result.gone:
        with errand.house.db.begin() as conn:
            gone = [msgspec.json.decode(one)["endpoint"] for one in result.gone]
            store.unsubscribe(conn, errand.tenant, due.message.member, gone)
    told = {"state": result.state, "reason": result.reason}
    if result.state == "sent":
        return {**told, "reference": result.reference}
    if result.state == "dead":
        return {**told, "reference": result.reference} if result.reference else told
    again = next_attempt(due.attempts, moment(due.message.created_at), errand.now, secrets.randbelow(1000) / 1000)
    return {**told, "state": "dead"} if again is None else {"reason": result.reason, "due_at": instant(again)}


def _pack(errand: Errand, way: Way, due: store.Due) -> Parcel | Result:
    """The message as the channel gets it, or why it does not go any more."""
    row, settings = due.message, errand.plugin.settings
    if row.expires_at and row.expires_at <= instant(errand.now):
        return Result("dead", "expired")
    language, addresses, print_ = settings.language, tuple[str, ...](), ""
    if row.member and way.kind not in SYSTEMS:
        with errand.house.reading() as conn:
            person = store.persons(conn, errand.tenant, [row.member]).get(row.member, store.Person())
            wishes = store.wishes(conn, errand.tenant, [row.member]).get(row.member, ())
            if way.channel.address:
                addresses = store.addresses(conn, errand.tenant, row.member, way.channel.address)
            if way.kind == "mail" and addresses:
                print_ = print_of(errand.house.secret, errand.tenant, addresses[0])
            came_back = print_ and store.came_back(conn, errand.tenant, print_, instant(errand.now - LEFT_ALONE))
        if person.status != "active" or not allowed(row.purpose, way.name, wishes):
            return Result("dead", "withdrawn")
        if way.channel.address and not addresses:
            return Result("dead", "no_address")
        if came_back:
            return Result("dead", "address_bounced")
        language = person.language or language
    facts, zone, wording = msgspec.json.decode(row.facts), errand.plugin.programme.zone, None
    if way.channel.words:
        found = choose(settings.messages[row.template].words, (language, settings.language))
        if found is None:
            return Result("dead", "no_wording")
        language, wording = found[0], render(found[1], facts, found[0], zone)
    return Parcel(
        id=row.id, tenant=errand.tenant, member=member_name(row.member) if row.member else "", template=row.template,
        purpose=row.purpose, facts=facts, created=moment(row.created_at), now=errand.now, language=language, zone=zone,
        wording=wording, addresses=addresses, print=print_, **_links(errand, way, row),
    )  # fmt: skip


def _links(errand: Errand, way: Way, row: Any) -> dict[str, Any]:
    """What only some kinds of channels put into their messages."""
    if way.kind == "plugin":
        hooks = [getattr(part.plugin, "notify", None) for part in errand.generation.pipeline.parts]
        return {"hooks": [hook for hook in hooks if hook is not None]}
    if way.kind not in ("mail", "webpush"):
        return {}
    found = {"proof": proof(errand.house.secret, errand.tenant, way.name, row.id)}
    if errand.plugin.settings.public:
        who = str(row.member), row.purpose, way.name, row.id
        found["unsubscribe"] = link(errand, "notify.unsubscribe", *who)
        found["seen"] = link(errand, "notify.seen", row.id, way.name)
    return found
