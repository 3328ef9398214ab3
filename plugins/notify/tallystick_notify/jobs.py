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
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import attrs
import msgspec

from tallystick.ledger import instant, member_name, moment

from . import store
from .channels import Parcel, Result
from .hooks import Notify
from .plan import SYSTEMS, Decision, allowed, decide, next_attempt
from .settings import Way
from .wording import TemplateRefused, choose, render

log = logging.getLogger("tallystick.notify")

#: Messages planned, and deliveries of one channel under way, at once.
AT_ONCE, THREADS = 500, 8
#: Seconds a turn waits for its deliveries; slower ones go on without it.
PATIENCE = 0.5
#: So many failures in a row, and a channel rests.
FAILURES, REST = 5, timedelta(minutes=1)


class Errand(Protocol):
    """What the house gives a job."""

    @property
    def plugin(self) -> Notify: ...
    @property
    def house(self) -> Any: ...
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

    def room(self, now: datetime) -> int:
        """How many deliveries may be begun now."""
        self.under_way = {future for future in self.under_way if not future.done()}
        if self.rests_until is not None and now < self.rests_until:
            return 0
        return 1 if self.rests_until is not None and self.failures else THREADS * 4 - len(self.under_way)


_lanes: dict[tuple[int, str, str], Lane] = {}


def deliver(errand: Errand) -> int:
    """Plan, then send; how many deliveries were begun."""
    while plan(errand) == AT_ONCE:
        pass
    begun: list[Future[None]] = []
    for way in errand.plugin.settings.ways:
        lane = _lanes.setdefault((id(errand.house.db), errand.tenant, way.name), Lane())
        room = lane.room(errand.now)
        if room <= 0:
            continue
        with errand.house.db.begin() as conn:
            taken = store.take_due(conn, errand.tenant, way.name, instant(errand.now), room)
        for due in taken:
            future = lane.threads.submit(_attempt, errand, way, lane, due)
            lane.under_way.add(future)
            begun.append(future)
    wait(begun, PATIENCE)
    return len(begun)


def plan(errand: Errand) -> int:
    """Decide about messages that became due, channel by channel; how many there were."""
    settings, now = errand.plugin.settings, errand.now
    with errand.house.db.begin() as conn:
        found = store.unplanned(conn, errand.tenant, instant(now), AT_ONCE)
        for row in found:
            wishes = store.wishes(conn, errand.tenant, row.member) if row.member else []
            status, language, _, zone = (
                store.person(conn, errand.tenant, row.member) if row.member else ("", "", "", "")
            )
            rows = []
            for way in settings.ways:
                if way.kind not in SYSTEMS and status != "active":
                    decision = Decision(reason="nobody")
                elif (
                    way.channel.words and choose(row.template, (language, settings.language), settings.wordings) is None
                ):
                    decision = Decision(reason="no_wording")
                else:
                    decision = decide(
                        purpose=row.purpose, channel=way.name, kind=way.kind, purposes=way.purposes, now=now,
                        expires=moment(row.expires_at) if row.expires_at else None,
                        zone=_zone(zone, errand.plugin.programme.zone), wishes=wishes, quiet=settings.quiet,
                        full=store.is_full(conn, errand.tenant, row.member, row.purpose, way.name, settings.caps, now),
                    )  # fmt: skip
                state = "skipped" if decision.due is None else "waiting"
                due = instant(decision.due or now)
                rows.append(
                    {"channel": way.name, "state": state, "reason": decision.reason, "due_at": due, "at": instant(now)}
                )
            store.keep_plan(conn, errand.tenant, row.id, rows)
    return len(found)


def _zone(said: str, otherwise: ZoneInfo) -> ZoneInfo:
    try:
        return ZoneInfo(said) if said else otherwise
    except (ValueError, OSError):
        return otherwise


def _attempt(errand: Errand, way: Way, lane: Lane, due: store.Due) -> None:
    """One attempt, in a thread of the channel."""
    now = errand.now
    try:
        parcel = _pack(errand, way, due)
        result = parcel if isinstance(parcel, Result) else way.channel.send(parcel)
    except TemplateRefused as error:
        result = Result("dead", error.code)
    except Exception as error:  # noqa: BLE001  a channel may raise anything; the message is tried again
        log.warning("%s of %s: %s", way.name, errand.tenant, error)
        result = Result("again", type(error).__name__)
    lane.told(result, now)
    values: dict[str, Any] = {"state": result.state, "reason": result.reason}
    if result.state == "again":
        again = next_attempt(due.attempts, moment(due.message.created_at), now, secrets.randbelow(1000) / 1000)
        values = {**values, "state": "dead"} if again is None else {"reason": result.reason, "due_at": instant(again)}
    with errand.house.db.begin() as conn:
        store.settle(conn, errand.tenant, due, instant(now), **values)


def _pack(errand: Errand, way: Way, due: store.Due) -> Parcel | Result:
    """The message as the channel gets it, or why it does not go any more."""
    row, settings = due.message, errand.plugin.settings
    if row.expires_at and row.expires_at <= instant(errand.now):
        return Result("dead", "expired")
    language, address, wording = "", "", None
    if row.member and way.kind not in SYSTEMS:
        with errand.house.db.connect() as conn:
            status, spoken, address, _ = store.person(conn, errand.tenant, row.member)
            wishes = store.wishes(conn, errand.tenant, row.member)
        if status != "active" or not allowed(row.purpose, way.name, wishes):
            return Result("dead", "withdrawn")
        found = choose(row.template, (spoken, settings.language), settings.wordings)
        if found is None:
            return Result("dead", "no_wording")
        language = found[0]
        wording = render(found[1], msgspec.json.decode(row.facts), language, errand.plugin.programme.zone)
    return Parcel(
        id=row.id, tenant=errand.tenant, member=member_name(row.member) if row.member else "", template=row.template,
        purpose=row.purpose, facts=msgspec.json.decode(row.facts), created=moment(row.created_at), now=errand.now, language=language,
        wording=wording, address=address,
        unsubscribe=token(errand.house.secret, errand.tenant, row.member, row.purpose, way.name),
    )  # fmt: skip


def token(secret: bytes, tenant: str, member: int, purpose: str, channel: str) -> str:
    """What a link to unsubscribe carries: who, of what, and a proof that it came from here."""
    said = f"{member}.{purpose}.{channel}"
    proof = hmac.new(secret, f"notify/unsubscribe/{tenant}/{said}".encode(), hashlib.sha256).hexdigest()[:32]
    return f"{said}.{proof}"


def wait_for_all(tenants: Sequence[str] = ()) -> None:
    """Wait until nothing is under way in this process (for these tenants): before it ends, and in tests."""
    for (_, tenant, _), lane in list(_lanes.items()):
        if not tenants or tenant in tenants:
            wait(list(lane.under_way))
