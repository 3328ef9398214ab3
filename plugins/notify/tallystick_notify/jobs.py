"""Every few seconds: plan what became due, hand it to the channels, and write down what came of it.

Channels work in threads of their own, so that a slow one delays neither the others nor the house.  A delivery is leased
while it is under way; whoever is killed leaves it to the next, under the same id.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Protocol
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

import attrs
import msgspec

from tallystick.errors import TallyError
from tallystick.ledger import instant, member_name, moment

from . import store
from .channels import Parcel, Result
from .egress import Unanswered
from .hooks import Notify
from .mail import read_bounce
from .plan import PUSHES, SYSTEMS, Cap, Decision, Wish, allowed, decide, next_attempt
from .settings import Settings, Way
from .wording import choose, render

log = logging.getLogger("tallystick.notify")

#: Messages planned at once, and threads of a channel.
AT_ONCE, THREADS = 500, 8
#: Deliveries written down together: many where the receiver tells repetitions by their id, one where a person would not.
TOGETHER = {"webhook": 32, "file": 32, "inbox": 100}
#: Seconds after which a thread gives the rest of its deliveries back, so that none is kept waiting by the one before.
SLOW = 5.0
#: Seconds a turn goes on while there is something to do, and waits for its last deliveries; slower ones go on without it.
TURN, PATIENCE = 1.5, 0.5
#: So many failures in a row, and a channel rests.
FAILURES, REST = 5, timedelta(minutes=1)
#: Bytes of a letter that came back, and how many are read in one turn.
LARGEST, LETTERS = 256 * 1024, 500


class Errand(Protocol):
    """What the house gives a job."""

    @property
    def plugin(self) -> Notify: ...
    @property
    def house(self) -> Any: ...
    @property
    def generation(self) -> Any: ...
    @property
    def tenant(self) -> str: ...
    @property
    def now(self) -> datetime: ...


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


def deliver(errand: Errand) -> int:
    """Plan, then send, as long as there is something to do; how many deliveries were begun."""
    ends, number = monotonic() + TURN, 0
    ways = errand.plugin.settings.ways
    while True:
        planned, begun = plan(errand), [_begin(errand, way) for way in ways]
        number += sum(begun)
        under_way = [future for way in ways for future in _lane(errand, way).under_way]
        if not (planned or any(begun)) or monotonic() > ends:
            wait(under_way, PATIENCE)
            return number
        wait(under_way, 0.05, FIRST_COMPLETED)


def _lane(errand: Errand, way: Way) -> Lane:
    lanes = _lanes.setdefault(errand.house.db, {})
    return lanes.get((errand.tenant, way.name)) or lanes.setdefault((errand.tenant, way.name), Lane())


def _begin(errand: Errand, way: Way) -> int:
    """Take up what a channel has room for, and let its threads carry it."""
    lane, together = _lane(errand, way), TOGETHER.get(way.kind, 1)
    room = lane.room(errand.now, together)
    if room <= 0:
        return 0
    with errand.house.db.begin() as conn:
        taken = store.take_due(conn, errand.tenant, way.name, instant(errand.now), room)
    size = max(1, min(together, -(-len(taken) // THREADS)))
    for place in range(0, len(taken), size):
        lane.under_way.add(lane.threads.submit(_carry, errand, way, lane, taken[place : place + size]))
    return len(taken)


# --- planning --------------------------------------------------------------------------------------------------------


def plan(errand: Errand) -> int:
    """Decide about messages that became due, channel by channel; how many there were."""
    settings, now = errand.plugin.settings, errand.now
    with errand.house.db.begin() as conn:
        found = store.unplanned(conn, errand.tenant, instant(now), AT_ONCE)
        if not found:
            return 0
        people = any(way.kind not in SYSTEMS for way in settings.ways)
        members = {row.member for row in found if row.member} if people else set()
        known = _Known(
            conn, errand, store.persons(conn, errand.tenant, members), store.wishes(conn, errand.tenant, members)
        )
        rows = []
        for row in found:
            for way in settings.ways:
                decision = _decide(known, row, way)
                due = decision.due
                rows.append(
                    {
                        "message": row.id, "channel": way.name, "state": "waiting" if due else "skipped",
                        "reason": decision.reason, "due_at": instant(due or now), "at": instant(now),
                    }
                )  # fmt: skip
        store.keep_plan(conn, errand.tenant, [row.id for row in found], rows)
    return len(found)


@attrs.define
class _Known:
    """What decisions rest on; what is not asked for is not looked up."""

    conn: Any
    errand: Errand
    persons: Mapping[int, store.Person]
    wishes: Mapping[int, list[Wish]]
    #: what was decided a moment ago and is not in the tables yet: (member, purpose, channel)
    decided: list[tuple[int, str, str]] = attrs.field(factory=list)

    def zone(self, member: int) -> ZoneInfo:
        """The member's zone, else the programme's."""
        said, otherwise = store.zone(self.conn, self.errand.tenant, member), self.errand.plugin.programme.zone
        try:
            return ZoneInfo(said) if said else otherwise
        except (ValueError, OSError):
            return otherwise

    def is_full(self, member: int, purpose: str, channel: str, caps: Sequence[Cap]) -> bool:
        """Whether a cap has no room for one more."""
        return any(
            store.counted(self.conn, self.errand.tenant, member, cap, self.errand.now)
            + sum(who == member and cap.concerns(*what) for who, *what in self.decided)
            >= cap.most
            for cap in caps
            if cap.concerns(purpose, channel)
        )


def _decide(known: _Known, row: Any, way: Way) -> Decision:
    settings, person = known.errand.plugin.settings, known.persons.get(row.member, store.Person())
    if way.kind not in SYSTEMS and person.status != "active":
        return Decision(reason="nobody")
    if not _can_say(settings, way, row.template):
        return Decision(reason="no_wording")
    concerned = way.kind not in SYSTEMS
    quiet = settings.quiet if way.kind in PUSHES and row.purpose != "service" else None
    decision = decide(
        purpose=row.purpose, channel=way.name, kind=way.kind, purposes=way.purposes, now=known.errand.now,
        expires=moment(row.expires_at) if row.expires_at else None,
        zone=known.zone(row.member) if quiet else known.errand.plugin.programme.zone,
        wishes=known.wishes.get(row.member, ()), quiet=quiet,
        full=concerned and known.is_full(row.member, row.purpose, way.name, settings.caps),
    )  # fmt: skip
    if decision.due is not None and settings.caps:
        known.decided.append((row.member, row.purpose, way.name))
    return decision


def _can_say(settings: Settings, way: Way, template: str) -> bool:
    if way.channel.templates is not None:
        return template in way.channel.templates
    return not way.channel.words or bool(template in settings.messages and settings.messages[template].words)


# --- sending ---------------------------------------------------------------------------------------------------------


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
        return told
    again = next_attempt(due.attempts, moment(due.message.created_at), errand.now, secrets.randbelow(1000) / 1000)
    return {**told, "state": "dead"} if again is None else {"reason": result.reason, "due_at": instant(again)}


def _pack(errand: Errand, way: Way, due: store.Due) -> Parcel | Result:
    """The message as the channel gets it, or why it does not go any more."""
    row, settings = due.message, errand.plugin.settings
    if row.expires_at and row.expires_at <= instant(errand.now):
        return Result("dead", "expired")
    language, addresses = settings.language, tuple[str, ...]()
    if row.member and way.kind not in SYSTEMS:
        with errand.house.db.connect() as conn:
            person = store.persons(conn, errand.tenant, [row.member]).get(row.member, store.Person())
            wishes = store.wishes(conn, errand.tenant, [row.member]).get(row.member, ())
            if way.channel.address:
                addresses = store.addresses(conn, errand.tenant, row.member, way.channel.address)
        if person.status != "active" or not allowed(row.purpose, way.name, wishes):
            return Result("dead", "withdrawn")
        if way.channel.address and not addresses:
            return Result("dead", "no_address")
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
        wording=wording, addresses=addresses, **_links(errand, way, row),
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


def link(errand: Errand, door: str, *words: str) -> str:
    """Where a public door of ours is, as the world sees it; it opens for *words* alone."""
    opened = errand.house.pass_for(errand.tenant, door, *words)
    return f"{errand.plugin.settings.public}/v1/notify/{door.partition('.')[2]}/{opened}"


def proof(secret: bytes, tenant: str, channel: str, id: str) -> str:
    """What stands beside a message's id in its mail, so that nobody else can say that it came back."""
    return hmac.new(secret, f"notify/bounce/{tenant}/{channel}/{id}".encode(), hashlib.sha256).hexdigest()[:20]


