"""Schedules: what runs every so often or daily, once per tenant however many processes there are.

A job leases its row while it runs and writes down how far it came; a job that was killed goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import sqlalchemy as sa

from . import database, tables
from .ledger import instant, moment

#: How long a job may run before another process takes it for dead, in microseconds.
LEASE = 15 * 60 * 1_000_000


@attrs.frozen(kw_only=True)
class Job:
    """Something to be done again and again for one tenant."""

    tenant: str
    name: str  #: ``<plugin>.<job>``
    run: Callable[[Turn], None]
    every: timedelta | None = None
    daily: time | None = None  #: local time of the programme
    zone: ZoneInfo = ZoneInfo("UTC")

    @property
    def farthest(self) -> int:
        """How far ahead it can be due at most, in microseconds; what is farther was noted by a clock that was wrong."""
        return 2 * int(
            (timedelta(days=1) if self.daily is not None else self.every or timedelta(hours=1))
            / timedelta(microseconds=1)
        )

    def waits(self, due_at: int, leased_until: int, now: int, *, force: bool = False) -> bool:
        """Whether it is somebody else's at *now*, or nobody's yet; with *force* it is due in any case."""
        if now < leased_until <= now + 2 * LEASE:
            return True
        return not force and now < due_at <= now + self.farthest

    def next_after(self, now: datetime) -> datetime:
        """When it is due again."""
        if self.daily is None:
            return now + (self.every or timedelta(hours=1))
        local = now.astimezone(self.zone)
        day = local.date() if local.time() < self.daily else date.fromordinal(local.date().toordinal() + 1)
        return datetime.combine(day, self.daily, self.zone)


@attrs.define
class Turn:
    """One run of a job: what it may know, and how it says how far it came."""

    job: Job
    now: datetime
    progress: str
    _save: Callable[[str], None]
    extra: Mapping[str, Any] = {}

    def reached(self, progress: str) -> None:
        """Remember how far the job came; after a kill it goes on from there."""
        self.progress = progress
        self._save(progress)


def run_due(db: sa.Engine, jobs: Iterable[Job], now: int, holder: str, *, force: bool = False) -> list[str]:
    """Run the jobs that are due at *now* and not leased by anybody; their names.

    A job that raises stays due: it is tried again when its lease has ended.  The first error is raised at the end.
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
        if known is not None and job.waits(known.due_at, known.leased_until, now):
            continue
        progress = _lease(db, job, now, holder, force)
        if progress is None:
            continue
        turn = Turn(job, moment(now), progress, lambda text, job=job: _save(db, job, now, holder, text))  # type: ignore[misc]
        try:
            job.run(turn)
        except Exception as error:  # noqa: BLE001 - the other jobs are due all the same; it is raised at the end
            first = first or error
            continue
        _finish(db, job, now, holder)
        done.append(f"{job.tenant}/{job.name}")
    if first is not None:
        raise first
    return done


def _lease(db: sa.Engine, job: Job, now: int, holder: str, force: bool) -> str | None:
    rows = tables.job
    mine = sa.and_(rows.c.tenant == job.tenant, rows.c.name == job.name)
    with db.begin() as conn:
        # a new job waits for its first turn, so that a restart does not run everything at once
        due = now if job.daily is None else instant(job.next_after(moment(now)))
        database.insert_new(
            conn, rows, tenant=job.tenant, name=job.name, due_at=due, leased_until=0, holder="", progress=""
        )
        row = conn.execute(sa.select(rows).where(mine).with_for_update()).one()
        if job.waits(row.due_at, row.leased_until, now, force=force):
            return None
        progress = row.progress
        conn.execute(rows.update().where(mine).values(leased_until=now + LEASE, holder=holder))
        return str(progress)


def _mine(job: Job, now: int, holder: str) -> sa.ColumnElement[bool]:
    """The job's row as long as the lease of *now* holds: whoever took longer has nothing to say any more."""
    rows = tables.job
    same = sa.and_(rows.c.tenant == job.tenant, rows.c.name == job.name)
    return sa.and_(same, rows.c.holder == holder, rows.c.leased_until == now + LEASE)


def _save(db: sa.Engine, job: Job, now: int, holder: str, progress: str) -> None:
    with db.begin() as conn:
        conn.execute(tables.job.update().where(_mine(job, now, holder)).values(progress=progress))


def _finish(db: sa.Engine, job: Job, now: int, holder: str) -> None:
    due = instant(job.next_after(moment(now)))
    with db.begin() as conn:
        done = tables.job.update().where(_mine(job, now, holder))
        conn.execute(done.values(due_at=due, leased_until=0, holder="", progress=""))
