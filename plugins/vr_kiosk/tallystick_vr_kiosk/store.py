"""The plugin's own rows."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tallystick import tables
from tallystick.effects import Command

from .frames import Frame
from .tables import (
    alarm,
    alias,
    attempt,
    command,
    device,
    found,
    frame,
    grant,
    pairing,
    pin,
    recorded,
    session,
    used,
    wish,
)

Connection = sa.Connection
_MINUTE: Final = 60 * 1_000_000
#: Commands that a device is given at once.
AT_ONCE: Final = 20


def _mine(table: sa.Table, tenant: str, **keys: Any) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.tenant == tenant, *(table.c[name] == value for name, value in keys.items()))


def _insert(conn: sa.Connection, table: sa.Table) -> Any:
    return (postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert)(table)


def _bound(table: sa.Table, *names: str) -> sa.ColumnElement[bool]:
    return sa.and_(*(table.c[name] == sa.bindparam(f"b_{name}") for name in names))


def _any_of(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return column.in_(sa.bindparam("b_any", expanding=True))


# what every group of frames asks for is put together once
_LOAD_DEVICE: Final = sa.select(device).where(_bound(device, "tenant", "id"))
_LOAD_DEVICES: Final = sa.select(device).where(_bound(device, "tenant"), _any_of(device.c.id)).order_by(device.c.id)
_LOCK_DEVICES: Final = _LOAD_DEVICES.with_for_update()
_LOAD_FRAME: Final = sa.select(frame).where(_bound(frame, "tenant", "device", "epoch", "counter"))
_KEEP_FRAME: Final = frame.insert()
_TOUCH: Final = device.update().where(_bound(device, "tenant", "id")).values(
    {name: sa.bindparam(f"n_{name}") for name in ("counter", "last", "seen_at", "offline_day", "offline_events", "version", "health")}
)  # fmt: skip
_KEEP_ANSWER: Final = (
    frame.update().where(_bound(frame, "tenant", "device", "epoch", "counter")).values(answer=sa.bindparam("n_answer"))
)
_DUE: Final = (
    sa.select(command)
    .where(
        _bound(command, "tenant"), _any_of(command.c.device), command.c.state == "waiting", command.c.due_at <= sa.bindparam("b_now")
    )
    .order_by(command.c.created_at, command.c.id)
)  # fmt: skip
_OPEN: Final = (
    sa.select(grant)
    .where(_bound(grant, "tenant"), _any_of(grant.c.device), grant.c.state == "open")
    .order_by(grant.c.until, grant.c.id)
)
_SESSIONS: Final = sa.select(session).where(_bound(session, "tenant"), _any_of(session.c.id))
_MEMBERS: Final = sa.select(tables.member).where(_bound(tables.member, "tenant"), _any_of(tables.member.c.number))
_FOUND: Final = sa.select(found).where(_bound(found, "tenant"), _any_of(found.c.member))


# --- devices --------------------------------------------------------------------------------------------------------


def load_device(conn: sa.Connection, tenant: str, id: str) -> Any:
    """A device's row, or None."""
    return conn.execute(_LOAD_DEVICE, {"b_tenant": tenant, "b_id": id}).one_or_none()


def load_devices(conn: sa.Connection, tenant: str, ids: Sequence[str], *, lock: bool = False) -> dict[str, Any]:
    """The devices' rows, by id; those that are not there are left out.  Locked in the order of their ids."""
    query = _LOCK_DEVICES if lock else _LOAD_DEVICES
    return {row.id: row for row in conn.execute(query, {"b_tenant": tenant, "b_any": ids})}


def list_devices(conn: sa.Connection, tenant: str) -> Sequence[Any]:
    """All devices, by name."""
    return conn.execute(sa.select(device).where(_mine(device, tenant)).order_by(device.c.name, device.c.id)).all()


def add_device(conn: sa.Connection, tenant: str, **values: Any) -> None:
    """A device that was just paired; paired again, the row goes on with a further epoch."""
    conn.execute(device.insert().values(tenant=tenant, **values))


