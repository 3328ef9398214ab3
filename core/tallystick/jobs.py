"""Schedules: what runs every so often or daily, once per tenant however many processes there are.

A job leases its row while it runs and writes down how far it came; a job that was killed goes on from there.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import sqlalchemy as sa

from . import database, tables
from .ledger import instant, moment

log = logging.getLogger("tallystick")

#: How long another process waits for a job of which nothing is heard any more, in microseconds; see :attr:`Job.lease`.
#: A job at work renews its lease three times as often, so that it may take as long as it needs.
LEASE = 45 * 1_000_000


@attrs.frozen(kw_only=True)
class Job:
    """Something to be done again and again for one tenant."""

    tenant: str
    name: str  #: ``<plugin>.<job>``
    run: Callable[[Turn], None]
    every: timedelta | None = None
    daily: time_of_day | None = None  #: local time of the programme
    zone: ZoneInfo = ZoneInfo("UTC")
    history: bool = False  #: whether it runs at each midnight of an imported history, too
    lease: int = LEASE  #: after a kill another process goes on when so many microseconds have passed

    @property
    def farthest(self) -> int:
        """How far ahead it can be due at most, in microseconds; what is farther was noted by a clock that was wrong."""
        return 2 * int(
            (timedelta(days=1) if self.daily is not None else self.every or timedelta(hours=1))
            / timedelta(microseconds=1)
        )

    def waits(self, due_at: int, leased_until: int, now: int, *, force: bool = False) -> bool:
        """Whether it is somebody else's at *now*, or nobody's yet; with *force* it is due in any case."""
        if now < leased_until <= now + 2 * self.lease:
            return True
        return not force and now < due_at <= now + self.farthest

    def next_after(self, now: datetime) -> datetime:
        """When it is due again."""
        if self.daily is None:
            return now + (self.every or timedelta(hours=1))
        local = now.astimezone(self.zone)
        day = local.date() if local.time() < self.daily else date.fromordinal(local.date().toordinal() + 1)
        return datetime.combine(day, self.daily, self.zone)


class Interrupted(Exception):
    """Raised by :meth:`Turn.reached` where a job has to stop: another process is at it, or this one is closing."""


@attrs.define
class Turn:
    """One run of a job: what it may know, and how it says how far it came."""

    job: Job
    now: datetime
    progress: str
    _save: Callable[[str], object]
    extra: Mapping[str, Any] = {}
    history: bool = False  #: whether *now* is past: what it records is received then

    def reached(self, progress: str) -> None:
        """Remember how far the job came; after a kill it goes on from there.

        Raises Interrupted, which the job lets pass, if it is not this process's job any more or the process is closing.
        """
        self.progress = progress
        self._save(progress)


def run_due(
    db: sa.Engine,
    jobs: Iterable[Job],
    now: int,
    holder: str,
    *,
    force: bool = False,
    closing: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Run the jobs that are due at *now* and not leased by anybody; their names.

    A job that raises stays due: it is tried again when its lease has ended.  The first error is raised at the end.  When
    the process is *closing*, what is under way stops where it can go on later, and nothing more begins.
    """
    done = []
    first: Exception | None = None
    # nearly always nothing is due: one look without a lock instead of a transaction that writes for every job
    rows = tables.job
    with database.reading(db) as conn:
        later = sa.select(rows.c.tenant, rows.c.name, rows.c.due_at, rows.c.leased_until)
        later = later.where(sa.or_(rows.c.leased_until > now, rows.c.due_at > now))
        waiting = {} if force else {(row.tenant, row.name): row for row in conn.execute(later)}
    for job in jobs:
        known = waiting.get((job.tenant, job.name))
        if closing() or (known is not None and job.waits(known.due_at, known.leased_until, now)):
            continue
        lease = _Lease(db, job, now, holder, closing)
        progress = lease.take(force)
        if progress is None:
            continue
        try:
            with lease.kept():
                job.run(Turn(job, moment(now), progress, lease.save))
        except Interrupted:
            lease.give_back()
            continue
        except Exception as error:  # noqa: BLE001 - the other jobs are due all the same; it is raised at the end
            first = first or error
            continue
        lease.finish()
        done.append(f"{job.tenant}/{job.name}")
    if first is not None:
        raise first
    return done


class _Lease:
    """The row of one job while it runs: whoever lost it has nothing to say any more."""

    def __init__(self, db: sa.Engine, job: Job, now: int, holder: str, closing: Callable[[], bool]) -> None:
        self.db, self.job, self.now, self.closing = db, job, now, closing
        self.holder = f"{holder}/{secrets.token_hex(4)}"  # one process may hold it twice, one after the other
        self._since = time.monotonic()

    def take(self, force: bool) -> str | None:
        """How far the job had come; None if it is not due or somebody else's."""
        rows, job = tables.job, self.job
        with self.db.begin() as conn:
            # a new job waits for its first turn, so that a restart does not run everything at once
            due = self.now if job.daily is None else instant(job.next_after(moment(self.now)))
            database.insert_new(
                conn, rows, tenant=job.tenant, name=job.name, due_at=due, leased_until=0, holder="", progress=""
            )
            mine = sa.and_(rows.c.tenant == job.tenant, rows.c.name == job.name)
            row = conn.execute(sa.select(rows).where(mine).with_for_update()).one()
            if job.waits(row.due_at, row.leased_until, self.now, force=force):
                return None
            conn.execute(rows.update().where(mine).values(leased_until=self.now + job.lease, holder=self.holder))
            return str(row.progress)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """While the job is at work its lease is renewed, however long it takes between two words of it."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(self.job.lease / 3_000_000):
                try:
                    self._write(leased_until=self._until())
                except Exception:  # the database may be away for a moment; there are two more tries
                    log.exception("the lease of %s could not be renewed", self.job.name)

        thread = threading.Thread(target=renew, name="tally-job-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def save(self, progress: str) -> None:
        """Note how far the job came.  Raises Interrupted if it is to stop."""
        if not self._write(progress=progress, leased_until=self._until()):
            raise Interrupted(f"{self.job.name} is another process's now")
        if self.closing():
            raise Interrupted("the process is closing")

    def give_back(self) -> None:
        """Let another process go on at once."""
        self._write(leased_until=0, holder="")

    def finish(self) -> None:
        """It is done, and due again when its time comes."""
        due = instant(self.job.next_after(moment(self.now)))
        self._write(due_at=due, leased_until=0, holder="", progress="")

    def _until(self) -> int:
        return self.now + int((time.monotonic() - self._since) * 1_000_000) + self.job.lease

    def _write(self, **values: Any) -> bool:
        rows = tables.job
        mine = sa.and_(rows.c.tenant == self.job.tenant, rows.c.name == self.job.name, rows.c.holder == self.holder)
        with self.db.begin() as conn:
            return conn.execute(rows.update().where(mine).values(**values)).rowcount == 1
