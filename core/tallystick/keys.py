"""API keys: made, found again, rotated and revoked.  The secret itself is shown once and kept nowhere.

A key is written ``tk_<id>_<secret>``.  The secret is 256 random bits, so its plain SHA-256 is what the house stores: a
slow hash makes guessing dear where there is something to guess, as in a password, and here there is not; it would only
make every request dear.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import Final

import sqlalchemy as sa
from msgspec import Struct

from . import tables
from .access import Principal
from .database import reading
from .errors import InvalidKey, NotFound, Unauthorized
from .manifest import ROLES

#: How long an authenticated key is believed without asking again; a revoked key works at most so long in other processes.
MEMORY_SECONDS: Final = 2.0
#: How long the old key of a rotation goes on working, in microseconds, unless somebody says otherwise.
GRACE: Final = 24 * 3600 * 1_000_000
_REMEMBERED = 4_096
_SECRET_BYTES = 32
_ID_BYTES = 8
_LONGEST = 128


class Key(Struct, frozen=True, kw_only=True):
    """A key as it is listed.  Instants are microseconds since 1970; 0 is never."""

    id: str
    tenant: str
    name: str
    role: str
    scopes: tuple[str, ...] = ()
    member: int = 0
    created_at: int = 0
    expires_at: int = 0
    revoked_at: int = 0
    replaces: str = ""

    def active(self, now: int) -> bool:
        """Whether it opens anything at *now*."""
        return not self.revoked_at and (not self.expires_at or now < self.expires_at)

    @property
    def principal(self) -> Principal:
        """Who stands at the door with it."""
        return Principal(
            key=self.id, tenant=self.tenant, role=self.role, scopes=frozenset(self.scopes), member=self.member
        )


def create(
    conn: sa.Connection,
    *,
    tenant: str,
    role: str,
    name: str,
    now: int,
    scopes: Sequence[str] = (),
    member: int = 0,
    expires_at: int = 0,
    replaces: str = "",
) -> tuple[Key, str]:
    """Make a key and return it with its full text, which nobody can show again.

    Raises InvalidKey for an unknown role, and for a member's key that does not say whose it is.
    """
    if role not in ROLES:
        raise InvalidKey(f"there is no role {role!r}; expected one of {', '.join(ROLES)}", pointer="/role")
    if (role == "member") is not bool(member):
        raise InvalidKey("a key of the role member, and no other, names its member", pointer="/member")
    if expires_at and expires_at <= now:
        raise InvalidKey("the key would have expired already", pointer="/expires_at")
    key = Key(
        id=secrets.token_hex(_ID_BYTES),
        tenant=tenant,
        name=name,
        role=role,
        scopes=tuple(sorted(set(scopes))),
        member=member,
        created_at=now,
        expires_at=expires_at,
        replaces=replaces,
    )
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    row = {**{field: getattr(key, field) for field in key.__struct_fields__}, "scopes": " ".join(key.scopes)}
    conn.execute(sa.insert(tables.api_key).values(**row, hash=_digest(secret)))
    return key, f"tk_{key.id}_{secret}"


def revoke(conn: sa.Connection, *, tenant: str, key_id: str, now: int) -> Key:
    """Make a key open nothing any more; revoking it again changes nothing.  Raises NotFound."""
    key = load(conn, tenant=tenant, key_id=key_id)
    if not key.revoked_at:
        conn.execute(_update(tenant, key_id).values(revoked_at=now))
    return load(conn, tenant=tenant, key_id=key_id)


def rotate(conn: sa.Connection, *, tenant: str, key_id: str, now: int, grace: int = GRACE) -> tuple[Key, str]:
    """Make a key's successor, equal in all but its secret; the old one goes on working for *grace* microseconds.

    Two keys of one line are active at most: rotating the successor ends this one.  Raises NotFound if the key is not
    known or opens nothing any more, and InvalidKey if it was rotated before.
    """
    table = tables.api_key
    old = load(conn, tenant=tenant, key_id=key_id)
    if not old.active(now):
        raise NotFound("this key opens nothing any more; create a new one")
    later = sa.select(table.c.id).where(table.c.tenant == tenant, table.c.replaces == key_id, table.c.revoked_at == 0)
    if (successor := conn.execute(later).scalar()) is not None:
        raise InvalidKey(f"this key was rotated already; its successor is {successor}", successor=successor)
    if old.replaces:
        conn.execute(_update(tenant, old.replaces).where(tables.api_key.c.revoked_at == 0).values(revoked_at=now))
    until = min(now + grace, old.expires_at or now + grace)
    conn.execute(_update(tenant, key_id).values(**({"revoked_at": now} if grace <= 0 else {"expires_at": until})))
    return create(
        conn,
        tenant=tenant,
        role=old.role,
        name=old.name,
        now=now,
        scopes=old.scopes,
        member=old.member,
        expires_at=old.expires_at,
        replaces=key_id,
    )


def load(conn: sa.Connection, *, tenant: str, key_id: str) -> Key:
    """One key of the tenant; raises NotFound."""
    table = tables.api_key
    row = conn.execute(sa.select(table).where(table.c.tenant == tenant, table.c.id == key_id)).one_or_none()
    if row is None:
        raise NotFound("there is no such key here")
    return _key(row)


def list_keys(conn: sa.Connection, *, tenant: str) -> list[Key]:
    """All keys of a tenant, the oldest first."""
    table = tables.api_key
    rows = conn.execute(sa.select(table).where(table.c.tenant == tenant).order_by(table.c.created_at, table.c.id))
    return [_key(row) for row in rows]


def authenticate(conn: sa.Connection, text: str, now: int) -> Key:
    """The key that *text* is, if it opens anything at *now*; raises Unauthorized, which never says why."""
    key_id, secret = _parse(text)
    table = tables.api_key
    row = conn.execute(sa.select(table).where(table.c.id == key_id)).one_or_none()
    # compared even where there is nothing to compare with: the answer takes as long
    right = hmac.compare_digest(_digest(secret), bytes(row.hash) if row is not None else bytes(32))
    if row is None or not right or not (key := _key(row)).active(now):
        raise Unauthorized
    return key


class Keyring:
    """Authenticates the keys of requests and remembers the answer for a moment.

    *clock* gives the time as microseconds since 1970 and *monotonic* seconds that never jump.
    """

    def __init__(self, engine: sa.Engine, *, clock: Callable[[], int], monotonic: Callable[[], float]) -> None:
        self._engine, self._clock, self._monotonic = engine, clock, monotonic
        self._known: dict[bytes, tuple[float, Key, Principal]] = {}

    def remembered(self, text: str) -> Principal | None:
        """Who it is, if that was asked a moment ago; asks no database."""
        found = self._known.get(_digest(text))
        if found is None or found[0] < self._monotonic() or not found[1].active(self._clock()):
            return None
        return found[2]

    def authenticate(self, text: str) -> Principal:
        """Who it is; raises Unauthorized."""
        if (principal := self.remembered(text)) is not None:
            return principal
        asked = self._monotonic()  # before the look, so that a revocation during it is not outlived
        with reading(self._engine) as conn:
            key = authenticate(conn, text, self._clock())
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        principal = key.principal
        self._known[_digest(text)] = (asked + MEMORY_SECONDS, key, principal)
        return principal

    def forget(self) -> None:
        """Ask anew from now on: a key was revoked or rotated in this process."""
        self._known.clear()


def _parse(text: str) -> tuple[str, str]:
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != "tk" or len(text) > _LONGEST or not text.isascii():
        raise Unauthorized
    return parts[1], parts[2]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _update(tenant: str, key_id: str) -> sa.Update:
    return sa.update(tables.api_key).where(tables.api_key.c.tenant == tenant, tables.api_key.c.id == key_id)


def _key(row: sa.Row[tuple[object, ...]]) -> Key:
    fields = {name: getattr(row, name) for name in Key.__struct_fields__}
    return Key(**{**fields, "scopes": tuple(row.scopes.split())})
