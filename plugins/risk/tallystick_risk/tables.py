"""What the plugin keeps: traces for the watches, cases with their notes, and how far it has looked.

A trace holds no name and no amount of points that the journal does not hold, and lives for a while.  Times of traces are seconds since
1970, of everything else microseconds.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()
Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _col(name: str, kind: Any = Int) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _only(index: str, column: str, condition: str) -> sa.Index:
    """An index over the rows that have something there; on PostgreSQL, too, whose dialect need not be imported here."""
    return sa.Index(index, "tenant", column, "at", sqlite_where=sa.text(condition))


#: One event, as watches see it; numbered in the order in which it was learned.
trace = sa.Table(
    "risk_trace",
    METADATA,
    sa.Column("number", Int, primary_key=True),
    _col("tenant", sa.Text),
    _col("entry", sa.Text),
    _col("at"),
    _col("what", sa.Text),
    _col("member"),
    _col("other"),
    _col("store", sa.Text),
    _col("cashier", sa.Text),
    _col("device", sa.Text),
    _col("address", sa.Text),
    _col("cents"),
    _col("points"),
    _col("order_id", sa.Text),
    sa.Index("risk_trace_entry", "tenant", "entry", unique=True),
    sa.Index("risk_trace_new", "tenant", "number"),
    sa.Index("risk_trace_at", "tenant", "at"),
    _only("risk_trace_member", "member", "member > 0"),
    _only("risk_trace_other", "other", "other > 0"),
    _only("risk_trace_store", "store", "store <> ''"),
    _only("risk_trace_cashier", "cashier", "cashier <> ''"),
    _only("risk_trace_device", "device", "device <> ''"),
    _only("risk_trace_address", "address", "address <> ''"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

#: Something that people should look at.
case = sa.Table(
    "risk_case",
    METADATA,
    sa.Column("number", Int, primary_key=True),
    _col("tenant", sa.Text),
    _col("policy", sa.Text),  # which policy or watch
    _col("about", sa.Text),  # what the subject is: member, cashier, device, ...
    _col("subject", sa.Text),
    _col("status", sa.Text),  # open, decided
    _col("monitor"),  # 1: nothing was held or flagged
    _col("opened_at"),
    _col("last_at"),
    _col("times"),
    _col("reason", sa.Text),  # the newest
    _col("maker", sa.Text),  # whoever made an adjustment
    _col("assigned", sa.Text),
    _col("decision", sa.Text),
    _col("decided_by", sa.Text),
    _col("decided_at"),
    sa.Index("risk_case_subject", "tenant", "policy", "about", "subject", "status"),
    sa.Index("risk_case_status", "tenant", "status", "number"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

#: Whom a case concerns.
concerned = sa.Table(
    "risk_concerned",
    METADATA,
    sa.Column("case", Int, primary_key=True, autoincrement=False),
    sa.Column("member", Int, primary_key=True, autoincrement=False),
    _col("tenant", sa.Text),
    sa.Index("risk_concerned_member", "tenant", "member"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

#: Entries of a case; those that are held wait here until they are decided.
waiting = sa.Table(
    "risk_waiting",
    METADATA,
    sa.Column("case", Int, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.Text, primary_key=True),
    _col("tenant", sa.Text),
    _col("member"),
    _col("status", sa.Text),  # seen, held, step_up, released, voided
    _col("gentle", sa.Text),
    _col("due_at"),
    _col("end", sa.Text),  # how it ends if nobody decides
    sa.Index("risk_waiting_entry", "tenant", "entry"),
    sa.Index("risk_waiting_due", "tenant", "status", "due_at"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

#: What people wrote to a case.
note = sa.Table(
    "risk_note",
    METADATA,
    sa.Column("number", Int, primary_key=True),
    _col("case"),
    _col("tenant", sa.Text),
    _col("at"),
    _col("by", sa.Text),
    _col("text", sa.Text),
    sa.Index("risk_note_case", "case", "number"),
    sqlite_strict=True,
)

#: The last trace that the watches have looked at.
mark = sa.Table(
    "risk_mark",
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    _col("number"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
