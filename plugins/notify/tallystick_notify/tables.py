"""What the plugin keeps: messages that are due, how each went over each channel, and what members agreed to.

No wording and no address is kept in clear: wording is made of a message's facts when it goes out or is read, addresses are
read from the member's sealed profile when something is sent, browsers are sealed like it.  Instants are microseconds since 1970.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()
Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _col(name: str, kind: Any = Int, *, key: bool = False, default: str | None = None) -> sa.Column[Any]:
    server = None if default is None else sa.text(default)
    return sa.Column(name, kind, primary_key=key, nullable=False, server_default=server, autoincrement=False)


def _table(name: str, *columns: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(name, METADATA, *columns, sqlite_strict=True, sqlite_with_rowid=False)


#: One message to one member; asked for again under the same key, it is the same message.
message = _table(
    "notify_message",
    _col("tenant", sa.Text, key=True),
    _col("id", sa.Text, key=True),  # made of member, template and key
    _col("member"),  # 0: nobody's, for other systems only
    _col("template", sa.Text),
    _col("purpose", sa.Text),
    _col("facts", sa.Text),  # JSON
    _col("entry"),
    _col("due_at"),
    _col("expires_at", default="0"),  # 0: never
    _col("created_at"),
    _col("planned", default="0"),
    _col("read_at", default="0"),
    sa.Index("notify_message_member", "tenant", "member", "created_at"),
    sa.Index("notify_message_planned", "tenant", "planned", "due_at"),
)

#: How a message goes, or why it does not, over one channel.
delivery = _table(
    "notify_delivery",
    _col("tenant", sa.Text, key=True),
    _col("message", sa.Text, key=True),
    _col("channel", sa.Text, key=True),
    _col("state", sa.Text),  # waiting, sent, bounced, skipped, dead
    _col("reason", sa.Text, default="''"),
    _col("attempts", default="0"),
    _col("due_at"),
    _col("at"),  # when the state was reached
    _col("reference", sa.Text, default="''"),  # what the other side calls it
    _col("delivered_at", default="0"),  # as far as the channel tells; 0: not known
    _col("opened_at", default="0"),
    _col("unsubscribed_at", default="0"),
    sa.Index("notify_delivery_due", "tenant", "state", "due_at"),
    sa.Index("notify_delivery_reference", "tenant", "reference"),
)

#: What members agreed to and took back; the newest row per purpose and channel is in force, none is ever changed.
consent = _table(
    "notify_consent",
    _col("tenant", sa.Text, key=True),
    _col("member", key=True),
    _col("purpose", sa.Text, key=True),
    _col("channel", sa.Text, key=True),  # empty: all
    _col("number", key=True),
    _col("given"),
    _col("wording", sa.Text),  # version of the text that was agreed to
    _col("via", sa.Text),
    _col("at"),
)

#: Browsers that members want messages pushed to, sealed under the member's own key.
subscription = _table(
    "notify_subscription",
    _col("tenant", sa.Text, key=True),
    _col("member", key=True),
    _col("print", sa.Text, key=True),  # of the address, to know it again
    _col("body", sa.LargeBinary),
    _col("at"),
)
