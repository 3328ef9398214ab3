"""The plugin's own rows, and what it reads of the house's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tallystick import people, tables
from tallystick.effects import Notify
from tallystick.ledger import instant, moment, parse_entry, parse_member

from .plan import Cap, Wish
from .tables import consent, delivery, message

#: How long an attempt belongs to whoever began it, in microseconds; after a crash it is begun again then.
LEASE = 2 * 60 * 1_000_000


_DECIDED = {"entry.released": "notify.released", "entry.voided": "notify.voided"}
#: What happened longer ago, in microseconds, is no news: an import of the past tells nobody.
_NEWS = 3 * 86_400 * 1_000_000


@attrs.frozen
class Due:
    """A delivery that was taken up, with its message."""

    message: Any
    channel: str
    attempts: int


def message_id(member: int, template: str, key: str) -> str:
    """The same for the same member, template and key."""
    return "msg_" + hashlib.sha256(f"{member}\x00{template}\x00{key}".encode()).hexdigest()[:32]


def keep_intents(conn: sa.Connection, tenant: str, found: Iterable[tuple[int, Any]]) -> None:
    """Write down intents, each with when its batch was committed; one that is known already changes nothing."""
    rows = []
    for at, intent in found:
        effect = msgspec.json.decode(intent.body, type=Notify)
        due = max(at, instant(effect.not_before)) if effect.not_before is not None else at
        rows.append(
            {
                "tenant": tenant, "id": message_id(intent.member, effect.template, intent.key), "member": intent.member,
                "template": effect.template, "purpose": effect.purpose, "facts": msgspec.json.encode(effect.facts).decode(),
                "entry": intent.entry, "due_at": due, "expires_at": instant(effect.expires) if effect.expires else 0,
                "created_at": at,
            }
        )  # fmt: skip
    keep_messages(conn, rows)


def keep_decisions(conn: sa.Connection, tenant: str, found: Iterable[tuple[int, Any]]) -> None:
    """Write down that something was held, released or voided, of records with when their batch was committed."""
    rows = []
    for at, record in found:
        template = _DECIDED.get(record.kind) or ("notify.held" if record.status in ("held", "step_up") else "")
        member, entry = parse_member(record.member), parse_entry(record.entry)
        if not template or not member or entry is None or at - record.at > _NEWS:
            continue
        about = (record.more or {}).get("decides", record.entry)
        facts = msgspec.json.encode({"entry": about, "order": record.order}).decode()
        rows.append(
            {
                "tenant": tenant, "id": message_id(member, template, about), "member": member, "template": template,
                "purpose": "service", "facts": facts, "entry": entry, "due_at": at, "expires_at": 0, "created_at": at,
            }
        )  # fmt: skip
    keep_messages(conn, rows)


def keep_messages(conn: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write down messages that are not known yet."""
    if rows:
        conn.execute(_insert(conn, message).on_conflict_do_nothing(), rows)


def unplanned(conn: sa.Connection, tenant: str, now: int, limit: int) -> Sequence[Any]:
    """Messages that are due and have no deliveries yet; nobody else gets them until the transaction ends."""
    mine = sa.and_(message.c.tenant == tenant, message.c.planned == 0, message.c.due_at <= now)
    query = sa.select(message).where(mine).order_by(message.c.due_at).limit(limit)
    return conn.execute(query.with_for_update(skip_locked=True)).all()


