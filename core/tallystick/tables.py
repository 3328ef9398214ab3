"""What the house keeps, as SQLAlchemy Core tables.  Keys begin with the tenant; instants are microseconds since 1970.

Nothing in ``record``, ``transfer`` and ``batch`` is ever updated.  Everything else can be rebuilt from them, except what
a person told us (``person``, ``alias``) and what an operator set (``tenant``, ``programme``, ``api_key``).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()

# SQLite's INTEGER holds 64 bits and, as a lone primary key, is the row's own address; PostgreSQL needs BIGINT.
Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Bytes = sa.LargeBinary().with_variant(sa.BLOB(), "sqlite")


def _table(name: str, *columns: sa.Column[Any] | sa.schema.SchemaItem, clustered: bool = True) -> sa.Table:
    """A STRICT table; *clustered* ones live inside their primary key on SQLite."""
    return sa.Table(name, metadata, *columns, sqlite_strict=True, sqlite_with_rowid=not clustered)


def _col(
    name: str,
    kind: Any,
    *more: sa.schema.SchemaItem,
    key: bool = False,
    null: bool = False,
    default: str | None = None,
) -> sa.Column[Any]:
    server_default = None if default is None else sa.text(default)
    return sa.Column(
        name, kind, *more, primary_key=key, nullable=null, server_default=server_default, autoincrement=False
    )


#: One row: which deployment this is, since when, and the secret that keys its look-ups.
house = _table(
    "house",
    _col("id", Int, key=True),
    _col("created_at", Int),
    _col("secret", Bytes),
)

tenant = _table(
    "tenant",
    _col("id", sa.Text, key=True),
    _col("name", sa.Text),
    _col("created_at", Int),
    #: the generation row: taken FOR SHARE by every batch, exclusively by a change of settings
    _col("generation", Int, default="0"),
    _col("programme", sa.Text, default="''"),
    #: print of the tenant's table in tally.toml when it was last put in force: unchanged, it undoes no live change
    _col("applied", sa.Text, default="''"),
)

#: Every set of settings that ever judged an event, by content hash.
programme = _table(
    "programme",
    _col("tenant", sa.Text, key=True),
    _col("generation", Int, key=True),
    _col("hash", sa.Text),
    _col("document", sa.Text),
    _col("plugins", sa.Text),
    _col("since", Int),
    _col("actor", sa.Text, default="''"),
    #: what somebody asked for, as in tally.toml; the document is what it came to
    _col("said", sa.Text, default="'{}'"),
)

api_key = _table(
    "api_key",
    _col("id", sa.Text, key=True),
    _col("tenant", sa.Text),
    _col("name", sa.Text),
    _col("hash", Bytes),
    _col("role", sa.Text),
    _col("scopes", sa.Text),
    _col("member", Int, default="0"),
    _col("created_at", Int),
    _col("expires_at", Int, default="0"),
    _col("revoked_at", Int, default="0"),
    _col("replaces", sa.Text, default="''"),
    sa.Index("api_key_tenant", "tenant"),
)

# --- people ---------------------------------------------------------------------------------------------------------

member = _table(
    "member",
    _col("tenant", sa.Text, key=True),
    _col("number", Int, key=True),
    _col("status", sa.Text),
    _col("enrolled_at", Int),
    #: the key under which everything personal is encrypted; forgetting a member is destroying it
    _col("secret", Bytes, null=True),
    _col("tags", sa.Text, default="'[]'"),
    _col("merged_into", Int, default="0"),
    _col("language", sa.Text, default="''"),
)

#: What a person told us, encrypted under the member's key.
person = _table(
    "person",
    _col("tenant", sa.Text, key=True),
    _col("member", Int, key=True),
    _col("body", Bytes),
)

#: External ids as keyed fingerprints: found by whoever knows the id, readable by nobody.
alias = _table(
    "alias",
    _col("tenant", sa.Text, key=True),
    _col("fingerprint", sa.Text, key=True),
    _col("member", Int),
    sa.Index("alias_member", "tenant", "member"),
)

#: What an erasure or merge did, so that it can be replayed after a restore, or undone.
member_change = _table(
    "member_change",
    _col("tenant", sa.Text, key=True),
    _col("id", sa.Text, key=True),
    _col("kind", sa.Text),
    _col("at", Int),
    _col("member", Int),
    _col("body", Bytes),
)

# --- the journal ----------------------------------------------------------------------------------------------------

writer = _table(
    "writer",
    _col("id", Int, key=True),
    _col("epoch", Int),
    _col("leased_until", Int),
    _col("holder", sa.Text),
)

#: One row per batch and writer: the chain.
batch = _table(
    "batch",
    _col("writer", Int, key=True),
    _col("number", Int, key=True),
    _col("epoch", Int),
    _col("at", Int),
    _col("count", Int),
    _col("root", Bytes),
    _col("previous", Bytes),
    _col("chain", Bytes),
)

#: What the house keeps of an event.  ``entry`` grows within a writer; ``body`` is what the Merkle leaf hashes.
record = _table(
    "record",
    _col("entry", Int, key=True),
    _col("tenant", sa.Text),
    _col("member", Int),
    _col("received", Int),
    _col("body", Bytes),
    _col("facts", Bytes, null=True),
    # a statement is read newest first: entries of several writers are in order of time only by what was received when
    sa.Index("record_member", "tenant", "member", "received", "entry"),
    clustered=False,
)

#: Entries of others that moved something of this member (gifts, invitations, merges); own entries are in ``record``.
entry_member = _table(
    "entry_member",
    _col("tenant", sa.Text, key=True),
    _col("member", Int, key=True),
    _col("entry", Int, key=True),
)

#: The ids of accepted events, remembered as long as the ledger.
claim = _table(
    "claim",
    _col("tenant", sa.Text, key=True),
    _col("source", sa.Text, key=True),
    _col("id", sa.Text, key=True),
    _col("entry", Int),
)

transfer = _table(
    "transfer",
    _col("entry", Int, key=True),
    _col("place", Int, key=True),
    _col("tenant", sa.Text),
    _col("debit", sa.Text),
    _col("credit", sa.Text),
    _col("unit", sa.Text),
    _col("amount", Int, sa.CheckConstraint("amount > 0")),
    _col("rule", sa.Text),
    _col("lot", sa.Text, default="''"),
    _col("into_lot", sa.Text, default="''"),
)

# --- what follows from the journal ----------------------------------------------------------------------------------

balance = _table(
    "balance",
    _col("tenant", sa.Text, key=True),
    _col("member", Int, key=True),
    _col("unit", sa.Text, key=True),
    _col("posted", Int),
    _col("deficit", Int, sa.CheckConstraint("deficit >= 0"), default="0"),
)

lot = _table(
    "lot",
    _col("tenant", sa.Text, key=True),
    _col("member", Int, key=True),
    _col("unit", sa.Text, key=True),
    _col("entry", Int, key=True),
    _col("part", Int, key=True),
    _col("amount", Int),
    _col("remaining", Int, sa.CheckConstraint("remaining >= 0")),
    _col("usable_from", Int),
    _col("expires_at", Int),
    _col("sliding", Int, default="0"),
    _col("waits", sa.Text, default="''"),
    _col("issuer", sa.Text, default="''"),
)
# Only what is left and has an end can expire: all other lots stay out of the index.  (Of PostgreSQL the same is said in
# migrate.partial_on_both: to name its dialect here would import it, a sixth of all that a house on SQLite imports.)
_CAN_EXPIRE = sa.text(f"remaining > 0 AND expires_at < {1 << 62}")
sa.Index("lot_due", lot.c.tenant, lot.c.expires_at, sqlite_where=_CAN_EXPIRE)

#: Which entries named an order, and how much of a sale came back.
order_entry = _table(
    "order_entry",
    _col("tenant", sa.Text, key=True),
    _col("order_id", sa.Text, key=True),
    _col("entry", Int, key=True),
    _col("role", sa.Text),  # sale, refund, spend, parked, state
    _col("member", Int),
    _col("value", Int, default="0"),
    _col("returned", Int, default="0"),
    _col("lines", sa.Text, default="''"),  # returned per line, JSON
)

#: Orders that somebody named: the row that is locked.
order_key = _table(
    "order_key",
    _col("tenant", sa.Text, key=True),
    _col("order_id", sa.Text, key=True),
)

#: How much of each gain of an entry (by its place in the explanation) was taken back, kept or forgiven.
taken = _table(
    "taken",
    _col("tenant", sa.Text, key=True),
    _col("entry", Int, key=True),
    _col("place", Int, key=True),
    _col("amount", Int),
)

counter = _table(
    "counter",
    _col("tenant", sa.Text, key=True),
    _col("member", Int, key=True),  # 0: the tenant's own
    _col("name", sa.Text, key=True),
    _col("grain", sa.Text, key=True),
    _col("start", Int, key=True),  # first local day of the window, as days since 1970
    _col("value", Int),
)

stock = _table(
    "stock",
    _col("tenant", sa.Text, key=True),
    _col("key", sa.Text, key=True),
    _col("remaining", Int, sa.CheckConstraint("remaining >= 0")),
)

#: A plugin's own rows: small JSON values under a key, written only through effects.
own = _table(
    "own",
    _col("tenant", sa.Text, key=True),
    _col("plugin", sa.Text, key=True),
    _col("key", sa.Text, key=True),
    _col("name", sa.Text, key=True),
    _col("member", Int, default="0"),
    _col("value", sa.Text),
    sa.Index("own_member", "tenant", "member"),
)

# --- what leaves the house ------------------------------------------------------------------------------------------

#: Messages, device commands and derived events of a batch, gap-free by (writer, batch number).
intent = _table(
    "intent",
    _col("entry", Int, key=True),
    _col("place", Int, key=True),
    _col("tenant", sa.Text),
    _col("member", Int, default="0"),
    _col("channel", sa.Text),  # notify, command, event
    _col("key", sa.Text),
    _col("body", Bytes),
)

#: How far each consumer has read each writer.
consumer = _table(
    "consumer",
    _col("name", sa.Text, key=True),
    _col("writer", Int, key=True),
    _col("batch", Int),
)

#: Events whose proposals were skipped because a plugin failed, until repaired.
repair = _table(
    "repair",
    _col("tenant", sa.Text, key=True),
    _col("entry", Int, key=True),
    _col("plugin", sa.Text),
    _col("hook", sa.Text),
    _col("situation", Bytes),
    _col("repaired", Int, default="0"),
)

#: Administrative acts: who did what, when.
audit = _table(
    "audit",
    _col("id", sa.Text, key=True),
    _col("tenant", sa.Text),
    _col("at", Int),
    _col("actor", sa.Text),
    _col("action", sa.Text),
    _col("body", sa.Text),
    sa.Index("audit_tenant", "tenant", "at"),
)

job = _table(
    "job",
    _col("tenant", sa.Text, key=True),
    _col("name", sa.Text, key=True),
    _col("due_at", Int),
    _col("leased_until", Int, default="0"),
    _col("holder", sa.Text, default="''"),
    _col("progress", sa.Text, default="''"),
)
