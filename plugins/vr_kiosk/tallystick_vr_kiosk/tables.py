"""What the plugin keeps: devices, their frames and commands, pairings, allowances, codes, sessions, alarms.

No member's secret is kept, no code and no PIN in clear.  Instants are microseconds since 1970.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()
Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _col(name: str, kind: Any = Int, *, key: bool = False, default: str | None = None) -> sa.Column[Any]:
    server = None if default is None else sa.text(default)
    return sa.Column(name, kind, primary_key=key, nullable=False, server_default=server, autoincrement=False)


def _text(name: str, *, key: bool = False, default: str | None = None) -> sa.Column[Any]:
    return _col(name, sa.Text, key=key, default=default)


def _table(name: str, *columns: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(
        f"vr_kiosk_{name}", METADATA, _text("tenant", key=True), *columns, sqlite_strict=True, sqlite_with_rowid=False
    )


device = _table(
    "device",
    _text("id", key=True),
    _text("name"),
    _text("place", default="''"),
    _text("public_key"),
    _text("state"),  # active, quarantined, revoked
    _col("epoch"),
    _col("counter", default="0"),
    _text("last"),  # hash of the last frame taken
    _col("paired_at"),
    _col("seen_at", default="0"),
    _text("version", default="''"),
    _text("health", default="'{}'"),
    _col("offline_day", default="0"),  # the local day that the next number is about, as its ordinal
    _col("offline_events", default="0"),
    _col("recorded_until", default="0"),  # so long what it sends is written down, for sessions that are played again
)

#: Letters that a device shows and waits for somebody to approve.
pairing = _table(
    "pairing",
    _text("letters", key=True),
    _text("public_key"),
    _text("version"),
    _text("state"),  # waiting, approved, refused
    _text("device", default="''"),
    _col("expires_at"),
    sa.Index("vr_kiosk_pairing_key", "tenant", "public_key"),
)

#: Frames taken: what the same bytes are answered with if they come again.
frame = _table(
    "frame",
    _text("device", key=True),
    _col("epoch", key=True),
    _col("counter", key=True),
    _text("hash"),
    _text("answer", default="''"),  # JSON; empty where doing it again answers the same
    _col("at"),
)

#: What a device sends while it is recorded, without what is a member's; taken away by whoever records.
recorded = _table(
    "recorded",
    _text("device", key=True),
    _col("epoch", key=True),
    _col("counter", key=True),
    _text("line"),  # JSON
    _col("at"),
)

#: What a device shall do, and what it said of it.
command = _table(
    "command",
    _text("device", key=True),
    _text("id", key=True),
    _text("command"),
    _text("facts"),
    _text("state"),  # waiting, done, failed, given_up
    _col("tries", default="0"),
    _text("said", default="''"),
    _col("created_at"),
    _col("due_at"),
)

#: Points that a device may give rewards for while nobody can be asked.
grant = _table(
    "grant",
    _text("device", key=True),
    _text("id", key=True),
    _col("points"),
    _col("until"),
    _text("state"),  # open, ended
)

#: Names that codes bear; a member has one for the phone and one for each card.
alias = _table(
    "alias",
    _text("alias", key=True),
    _col("member"),
    _text("kind"),  # phone, card
    _text("state"),  # good, replaced
    _col("created_at"),
    sa.Index("vr_kiosk_alias_member", "tenant", "member"),
)

#: Steps in which a code was used; it identifies once.
used = _table(
    "used",
    _text("alias", key=True),
    _col("step", key=True),
    _text("operation"),
)

pin = _table(
    "pin",
    _col("member", key=True),
    _text("salt"),
    _text("hash"),
    _col("changed_at"),
)

#: Wrong codes and letters, by whom and by what, in the minute they were tried.
attempt = _table(
    "attempt",
    _text("who", key=True),
    _col("minute", key=True),
    _col("count"),
)

session = _table(
    "session",
    _text("id", key=True),
    _text("device"),
    _col("member"),
    _text("level"),  # card, code, pin
    _col("expires_at"),
    sa.Index("vr_kiosk_session_member", "tenant", "member"),
)

alarm = _table(
    "alarm",
    _text("id", key=True),
    _text("device"),
    _text("code"),
    _text("detail"),
    _col("at"),
    _col("seen_at", default="0"),
    sa.Index("vr_kiosk_alarm_at", "tenant", "at"),
)

#: Products on members' wish lists.
wish = _table(
    "wish",
    _col("member", key=True),
    _text("product", key=True),
    _text("showroom"),
    _col("at"),
)

#: Spots of showrooms that members have touched: tasks are about different ones.
found = _table(
    "found",
    _col("member", key=True),
    _text("showroom", key=True),
    _text("spot", key=True),
)