# --- letters that come back ------------------------------------------------------------------------------------------


def read_bounces(errand: Errand) -> int:
    """Read what lies in the Maildirs of mail channels; how many letters there were."""
    number = 0
    for way in errand.plugin.settings.ways:
        for path in sorted((way.bounces / "new").iterdir())[:LETTERS] if way.bounces is not None else ():
            with path.open("rb") as file:
                take_bounce(errand, file.read(LARGEST))
            path.rename(way.bounces / "cur" / f"{path.name}:2,S")  # type: ignore[operator]  # seen: mypy forgets the if
            number += 1
    return number


def take_bounce(errand: Errand, raw: bytes) -> str:
    """Write down what a mail server tells; ``bounced``, ``delivered``, or empty where it is no news of a letter of ours."""
    told = read_bounce(raw)
    if told is None or told.action not in ("failed", "delivered"):
        return ""
    for way in errand.plugin.settings.ways:
        right = proof(errand.house.secret, errand.tenant, way.name, told.message)
        if way.kind != "mail" or not hmac.compare_digest(right, told.proof):
            continue
        with errand.house.db.begin() as conn:
            now = instant(errand.now)
            if told.action == "delivered":
                return "delivered" * store.note(conn, errand.tenant, told.message, way.name, "delivered", now)
            reason = f"bounced_{told.status or 'failed'}"
            return "bounced" * store.bounced(conn, errand.tenant, told.message, way.name, reason, now)
    return ""


def wait_for_all() -> None:
    """Wait until nothing is under way in this process: before it ends, and in tests."""
    for lane in [lane for lanes in list(_lanes.values()) for lane in lanes.values()]:
        wait(list(lane.under_way))
