"""What is kept of calls from and to partners in other deployments: what was heard before, and what was in vain lately."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .tables import line, nonce

#: How far a message may lie behind the latest that was heard, in microseconds: twice what clocks may differ.
WINDOW: Final = 600 * 1_000_000
#: One message in so many sweeps what is too old to come again: the store holds little more than a window's messages.
SWEEP: Final = 128


def _insert(conn: sa.Connection, table: sa.Table) -> Any:
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)


def _mine(table: sa.Table, tenant: str, partner: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.tenant == tenant, table.c.partner == partner)


def hear_once(conn: sa.Connection, tenant: str, partner: str, sequence: int, once: str) -> str:
    """Note that a message of *partner* is heard; why it must not be, or nothing.

    What is older than the window is refused by its sequence, whatever the clock says; what is within it is remembered.
    """
    latest = conn.scalar(sa.select(line.c.heard).where(_mine(line, tenant, partner)).with_for_update()) or 0
    if sequence < latest - WINDOW:
        return "its sequence lies too far behind the latest one"
    row = {"tenant": tenant, "partner": partner, "sequence": sequence, "nonce": once}
    # what comes back says whether it is new; a count of rows does not on every database
    new_one = _insert(conn, nonce).values(row).on_conflict_do_nothing().returning(nonce.c.sequence)
    if conn.execute(new_one).first() is None:
        return "it was heard before"
    if sequence > latest:
        new = _insert(conn, line).values(tenant=tenant, partner=partner, heard=sequence, failures=0, failed_at=0)
        later = sa.case((line.c.heard < new.excluded.heard, new.excluded.heard), else_=line.c.heard)
        conn.execute(new.on_conflict_do_update(index_elements=["tenant", "partner"], set_={"heard": later}))
    if sequence % SWEEP == 0:
        conn.execute(nonce.delete().where(_mine(nonce, tenant, partner), nonce.c.sequence < latest - WINDOW))
    return ""


def find_line(conn: sa.Connection, tenant: str, partner: str) -> Any | None:
    """How it goes with a partner: `heard`, `failures`, `failed_at`; None if nothing was heard and nothing failed."""
    return conn.execute(sa.select(line).where(_mine(line, tenant, partner))).first()


def fail(conn: sa.Connection, tenant: str, partner: str, at: int) -> None:
    """A message was in vain."""
    new = _insert(conn, line).values(tenant=tenant, partner=partner, heard=0, failures=1, failed_at=at)
    once_more = {"failures": line.c.failures + 1, "failed_at": at}
    conn.execute(new.on_conflict_do_update(index_elements=["tenant", "partner"], set_=once_more))


def answered(conn: sa.Connection, tenant: str, partner: str) -> None:
    """The partner has answered: the next one need not wait."""
    conn.execute(line.update().where(_mine(line, tenant, partner)).values(failures=0))