def change_device(conn: sa.Connection, tenant: str, id: str, **values: Any) -> None:
    """Change a device's row."""
    conn.execute(device.update().where(_mine(device, tenant, id=id)).values(**values))


def touch_devices(conn: sa.Connection, tenant: str, changes: Sequence[tuple[Any, Mapping[str, Any]]]) -> None:
    """What frames change of their devices' rows: their number, and how the device is."""
    names = ("counter", "last", "seen_at", "offline_day", "offline_events", "version", "health")
    if changes:
        conn.execute(
            _TOUCH,
            [
                {"b_tenant": tenant, "b_id": row.id, **{f"n_{name}": said.get(name, getattr(row, name)) for name in names}}
                for row, said in changes
            ],
        )  # fmt: skip


def set_aside(conn: sa.Connection, tenant: str, id: str, code: str, detail: str, now: int) -> None:
    """Take nothing from the device any more until somebody has looked."""
    mine = sa.and_(_mine(device, tenant, id=id), device.c.state == "active")
    if conn.execute(device.update().where(mine).values(state="quarantined")).rowcount:
        raise_alarm(conn, tenant, id, code, detail, now)


def raise_alarm(conn: sa.Connection, tenant: str, device_id: str, code: str, detail: str, now: int) -> None:
    """Something that a person should look at."""
    conn.execute(
        alarm.insert().values(
            tenant=tenant, id=secrets.token_hex(8), device=device_id, code=code, detail=detail[:500], at=now, seen_at=0
        )
    )


def list_alarms(conn: sa.Connection, tenant: str, limit: int = 100) -> Sequence[Any]:
    """Alarms, newest first."""
    return conn.execute(sa.select(alarm).where(_mine(alarm, tenant)).order_by(alarm.c.at.desc()).limit(limit)).all()


# --- frames ---------------------------------------------------------------------------------------------------------


def load_frame(conn: sa.Connection, tenant: str, device_id: str, epoch: int, counter: int) -> Any:
    """A frame that was taken, or None."""
    mine = {"b_tenant": tenant, "b_device": device_id, "b_epoch": epoch, "b_counter": counter}
    return conn.execute(_LOAD_FRAME, mine).one_or_none()


