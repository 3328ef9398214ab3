"""Looking after devices: pairing, states, allowances.  Doors and commands both come here."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from msgspec import Struct

from tallystick import errands, queries
from tallystick.errors import NotFound, TallyError, UnknownEntry
from tallystick.ledger import instant, parse_entry

from . import frames, pairing, store
from .errors import PairingEnded, TooManyTries
from .store import Connection

#: Wrong letters that one person may type in a minute.
TRIES: Final = 5


Errand: TypeAlias = errands.Errand[Any]


class Allowance(Struct, frozen=True, kw_only=True):
    """An allowance, as it stands in the ledger."""

    grant: str
    device: str
    points: int
    until: datetime


def find(conn: Connection, tenant: str, device: str) -> Any:
    """The device's row.  Raises NotFound."""
    row = store.load_device(conn, tenant, device)
    if row is None:
        raise NotFound(f"there is no device {device}")
    return row


def approve(
    errand: Errand, letters: str, number: str, *, name: str, place: str = "", device: str = "", who: str = ""
) -> Any:
    """Pair the device that shows *letters* and *number*; its row.  With *device* that one is paired anew, in a new epoch.

    Raises PairingEnded, NotFound, and TooManyTries once *who* was wrong five times in a minute.
    """
    now, said = instant(errand.now), pairing.read_letters(letters)
    with errand.house.db.begin() as conn:
        if store.tries(conn, errand.tenant, f"approve/{who}", now) >= TRIES:
            raise TooManyTries
        row = store.load_pairing(conn, errand.tenant, said, lock=True)
        right = row is not None and row.state == "waiting" and row.expires_at >= now
        if right and pairing.number_of(row.public_key) == number:
            return _pair(conn, errand.tenant, row, device, now, name=name, place=place)
        store.note_try(conn, errand.tenant, f"approve/{who}", now)
    raise PairingEnded


def invite(errand: Errand, name: str, until: datetime) -> str:
    """A word for the page's address: the first device that comes with it by *until* is paired at once, and is called *name*."""
    letters = pairing.make_letters()
    with errand.house.db.begin() as conn:
        store.add_pairing(
            conn,
            errand.tenant,
            letters=letters,
            public_key="",
            version=name,
            state="invited",
            expires_at=instant(until),
        )
    word: str = errand.house.pass_for(errand.tenant, "vr_kiosk.pair", "page", letters)
    return word


def accept(conn: Connection, tenant: str, letters: str, public_key: str, version: str, now: int) -> int:
    """Let a device come that was invited; until when its letters are good, or 0 if somebody else came with them, or too late."""
    row = store.load_pairing(conn, tenant, letters, lock=True)
    if row is None or row.state != "invited" or row.expires_at < now:
        return 0
    store.change_pairing(conn, tenant, letters, public_key=public_key, version=version)
    _pair(conn, tenant, store.load_pairing(conn, tenant, letters), "", now, name=row.version, place="")
    return int(row.expires_at)


def _pair(conn: Connection, tenant: str, row: Any, device: str, now: int, *, name: str, place: str) -> Any:
    values = {
        "name": name, "place": place, "public_key": row.public_key, "state": "active", "counter": 0,
        "last": frames.NOTHING, "paired_at": now, "version": row.version,
    }  # fmt: skip
    if device:
        before = find(conn, tenant, device)
        store.change_device(conn, tenant, device, epoch=before.epoch + 1, **values)
    else:
        device = f"k-{secrets.token_hex(4)}"
        store.add_device(conn, tenant, id=device, epoch=1, **values)
    store.change_pairing(conn, tenant, row.letters, state="approved", device=device)
    return store.load_device(conn, tenant, device)


def change_state(errand: Errand, device: str, state: str) -> Any:
    """The device's row in its new state: active, quarantined or revoked.  Raises NotFound."""
    with errand.house.db.begin() as conn:
        if find(conn, errand.tenant, device).state == "revoked" and state != "revoked":
            raise NotFound("a revoked device must be paired anew")
        store.change_device(conn, errand.tenant, device, state=state)
        return store.load_device(conn, errand.tenant, device)


def tell(errand: Errand, device: str, command: str, facts: Mapping[str, Any]) -> str:
    """Let the device do something: it is told with its next sign of life.  The command's id.

    Raises NotFound, and UnknownEntry if it shall print the receipt of an entry that is none of a reward.
    """
    id = secrets.token_hex(8)
    if command == "print" and "entry" in facts:
        with errand.house.reading() as conn:
            if not queries.load_record(conn, errand.tenant, parse_entry(str(facts["entry"])) or 0).gives:
                raise UnknownEntry(f"entry {facts['entry']} gave nothing")
    with errand.house.db.begin() as conn:
        find(conn, errand.tenant, device)
        store.add_command(conn, errand.tenant, device, id, command, facts, instant(errand.now))
    return id


def give(errand: Errand, device: str, points: int, until: datetime) -> Allowance:
    """An allowance, in the ledger first and then in what the device is told.  Raises NotFound."""
    with errand.house.reading() as conn:
        find(conn, errand.tenant, device)
    id = f"g-{secrets.token_hex(4)}"
    [outcome] = errand.record([
        {
            "id": f"{device}/{id}", "source": "vr_kiosk", "type": "vr_kiosk.allowed", "time": errand.now.isoformat(),
            "data": {"device": device, "grant": id, "points": points, "until": until.isoformat()},
        }
    ])  # fmt: skip
    if isinstance(outcome, TallyError):
        raise outcome
    with errand.house.db.begin() as conn:
        store.keep_grant(conn, errand.tenant, device, id, points, instant(until))
    return Allowance(grant=id, device=device, points=points, until=until)
