"""Traces, cases and notes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _col(name: str, kind: Any = Int) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def upgrade() -> None:
    op.create_table(
        "risk_trace",
        sa.Column("number", Int, primary_key=True),
        *[_col(name, sa.Text()) for name in ("tenant", "entry")],
        _col("at"),
        _col("what", sa.Text()),
        *[_col(name) for name in ("member", "other")],
        *[_col(name, sa.Text()) for name in ("store", "cashier", "device", "address")],
        *[_col(name) for name in ("cents", "points")],
        _col("order_id", sa.Text()),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
    op.create_index("risk_trace_entry", "risk_trace", ["tenant", "entry"], unique=True)
    op.create_index("risk_trace_new", "risk_trace", ["tenant", "number"])
    op.create_index("risk_trace_at", "risk_trace", ["tenant", "at"])
    for column in ("member", "other", "store", "cashier", "device", "address"):
        where = sa.text(f"{column} > 0" if column in ("member", "other") else f"{column} <> ''")
        op.create_index(
            f"risk_trace_{column}", "risk_trace", ["tenant", column, "at"], sqlite_where=where, postgresql_where=where
        )
    op.create_table(
        "risk_case",
        sa.Column("number", Int, primary_key=True),
        *[_col(name, sa.Text()) for name in ("tenant", "policy", "about", "subject", "status")],
        *[_col(name) for name in ("monitor", "opened_at", "last_at", "times")],
        *[_col(name, sa.Text()) for name in ("reason", "maker", "assigned", "decision", "decided_by")],
        _col("decided_at"),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
    op.create_index("risk_case_subject", "risk_case", ["tenant", "policy", "about", "subject", "status"])
    op.create_index("risk_case_status", "risk_case", ["tenant", "status", "number"])
    op.create_table(
        "risk_concerned",
        sa.Column("case", Int, autoincrement=False, nullable=False),
        sa.Column("member", Int, autoincrement=False, nullable=False),
        _col("tenant", sa.Text()),
        sa.PrimaryKeyConstraint("case", "member"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("risk_concerned_member", "risk_concerned", ["tenant", "member"])
    op.create_table(
        "risk_waiting",
        sa.Column("case", Int, autoincrement=False, nullable=False),
        _col("entry", sa.Text()),
        _col("tenant", sa.Text()),
        _col("member"),
        *[_col(name, sa.Text()) for name in ("status", "gentle")],
        _col("due_at"),
        _col("end", sa.Text()),
        sa.PrimaryKeyConstraint("case", "entry"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("risk_waiting_entry", "risk_waiting", ["tenant", "entry"])
    op.create_index("risk_waiting_due", "risk_waiting", ["tenant", "status", "due_at"])
    op.create_table(
        "risk_note",
        sa.Column("number", Int, primary_key=True),
        _col("case"),
        _col("tenant", sa.Text()),
        _col("at"),
        *[_col(name, sa.Text()) for name in ("by", "text")],
        sqlite_strict=True,
    )
    op.create_index("risk_note_case", "risk_note", ["case", "number"])
    op.create_table(
        "risk_mark",
        _col("tenant", sa.Text()),
        _col("number"),
        sa.PrimaryKeyConstraint("tenant"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