def keep_frames(conn: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Take frames: their numbers are used from now on."""
    if rows:
        conn.execute(_KEEP_FRAME, rows)


def keep_answers(conn: sa.Connection, tenant: str, answers: Iterable[tuple[Frame, bytes]]) -> None:
    """What the same frames are answered with from now on."""
    rows = [
        {
            "b_tenant": tenant, "b_device": one.device, "b_epoch": one.epoch, "b_counter": one.counter,
            "n_answer": answer.decode(),
        }
        for one, answer in answers
    ]  # fmt: skip
    if rows:
        conn.execute(_KEEP_ANSWER, rows)


# --- recording ------------------------------------------------------------------------------------------------------


def keep_lines(conn: sa.Connection, tenant: str, lines: Sequence[tuple[Frame, bytes]], now: int) -> None:
    """What devices sent that are recorded."""
    rows = [
        {"tenant": tenant, "device": one.device, "epoch": one.epoch, "counter": one.counter, "line": line.decode(), "at": now}
        for one, line in lines
    ]  # fmt: skip
    if rows:
        conn.execute(recorded.insert(), rows)


def take_lines(conn: sa.Connection, tenant: str, device_id: str) -> list[str]:
    """What the device sent since this was asked last, in its order; nobody gets it again."""
    mine = _mine(recorded, tenant, device=device_id)
    query = sa.select(recorded.c.epoch, recorded.c.counter, recorded.c.line).where(mine)
    rows = conn.execute(query.order_by(recorded.c.epoch, recorded.c.counter)).all()
    if rows:
        until = sa.tuple_(recorded.c.epoch, recorded.c.counter) <= sa.tuple_(rows[-1].epoch, rows[-1].counter)
        conn.execute(recorded.delete().where(mine, until))
    return [row.line for row in rows]


# --- pairing --------------------------------------------------------------------------------------------------------


def add_pairing(conn: sa.Connection, tenant: str, **values: Any) -> None:
    """A device shows letters."""
    conn.execute(
        pairing.delete().where(_mine(pairing, tenant), pairing.c.expires_at < values["expires_at"] - 24 * 60 * _MINUTE)
    )
    conn.execute(pairing.insert().values(tenant=tenant, **values))


def load_pairing(conn: sa.Connection, tenant: str, letters: str, *, lock: bool = False) -> Any:
    """Who shows these letters, or None."""
    query = sa.select(pairing).where(_mine(pairing, tenant, letters=letters))
    return conn.execute(query.with_for_update() if lock else query).one_or_none()


def change_pairing(conn: sa.Connection, tenant: str, letters: str, **values: Any) -> None:
    """The letters were approved or refused."""
    conn.execute(pairing.update().where(_mine(pairing, tenant, letters=letters)).values(**values))


# --- tries ----------------------------------------------------------------------------------------------------------


def tries(conn: sa.Connection, tenant: str, who: str, now: int, minutes: int = 1) -> int:
    """How often *who* was wrong in the last minutes."""
    since = now // _MINUTE - minutes + 1
    return (
        conn.scalar(
            sa.select(sa.func.sum(attempt.c.count)).where(_mine(attempt, tenant, who=who), attempt.c.minute >= since)
        )
        or 0
    )


def note_try(conn: sa.Connection, tenant: str, who: str, now: int) -> None:
    """*who* was wrong once more."""
    row = _insert(conn, attempt).values(tenant=tenant, who=who, minute=now // _MINUTE, count=1)
    conn.execute(
        row.on_conflict_do_update(index_elements=["tenant", "who", "minute"], set_={"count": attempt.c.count + 1})
    )


# --- members' codes -------------------------------------------------------------------------------------------------


def make_alias(conn: sa.Connection, tenant: str, member: int, kind: str, now: int) -> str:
    """A fresh alias for the member; the one before of the same kind is good no more."""
    mine = sa.and_(_mine(alias, tenant, member=member, kind=kind), alias.c.state == "good")
    conn.execute(alias.update().where(mine).values(state="replaced"))
    made = base64.b32encode(secrets.token_bytes(10)).decode()
    conn.execute(
        alias.insert().values(tenant=tenant, alias=made, member=member, kind=kind, state="good", created_at=now)
    )
    return made


def alias_of(conn: sa.Connection, tenant: str, member: int, kind: str, now: int) -> str:
    """The member's alias, made now if there is none."""
    mine = sa.and_(_mine(alias, tenant, member=member, kind=kind), alias.c.state == "good")
    found = conn.scalar(sa.select(alias.c.alias).where(mine).limit(1))
    return found or make_alias(conn, tenant, member, kind, now)


def find_alias(conn: sa.Connection, tenant: str, text: str) -> Any:
    """Whose alias it is, or None."""
    return conn.execute(sa.select(alias).where(_mine(alias, tenant, alias=text, state="good"))).one_or_none()


def use_code(conn: sa.Connection, tenant: str, text: str, step: int, operation: str) -> bool:
    """Use a code up in its step; False if another operation did."""
    row = _insert(conn, used).values(tenant=tenant, alias=text, step=step, operation=operation)
    conn.execute(row.on_conflict_do_nothing())
    return conn.scalar(sa.select(used.c.operation).where(_mine(used, tenant, alias=text, step=step))) == operation


def set_pin(conn: sa.Connection, tenant: str, member: int, text: str, now: int) -> None:
    """The member's new PIN."""
    salt = secrets.token_hex(16)
    row = _insert(conn, pin).values(tenant=tenant, member=member, salt=salt, hash=_slow(text, salt), changed_at=now)
    changes = {"salt": salt, "hash": _slow(text, salt), "changed_at": now}
    conn.execute(row.on_conflict_do_update(index_elements=["tenant", "member"], set_=changes))


def load_pin(conn: sa.Connection, tenant: str, member: int) -> Any:
    """The member's PIN as it is kept, or None."""
    return conn.execute(sa.select(pin).where(_mine(pin, tenant, member=member))).one_or_none()


def is_pin(row: Any, text: str) -> bool:
    """Whether it is the PIN of the row; takes as long if there is none."""
    right = _slow(text, row.salt if row is not None else "00" * 16)
    return row is not None and secrets.compare_digest(right, row.hash)


def _slow(text: str, salt: str) -> str:
    # four to eight digits are guessed in a blink if the hash is fast; 32 MiB and about 50 ms a guess
    return hashlib.scrypt(text.encode(), salt=bytes.fromhex(salt), n=1 << 14, r=8, p=2, maxmem=1 << 26, dklen=32).hex()


# --- sessions -------------------------------------------------------------------------------------------------------


def open_session(
    conn: sa.Connection, tenant: str, id: str, device_id: str, member: int, level: str, until: int
) -> None:
    """A member stands at a device."""
    conn.execute(session.delete().where(_mine(session, tenant), session.c.expires_at < until - 24 * 60 * _MINUTE))
    row = _insert(conn, session).values(
        tenant=tenant, id=id, device=device_id, member=member, level=level, expires_at=until
    )
    conn.execute(row.on_conflict_do_nothing())


def load_sessions(conn: sa.Connection, tenant: str, ids: Sequence[str]) -> dict[str, Any]:
    """Who stands there, by the sessions' ids."""
    return {row.id: row for row in conn.execute(_SESSIONS, {"b_tenant": tenant, "b_any": ids})} if ids else {}


def change_session(conn: sa.Connection, tenant: str, id: str, **values: Any) -> None:
    """Somebody is still there, has shown a PIN, or is gone."""
    conn.execute(session.update().where(_mine(session, tenant, id=id)).values(**values))


def end_session(conn: sa.Connection, tenant: str, id: str) -> None:
    """Nothing of it is left."""
    conn.execute(session.delete().where(_mine(session, tenant, id=id)))


# --- commands -------------------------------------------------------------------------------------------------------


def add_command(conn: sa.Connection, tenant: str, device_id: str, id: str, what: str, facts: Any, now: int) -> None:
    """Something the device shall do; asked for again under the same id, it is the same."""
    row = _insert(conn, command).values(
        tenant=tenant, device=device_id, id=id, command=what, facts=msgspec.json.encode(facts).decode(), state="waiting",
        tries=0, said="", created_at=now, due_at=now,
    )  # fmt: skip
    conn.execute(row.on_conflict_do_nothing())


def keep_commands(conn: sa.Connection, tenant: str, found: Iterable[tuple[int, Any]]) -> None:
    """Write down commands that effects asked for, each with when its batch was committed."""
    for at, intent in found:
        effect = msgspec.json.decode(intent.body, type=Command)
        if load_device(conn, tenant, effect.device) is not None:
            key = f"{intent.entry}-{intent.place}"
            add_command(conn, tenant, effect.device, key, effect.command, effect.facts, at)


def take_commands(
    conn: sa.Connection, tenant: str, devices: Sequence[str], now: int, *, tries: int, pause: int
) -> dict[str, list[Any]]:
    """Commands that are due, by device; each comes again after *pause* until the device has answered, *tries* times at most."""
    given: dict[str, list[Any]] = {}
    for row in conn.execute(_DUE, {"b_tenant": tenant, "b_any": devices, "b_now": now}).all() if devices else ():
        mine = _mine(command, tenant, device=row.device, id=row.id)
        if row.tries >= tries:
            give_up(conn, tenant, row, now)
        elif len(given.setdefault(row.device, [])) < AT_ONCE:
            conn.execute(command.update().where(mine).values(tries=row.tries + 1, due_at=now + pause))
            given[row.device].append(row)
    return given


def give_up(conn: sa.Connection, tenant: str, row: Any, now: int) -> None:
    """Nobody waits for the command any more; somebody hears of it."""
    conn.execute(command.update().where(_mine(command, tenant, device=row.device, id=row.id)).values(state="given_up"))
    raise_alarm(conn, tenant, row.device, "command_given_up", f"{row.command} was not answered", now)


def load_command(conn: sa.Connection, tenant: str, device_id: str, id: str) -> Any:
    """A command's row, or None."""
    return conn.execute(sa.select(command).where(_mine(command, tenant, device=device_id, id=id))).one_or_none()


def printer_beside(conn: sa.Connection, tenant: str, device_id: str, since: int) -> Any:
    """The device with a receipt printer at the same place, heard of *since*, the last heard of first; None if there is none."""
    place = sa.select(device.c.place).where(_mine(device, tenant, id=device_id)).scalar_subquery()
    here = sa.and_(_mine(device, tenant, state="active"), device.c.place == place, device.c.place != "")
    query = sa.select(device).where(here, device.c.seen_at >= since).order_by(device.c.seen_at.desc(), device.c.id)
    return next(
        (row for row in conn.execute(query) if msgspec.json.decode(row.health).get("printer") == "escpos"), None
    )


def answer_command(conn: sa.Connection, tenant: str, device_id: str, id: str, *, done: bool, said: str) -> None:
    """The device's receipt."""
    mine = sa.and_(_mine(command, tenant, device=device_id, id=id), command.c.state.in_(("waiting", "given_up")))
    conn.execute(command.update().where(mine).values(state="done" if done else "failed", said=said[:500]))


def list_commands(conn: sa.Connection, tenant: str, device_id: str) -> Sequence[Any]:
    """The device's commands, newest first."""
    mine = _mine(command, tenant, device=device_id)
    return conn.execute(sa.select(command).where(mine).order_by(command.c.created_at.desc()).limit(100)).all()


# --- allowances -----------------------------------------------------------------------------------------------------


def keep_grant(conn: sa.Connection, tenant: str, device_id: str, id: str, points: int, until: int) -> None:
    """An allowance that stands in the ledger."""
    row = _insert(conn, grant).values(tenant=tenant, device=device_id, id=id, points=points, until=until, state="open")
    conn.execute(row.on_conflict_do_nothing())


def open_grants(conn: sa.Connection, tenant: str, devices: Sequence[str]) -> dict[str, list[Any]]:
    """Allowances that are open, by device, the one that ends first before the others."""
    by_device: dict[str, list[Any]] = {}
    for row in conn.execute(_OPEN, {"b_tenant": tenant, "b_any": devices}) if devices else ():
        by_device.setdefault(row.device, []).append(row)
    return by_device


def over_grants(conn: sa.Connection, tenant: str, before: int) -> Sequence[Any]:
    """Allowances that are open and ended before an instant."""
    mine = sa.and_(_mine(grant, tenant, state="open"), grant.c.until <= before)
    return conn.execute(sa.select(grant).where(mine).order_by(grant.c.until, grant.c.id)).all()


def end_grant(conn: sa.Connection, tenant: str, device_id: str, id: str) -> None:
    """The allowance is over."""
    conn.execute(grant.update().where(_mine(grant, tenant, device=device_id, id=id)).values(state="ended"))


# --- wishes, and what is kept of a member ----------------------------------------------------------------------------


def keep_wishes(conn: sa.Connection, tenant: str, found: Sequence[tuple[int, Mapping[str, Any]]], now: int) -> None:
    """Products on members' wish lists, each once."""
    rows = [
        {"tenant": tenant, "member": member, "product": facts["product"], "showroom": facts["showroom"], "at": now}
        for member, facts in found
    ]
    if rows:
        conn.execute(_insert(conn, wish).on_conflict_do_nothing(), rows)


def wishes(conn: sa.Connection, tenant: str, member: int) -> Sequence[Any]:
    """The member's wish list, oldest first."""
    return conn.execute(
        sa.select(wish).where(_mine(wish, tenant, member=member)).order_by(wish.c.at, wish.c.product)
    ).all()


def keep_found(conn: sa.Connection, tenant: str, touched: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """Spots that members have touched."""
    rows = [
        {"tenant": tenant, "member": member, "showroom": facts["showroom"], "spot": facts["spot"]}
        for member, facts in touched
    ]
    if rows:
        conn.execute(_insert(conn, found).on_conflict_do_nothing(), rows)


def spots_found(conn: sa.Connection, tenant: str, members: Sequence[int]) -> dict[tuple[int, str], set[str]]:
    """The spots that members have touched, by member and showroom."""
    spots: dict[tuple[int, str], set[str]] = {}
    for row in conn.execute(_FOUND, {"b_tenant": tenant, "b_any": members}) if members else ():
        spots.setdefault((row.member, row.showroom), set()).add(row.spot)
    return spots


# --- what is read of the house's rows ---------------------------------------------------------------------------------


def members_of(conn: sa.Connection, tenant: str, numbers: Iterable[int]) -> dict[int, Any]:
    """By number, the row of whom it answers as: number, language, tags; who was forgotten is left out."""
    rows: dict[int, Any] = {}
    wanted = {*numbers}
    while wanted := wanted - {*rows}:
        read = conn.execute(_MEMBERS, {"b_tenant": tenant, "b_any": sorted(wanted)}).all()
        rows |= dict.fromkeys(wanted) | {row.number: row for row in read}
        wanted = {row.merged_into for row in read if row.merged_into}
    for number in rows:
        while rows[number] is not None and rows[number].merged_into:
            rows[number] = rows[rows[number].merged_into]
    return {number: row for number, row in rows.items() if row is not None and row.status == "active"}


def tiers_of(conn: sa.Connection, tenant: str, member: int) -> dict[str, str]:
    """Ladder -> tier."""
    rows = tables.own
    mine = sa.and_(rows.c.tenant == tenant, rows.c.plugin == "core", rows.c.key == f"m:{member}")
    query = sa.select(rows.c.name, rows.c.value).where(mine, rows.c.name.startswith("tier:"))
    return {name[5:]: msgspec.json.decode(value)["tier"] for name, value in conn.execute(query)}


def stock_left(conn: sa.Connection, tenant: str, keys: Sequence[str]) -> dict[str, int]:
    """What is left on shelves."""
    rows = tables.stock
    query = sa.select(rows.c.key, rows.c.remaining).where(rows.c.tenant == tenant, rows.c.key.in_(list(keys)))
    return dict(conn.execute(query).all())


def everything(conn: sa.Connection, tenant: str, member: int) -> Mapping[str, Any]:
    """What is kept of a member."""
    aliases = conn.execute(
        sa.select(alias).where(_mine(alias, tenant, member=member)).order_by(alias.c.created_at)
    ).all()
    has_pin = conn.scalar(sa.select(sa.func.count()).select_from(pin).where(_mine(pin, tenant, member=member)))
    return {
        "codes": [{"kind": row.kind, "state": row.state, "at": row.created_at} for row in aliases],
        "wishes": [
            {"product": row.product, "showroom": row.showroom, "at": row.at} for row in wishes(conn, tenant, member)
        ],
        "pin": bool(has_pin),
    }


def forget(conn: sa.Connection, tenant: str, member: int) -> None:
    """Nothing of the member is kept."""
    names = sa.select(alias.c.alias).where(_mine(alias, tenant, member=member))
    conn.execute(used.delete().where(_mine(used, tenant), used.c.alias.in_(names)))
    for table in (alias, pin, session, wish, found):
        conn.execute(table.delete().where(_mine(table, tenant, member=member)))


def tidy(conn: sa.Connection, tenant: str, before: int) -> None:
    """Forget what is older than *before*; a device's last frame stays."""
    older = sa.and_(_mine(frame, tenant), frame.c.at < before)
    newest = sa.select(device.c.counter).where(
        device.c.tenant == frame.c.tenant, device.c.id == frame.c.device, device.c.epoch == frame.c.epoch
    )
    conn.execute(frame.delete().where(older, frame.c.counter != sa.func.coalesce(newest.scalar_subquery(), 0)))
    conn.execute(recorded.delete().where(_mine(recorded, tenant), recorded.c.at < before))
    conn.execute(attempt.delete().where(_mine(attempt, tenant), attempt.c.minute < before // _MINUTE))
    conn.execute(used.delete().where(_mine(used, tenant), used.c.step < before // 1_000_000 // 30))
    conn.execute(session.delete().where(_mine(session, tenant), session.c.expires_at < before))
