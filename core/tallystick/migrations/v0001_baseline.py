"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Bytes = sa.LargeBinary().with_variant(sa.BLOB(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "alias",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("member", Int, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "fingerprint"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("alias_member", "alias", ["tenant", "member"], unique=False)
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("tenant", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("hash", Bytes, autoincrement=False, nullable=False),
        sa.Column("role", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("scopes", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("member", Int, server_default=sa.text("0"), autoincrement=False, nullable=False),
        sa.Column("created_at", Int, autoincrement=False, nullable=False),
        sa.Column("expires_at", Int, server_default=sa.text("0"), autoincrement=False, nullable=False),
        sa.Column("revoked_at", Int, server_default=sa.text("0"), autoincrement=False, nullable=False),
        sa.Column("replaces", sa.Text(), server_default=sa.text("''"), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("api_key_tenant", "api_key", ["tenant"], unique=False)
    op.create_table(
        "audit",
        sa.Column("id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("tenant", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("at", Int, autoincrement=False, nullable=False),
        sa.Column("actor", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("action", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("audit_tenant", "audit", ["tenant", "at"], unique=False)
    op.create_table(
        "balance",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("member", Int, nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("posted", Int, nullable=False),
        sa.Column("deficit", Int, sa.CheckConstraint("deficit >= 0"), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "member", "unit"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "batch",
        sa.Column("writer", Int, nullable=False),
        sa.Column("number", Int, nullable=False),
        sa.Column("epoch", Int, nullable=False),
        sa.Column("at", Int, nullable=False),
        sa.Column("count", Int, nullable=False),
        sa.Column("root", Bytes, nullable=False),
        sa.Column("previous", Bytes, nullable=False),
        sa.Column("chain", Bytes, nullable=False),
        sa.PrimaryKeyConstraint("writer", "number"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "claim",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("entry", Int, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "source", "id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "consumer",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("writer", Int, nullable=False),
        sa.Column("batch", Int, nullable=False),
        sa.PrimaryKeyConstraint("name", "writer"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "counter",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("member", Int, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("grain", sa.Text(), nullable=False),
        sa.Column("start", Int, nullable=False),
        sa.Column("value", Int, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "member", "name", "grain", "start"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "entry_member",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("member", Int, nullable=False),
        sa.Column("entry", Int, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "member", "entry"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "house",
        sa.Column("id", Int, autoincrement=False, nullable=False),
        sa.Column("created_at", Int, autoincrement=False, nullable=False),
        sa.Column("secret", Bytes, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "intent",
        sa.Column("entry", Int, nullable=False),
        sa.Column("place", Int, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("member", Int, server_default=sa.text("0"), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body", Bytes, nullable=False),
        sa.PrimaryKeyConstraint("entry", "place"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("due_at", Int, nullable=False),
        sa.Column("leased_until", Int, server_default=sa.text("0"), nullable=False),
        sa.Column("holder", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("progress", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "lot",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("member", Int, nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("entry", Int, nullable=False),
        sa.Column("part", Int, nullable=False),
        sa.Column("amount", Int, nullable=False),
        sa.Column("remaining", Int, sa.CheckConstraint("remaining >= 0"), nullable=False),
        sa.Column("usable_from", Int, nullable=False),
        sa.Column("expires_at", Int, nullable=False),
        sa.Column("sliding", Int, server_default=sa.text("0"), nullable=False),
        sa.Column("waits", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("issuer", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "member", "unit", "entry", "part"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(
        "lot_due",
        "lot",
        ["tenant", "expires_at"],
        unique=False,
        sqlite_where=sa.text("remaining > 0 AND expires_at < 4611686018427387904"),
        postgresql_where=sa.text("remaining > 0 AND expires_at < 4611686018427387904"),
    )
    op.create_table(
        "member",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("number", Int, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("enrolled_at", Int, nullable=False),
        sa.Column("secret", Bytes, nullable=True),
        sa.Column("tags", sa.Text(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("merged_into", Int, server_default=sa.text("0"), nullable=False),
        sa.Column("language", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "number"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "member_change",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", Int, nullable=False),
        sa.Column("member", Int, nullable=False),
        sa.Column("body", Bytes, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "order_entry",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("entry", Int, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("member", Int, nullable=False),
        sa.Column("value", Int, server_default=sa.text("0"), nullable=False),
        sa.Column("returned", Int, server_default=sa.text("0"), nullable=False),
        sa.Column("lines", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "order_id", "entry"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "order_key",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "order_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "own",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("member", Int, server_default=sa.text("0"), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "plugin", "key", "name"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("own_member", "own", ["tenant", "member"], unique=False)
    op.create_table(
        "person",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("member", Int, nullable=False),
        sa.Column("body", Bytes, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "member"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "programme",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("generation", Int, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("plugins", sa.Text(), nullable=False),
        sa.Column("since", Int, nullable=False),
        sa.Column("actor", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("said", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "generation"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "record",
        sa.Column("entry", Int, autoincrement=False, nullable=False),
        sa.Column("tenant", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("member", Int, autoincrement=False, nullable=False),
        sa.Column("received", Int, autoincrement=False, nullable=False),
        sa.Column("body", Bytes, autoincrement=False, nullable=False),
        sa.Column("facts", Bytes, autoincrement=False, nullable=True),
        sa.PrimaryKeyConstraint("entry"),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_index("record_member", "record", ["tenant", "member", "received", "entry"], unique=False)
    op.create_table(
        "repair",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("entry", Int, nullable=False),
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("hook", sa.Text(), nullable=False),
        sa.Column("situation", Bytes, nullable=False),
        sa.Column("repaired", Int, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "entry"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "stock",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("remaining", Int, sa.CheckConstraint("remaining >= 0"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "taken",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("entry", Int, nullable=False),
        sa.Column("place", Int, nullable=False),
        sa.Column("amount", Int, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "entry", "place"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tenant",
        sa.Column("id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("created_at", Int, autoincrement=False, nullable=False),
        sa.Column("generation", Int, server_default=sa.text("0"), autoincrement=False, nullable=False),
        sa.Column("programme", sa.Text(), server_default=sa.text("''"), autoincrement=False, nullable=False),
        sa.Column("applied", sa.Text(), server_default=sa.text("''"), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "transfer",
        sa.Column("entry", Int, nullable=False),
        sa.Column("place", Int, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("debit", sa.Text(), nullable=False),
        sa.Column("credit", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("amount", Int, sa.CheckConstraint("amount > 0"), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("lot", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("into_lot", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("entry", "place"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "writer",
        sa.Column("id", Int, autoincrement=False, nullable=False),
        sa.Column("epoch", Int, autoincrement=False, nullable=False),
        sa.Column("leased_until", Int, autoincrement=False, nullable=False),
        sa.Column("holder", sa.Text(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    # ### end Alembic commands ###