def keep_plan(conn: sa.Connection, tenant: str, id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The message's deliveries."""
    if rows:
        conn.execute(
            _insert(conn, delivery).on_conflict_do_nothing(), [{"tenant": tenant, "message": id, **row} for row in rows]
        )
    conn.execute(message.update().where(message.c.tenant == tenant, message.c.id == id).values(planned=1))


def take_due(conn: sa.Connection, tenant: str, channel: str, now: int, limit: int) -> list[Due]:
    """Take deliveries up: until the lease ends they are nobody else's."""
    mine = sa.and_(
        delivery.c.tenant == tenant,
        delivery.c.channel == channel,
        delivery.c.state == "waiting",
        delivery.c.due_at <= now,
    )
    query = sa.select(delivery.c.message, delivery.c.attempts).where(mine).order_by(delivery.c.due_at).limit(limit)
    found = []
    for row in conn.execute(query.with_for_update(skip_locked=True)).all():
        one = sa.and_(delivery.c.tenant == tenant, delivery.c.message == row.message, delivery.c.channel == channel)
        conn.execute(delivery.update().where(one).values(due_at=now + LEASE, attempts=row.attempts + 1))
        what = sa.and_(message.c.tenant == tenant, message.c.id == row.message)
        found.append(Due(conn.execute(sa.select(message).where(what)).one(), channel, row.attempts + 1))
    return found


def settle(conn: sa.Connection, tenant: str, due: Due, now: int, **values: Any) -> None:
    """Write down what came of an attempt, unless a later attempt was begun meanwhile."""
    one = sa.and_(
        delivery.c.tenant == tenant, delivery.c.message == due.message.id, delivery.c.channel == due.channel,
        delivery.c.attempts == due.attempts,
    )  # fmt: skip
    conn.execute(delivery.update().where(one, delivery.c.state == "waiting").values(at=now, **values))


def is_full(
    conn: sa.Connection, tenant: str, member: int, purpose: str, channel: str, caps: Sequence[Cap], now: datetime
) -> bool:
    """Whether a cap has no room for one more."""
    for cap in caps:
        if not cap.concerns(purpose, channel):
            continue
        joined = delivery.join(
            message, sa.and_(message.c.tenant == delivery.c.tenant, message.c.id == delivery.c.message)
        )
        query = sa.select(sa.func.count()).select_from(joined).where(
            delivery.c.tenant == tenant, message.c.member == member, delivery.c.state.in_(("waiting", "sent")),
            delivery.c.at > instant(now - cap.window),
        )  # fmt: skip
        if cap.purpose:
            query = query.where(message.c.purpose == cap.purpose)
        if cap.channel:
            query = query.where(delivery.c.channel == cap.channel)
        if (conn.scalar(query) or 0) >= cap.most:
            return True
    return False


def wishes(conn: sa.Connection, tenant: str, member: int) -> list[Wish]:
    """What the member last said, per purpose and channel."""
    said: dict[tuple[str, str], Wish] = {}
    for row in history(conn, tenant, member):
        said[row.purpose, row.channel] = Wish(purpose=row.purpose, channel=row.channel, given=bool(row.given))
    return list(said.values())


def history(conn: sa.Connection, tenant: str, member: int) -> Sequence[Any]:
    """Everything the member ever said, oldest first."""
    mine = sa.and_(consent.c.tenant == tenant, consent.c.member == member)
    return conn.execute(sa.select(consent).where(mine).order_by(consent.c.number)).all()


def say(
    conn: sa.Connection,
    tenant: str,
    member: int,
    purpose: str,
    channel: str,
    *,
    given: bool,
    wording: str,
    via: str,
    at: int,
) -> None:
    """Write down what a member agrees to or takes back, after all that the member said before."""
    # the member's row keeps two who write at once apart
    who = sa.and_(tables.member.c.tenant == tenant, tables.member.c.number == member)
    conn.execute(sa.select(tables.member.c.number).where(who).with_for_update())
    mine = sa.and_(consent.c.tenant == tenant, consent.c.member == member)
    number = (conn.scalar(sa.select(sa.func.max(consent.c.number)).where(mine)) or 0) + 1
    row = {"tenant": tenant, "member": member, "purpose": purpose, "channel": channel, "number": number}
    conn.execute(consent.insert().values(**row, given=int(given), wording=wording, via=via, at=at))


def person(conn: sa.Connection, tenant: str, member: int) -> tuple[str, str, str, str]:
    """(status, language, mail address, zone) of a member, the last two from the sealed profile."""
    rows = tables.member
    row = conn.execute(
        sa.select(rows.c.status, rows.c.language).where(rows.c.tenant == tenant, rows.c.number == member)
    ).one_or_none()
    if row is None:
        return "erased", "", "", ""
    profile = people.load_profile(conn, tenant, member)
    return row.status, row.language, profile.email, profile.more.get("zone", "")


def inbox(conn: sa.Connection, tenant: str, member: int, ways: Sequence[str], before: int, limit: int) -> Sequence[Any]:
    """Messages that were delivered to the member's inbox, newest first."""
    joined = delivery.join(message, sa.and_(message.c.tenant == delivery.c.tenant, message.c.id == delivery.c.message))
    query = sa.select(message).select_from(joined).where(
        message.c.tenant == tenant, message.c.member == member, delivery.c.channel.in_(list(ways)), delivery.c.state == "sent",
        message.c.created_at < before,
    )  # fmt: skip
    return conn.execute(query.order_by(message.c.created_at.desc(), message.c.id).limit(limit)).all()


def mark_read(conn: sa.Connection, tenant: str, member: int, ids: Sequence[str], at: int) -> int:
    """The member has seen these; how many were new."""
    mine = sa.and_(
        message.c.tenant == tenant, message.c.member == member, message.c.id.in_(list(ids)), message.c.read_at == 0
    )
    return conn.execute(message.update().where(mine).values(read_at=at)).rowcount


def counts(conn: sa.Connection, tenant: str, since: int) -> Sequence[Any]:
    """(template, channel, state, reason, number) since an instant."""
    joined = delivery.join(message, sa.and_(message.c.tenant == delivery.c.tenant, message.c.id == delivery.c.message))
    what = (message.c.template, delivery.c.channel, delivery.c.state, delivery.c.reason)
    query = sa.select(*what, sa.func.count().label("number")).select_from(joined)
    query = query.where(delivery.c.tenant == tenant, delivery.c.at >= since).group_by(*what).order_by(*what)
    return conn.execute(query).all()


def replay(conn: sa.Connection, tenant: str, id: str, now: int) -> int:
    """Let dead deliveries of a message (of all, if *id* is empty) be tried again; how many."""
    mine = sa.and_(delivery.c.tenant == tenant, delivery.c.state == "dead")
    mine = sa.and_(mine, delivery.c.message == id) if id else mine
    return conn.execute(
        delivery.update().where(mine).values(state="waiting", reason="replay", attempts=0, due_at=now)
    ).rowcount


def everything(conn: sa.Connection, tenant: str, member: int) -> dict[str, Any]:
    """What is kept of a member."""
    rows = conn.execute(
        sa.select(message).where(message.c.tenant == tenant, message.c.member == member).order_by(message.c.created_at)
    ).all()
    return {
        "messages": [
            {"template": row.template, "purpose": row.purpose, "facts": msgspec.json.decode(row.facts), "at": moment(row.created_at).isoformat()}
            for row in rows
        ],
        "consents": [
            {"purpose": row.purpose, "channel": row.channel, "given": bool(row.given), "wording": row.wording, "via": row.via,
             "at": moment(row.at).isoformat()}
            for row in history(conn, tenant, member)
        ],
    }  # fmt: skip


def forget(conn: sa.Connection, tenant: str, member: int) -> None:
    """Nothing of the member is kept."""
    mine = sa.select(message.c.id).where(message.c.tenant == tenant, message.c.member == member)
    conn.execute(delivery.delete().where(delivery.c.tenant == tenant, delivery.c.message.in_(mine)))
    conn.execute(message.delete().where(message.c.tenant == tenant, message.c.member == member))
    conn.execute(consent.delete().where(consent.c.tenant == tenant, consent.c.member == member))


def _insert(conn: sa.Connection, table: sa.Table) -> Any:
    return (postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert)(table)
