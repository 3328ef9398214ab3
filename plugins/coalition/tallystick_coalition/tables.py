"""The plugin's own tables: what the journal says about partners, by partner; all but statements can be made again from it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()
Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _col(name: str, kind: Any = sa.Text, *, key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=key, nullable=False, autoincrement=False)


def _table(name: str, *columns: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(name, METADATA, *columns, sqlite_strict=True, sqlite_with_rowid=False)


#: What one brand came to owe another by a transfer, or less by its return (`n`: the total that came back, else 0).
entry = _table(
    "coalition_entry",
    _col("tenant", key=True),
    _col("partner", key=True),
    _col("period", key=True),
    _col("transfer", key=True),
    _col("n", Int, key=True),
    _col("kind"),
    _col("source"),
    _col("target"),
    _col("amount", Int),
    _col("gets", Int),
    _col("owed", Int),  # minor units the source owes the target; below 0: less
    _col("agreement"),
    _col("entry"),  # of the journal
    _col("member", Int),
    sa.Index("coalition_entry_member", "tenant", "member"),
)

#: What waits for a partner's answer: points that are held, returns the partner has not heard of.
waiting = _table(
    "coalition_waiting",
    _col("tenant", key=True),
    _col("partner", key=True),
    _col("transfer", key=True),
    _col("n", Int, key=True),  # 0: held; else the total that came back
    _col("at", Int),
    _col("before", Int),  # of a return: what had come back before it
    _col("period"),  # of a return
    sa.Index("coalition_waiting_at", "tenant", "at"),
)

#: Statements as they were signed, ours and theirs, and what they differ in.
statement = _table(
    "coalition_statement",
    _col("tenant", key=True),
    _col("partner", key=True),
    _col("period", key=True),
    _col("state"),  # agreed, disputed
    _col("ours"),  # JSON
    _col("theirs"),  # JSON
    _col("dispute"),  # JSON
    _col("at", Int),
)

#: How it goes with a partner in another deployment: the latest message that was heard of it, and what was in vain lately.
line = _table(
    "coalition_line",
    _col("tenant", key=True),
    _col("partner", key=True),
    _col("heard", Int),  # sequence
    _col("failures", Int),  # in a row
    _col("failed_at", Int),
)

#: Messages that were heard and might come again; older ones are refused by their sequence.
nonce = _table(
    "coalition_nonce",
    _col("tenant", key=True),
    _col("partner", key=True),
    _col("sequence", Int, key=True),
    _col("nonce", key=True),
)
