"""The plugin's own rows, and what it reads of the house's."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
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
from .tables import consent, delivery, message, subscription

#: How long an attempt belongs to whoever began it, in microseconds; after a crash it is begun again then.
LEASE = 2 * 60 * 1_000_000


#: Browsers of one member that are remembered.
BROWSERS = 10
#: Microseconds of a quarter of an hour.
QUARTER = 15 * 60 * 1_000_000
_same = sa.and_(message.c.tenant == delivery.c.tenant, message.c.id == delivery.c.message)
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
    rows: list[dict[str, Any]] = []
    for at, record in found:
        template = _DECIDED.get(record.kind) or ("notify.held" if record.status in ("held", "step_up") else "")
        member, entry = parse_member(record.member), parse_entry(record.entry)
        if not template or not member or entry is None or at - record.at > _NEWS:
            continue
        about = (record.more or {}).get("decides", record.entry)
        order = record.order or _order_of(conn, tenant, member, about, rows)
        facts = msgspec.json.encode({"entry": about, "order": order}).decode()
        rows.append(
            {
                "tenant": tenant, "id": message_id(member, template, about), "member": member, "template": template,
                "purpose": "service", "facts": facts, "entry": entry, "due_at": at, "expires_at": 0, "created_at": at,
            }
        )  # fmt: skip
    keep_messages(conn, rows)


def _order_of(conn: sa.Connection, tenant: str, member: int, entry: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The order of an entry that was held, as its message said a moment or a week ago; a decision names the entry alone."""
    id = message_id(member, "notify.held", entry)
    known = conn.scalar(sa.select(message.c.facts).where(message.c.tenant == tenant, message.c.id == id))
    facts = next((row["facts"] for row in rows if row["id"] == id), known)
    return str(msgspec.json.decode(facts)["order"]) if facts else ""


def keep_messages(conn: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write down messages that are not known yet."""
    if rows:
        conn.execute(_insert(conn, message).on_conflict_do_nothing(), rows)


def unplanned(conn: sa.Connection, tenant: str, now: int, limit: int) -> Sequence[Any]:
    """Messages that are due and have no deliveries yet; nobody else gets them until the transaction ends."""
    mine = sa.and_(message.c.tenant == tenant, message.c.planned == 0, message.c.due_at <= now)
    query = sa.select(message).where(mine).order_by(message.c.due_at).limit(limit)
    return conn.execute(query.with_for_update(skip_locked=True)).all()


def keep_plan(conn: sa.Connection, tenant: str, ids: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """The deliveries of the messages *ids*, which are planned now."""
    if rows:
        conn.execute(_insert(conn, delivery).on_conflict_do_nothing(), [{"tenant": tenant, **row} for row in rows])
    one = sa.and_(message.c.tenant == tenant, message.c.id == sa.bindparam("its"))
    conn.execute(message.update().where(one).values(planned=1), [{"its": id} for id in ids])


def take_due(conn: sa.Connection, tenant: str, channel: str, now: int, limit: int) -> list[Due]:
    """Take deliveries up: until the lease ends they are nobody else's."""
    joined = delivery.join(message, _same)
    query = sa.select(message, delivery.c.attempts).select_from(joined).where(
        delivery.c.tenant == tenant, delivery.c.channel == channel, delivery.c.state == "waiting", delivery.c.due_at <= now,
    )  # fmt: skip
    query = query.order_by(delivery.c.due_at).limit(limit).with_for_update(skip_locked=True, of=delivery)
    found = [Due(row, channel, row.attempts + 1) for row in conn.execute(query)]
    _each(conn, found, {"due_at": now + LEASE, "attempts": delivery.c.attempts + 1}, attempts=-1)
    return found


def settle(conn: sa.Connection, done: Sequence[tuple[Due, Mapping[str, Any]]], now: int) -> None:
    """Write down what came of attempts, each unless a later one was begun meanwhile."""
    groups: dict[tuple[str, ...], list[tuple[Due, Mapping[str, Any]]]] = {}
    for due, values in done:
        groups.setdefault(tuple(sorted(values)), []).append((due, values))
    for names, some in groups.items():
        told: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in names}
        more = [{f"new_{name}": value for name, value in values.items()} for _, values in some]
        _each(conn, [due for due, _ in some], {"at": now, **told}, more)


def give_back(conn: sa.Connection, found: Sequence[Due], now: int) -> None:
    """What was taken up and not begun is due again."""
    _each(conn, found, {"due_at": now, "attempts": delivery.c.attempts - 1})


def _each(
    conn: sa.Connection, found: Sequence[Due], values: Mapping[str, Any],
    more: Sequence[Mapping[str, Any]] = (), *, attempts: int = 0,
) -> None:  # fmt: skip
    """Change each of these deliveries that still waits and whose attempt is still the one that was taken up."""
    if not found:
        return
    one = sa.and_(
        delivery.c.tenant == sa.bindparam("its_tenant"), delivery.c.message == sa.bindparam("its_message"),
        delivery.c.channel == sa.bindparam("its_channel"), delivery.c.attempts == sa.bindparam("its_attempts"),
        delivery.c.state == "waiting",
    )  # fmt: skip
    rows = [
        {
            "its_tenant": due.message.tenant, "its_message": due.message.id, "its_channel": due.channel,
            "its_attempts": due.attempts + attempts, **(more[place] if more else {}),
        }
        for place, due in enumerate(found)
    ]  # fmt: skip
    conn.execute(delivery.update().where(one).values(**values), rows)


def counted(conn: sa.Connection, tenant: str, member: int, cap: Cap, now: datetime) -> int:
    """How many messages that *cap* counts the member got, or is about to get."""
    query = sa.select(sa.func.count()).select_from(delivery.join(message, _same)).where(
        delivery.c.tenant == tenant, message.c.member == member, delivery.c.state.in_(("waiting", "sent", "bounced")),
        delivery.c.at > instant(now - cap.window),
    )  # fmt: skip
    if cap.purpose:
        query = query.where(message.c.purpose == cap.purpose)
    if cap.channel:
        query = query.where(delivery.c.channel == cap.channel)
    return conn.scalar(query) or 0


def wishes(conn: sa.Connection, tenant: str, members: Collection[int]) -> dict[int, list[Wish]]:
    """What members last said, per purpose and channel."""
    said: dict[int, dict[tuple[str, str], Wish]] = {}
    mine = sa.and_(consent.c.tenant == tenant, consent.c.member.in_(list(members)))
    for row in conn.execute(sa.select(consent).where(mine).order_by(consent.c.number)):
        wish = Wish(purpose=row.purpose, channel=row.channel, given=bool(row.given), at=row.at, wording=row.wording)
        said.setdefault(row.member, {})[row.purpose, row.channel] = wish
    return {member: list(each.values()) for member, each in said.items()}


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


@attrs.frozen
class Person:
    """What is known of a member without opening anything."""

    status: str = "erased"
    language: str = ""


def persons(conn: sa.Connection, tenant: str, members: Collection[int]) -> dict[int, Person]:
    """Members by their numbers."""
    rows = tables.member
    query = sa.select(rows.c.number, rows.c.status, rows.c.language)
    found = conn.execute(query.where(rows.c.tenant == tenant, rows.c.number.in_(list(members))))
    return {row.number: Person(row.status, row.language) for row in found}


def zone(conn: sa.Connection, tenant: str, member: int) -> str:
    """The member's time zone as the sealed profile has it; empty if it has none."""
    return people.load_profile(conn, tenant, member).more.get("zone", "")


def addresses(conn: sa.Connection, tenant: str, member: int, which: str) -> tuple[str, ...]:
    """Where the member can be reached: ``email``, ``phone``, ``more.KEY`` of the sealed profile, or browsers (``push``)."""
    if which == "push":
        mine = sa.and_(subscription.c.tenant == tenant, subscription.c.member == member)
        sealed = conn.scalars(sa.select(subscription.c.body).where(mine).order_by(subscription.c.at)).all()
        return tuple(text.decode() for text in people.open_for(conn, tenant, member, sealed))
    profile = people.load_profile(conn, tenant, member)
    section, _, key = which.partition(".")
    found = profile.more.get(key, "") if section == "more" else getattr(profile, section)
    return (found,) if found else ()


def subscribe(conn: sa.Connection, tenant: str, member: int, endpoint: str, body: bytes, now: int) -> None:
    """Keep a browser of the member, sealed; of many the oldest are let go of."""
    print_, sealed = _print(endpoint), people.seal_for(conn, tenant, member, body)
    unsubscribe(conn, tenant, member, [endpoint])
    mine = sa.and_(subscription.c.tenant == tenant, subscription.c.member == member)
    known = conn.scalars(sa.select(subscription.c.print).where(mine).order_by(subscription.c.at.desc())).all()
    old = known[BROWSERS - 1 :]
    conn.execute(subscription.delete().where(mine, subscription.c.print.in_(old)))
    conn.execute(subscription.insert().values(tenant=tenant, member=member, print=print_, body=sealed, at=now))


def unsubscribe(conn: sa.Connection, tenant: str, member: int, endpoints: Iterable[str]) -> int:
    """Forget browsers; how many were known."""
    mine = sa.and_(subscription.c.tenant == tenant, subscription.c.member == member)
    return conn.execute(
        subscription.delete().where(mine, subscription.c.print.in_([_print(one) for one in endpoints]))
    ).rowcount


def _print(endpoint: str) -> str:
    return hashlib.sha256(endpoint.encode()).hexdigest()[:32]


# --- what became of it -----------------------------------------------------------------------------------------------


def find_message(conn: sa.Connection, tenant: str, id: str) -> Any:
    """One message, or None."""
    return conn.execute(sa.select(message).where(message.c.tenant == tenant, message.c.id == id)).one_or_none()


def note(conn: sa.Connection, tenant: str, id: str, channel: str, what: str, now: int) -> bool:
    """Write down when a message was first ``delivered``, ``opened`` or ``unsubscribed``; False if that was known, or is no message."""
    column = delivery.c[f"{what}_at"]
    one = sa.and_(delivery.c.tenant == tenant, delivery.c.message == id, delivery.c.channel == channel, column == 0)
    return conn.execute(delivery.update().where(one).values({column: now})).rowcount > 0


def bounced(conn: sa.Connection, tenant: str, id: str, channel: str, reason: str, now: int) -> bool:
    """Write down that what was sent did not arrive; False if it was not sent, or is known to have come back."""
    one = sa.and_(delivery.c.tenant == tenant, delivery.c.message == id, delivery.c.channel == channel)
    found = delivery.update().where(one, delivery.c.state == "sent")
    return conn.execute(found.values(state="bounced", reason=reason, at=now)).rowcount > 0


def came_back(conn: sa.Connection, tenant: str, print_: str, since: int) -> bool:
    """Whether a mail to the address of this print came back since then because there is no such mailbox."""
    mine = sa.and_(delivery.c.tenant == tenant, delivery.c.reference == print_, delivery.c.at >= since)
    # RFC 3463: x.1.* is about the address, 5.2.1 a mailbox that takes nothing any more; a full one or a policy may change
    gone = sa.or_(
        delivery.c.reason.like("bounced\\_5.1.%", escape="\\"),
        delivery.c.reason.in_(["bounced_5.2.1", *(f"bounced_{code}" for code in (550, 551, 553))]),
    )
    return bool(conn.scalar(sa.select(sa.exists().where(mine, gone))))


def by_reference(conn: sa.Connection, tenant: str, channel: str, reference: str) -> str:
    """The message that the other side calls *reference*; empty if none."""
    mine = sa.and_(delivery.c.tenant == tenant, delivery.c.reference == reference, delivery.c.channel == channel)
    return conn.scalar(sa.select(delivery.c.message).where(mine)) or ""


def inbox(conn: sa.Connection, tenant: str, member: int, ways: Sequence[str], before: int, limit: int) -> Sequence[Any]:
    """Messages that were delivered to the member's inbox, newest first."""
    joined = delivery.join(message, sa.and_(message.c.tenant == delivery.c.tenant, message.c.id == delivery.c.message))
    query = sa.select(message).select_from(joined).where(
        message.c.tenant == tenant, message.c.member == member, delivery.c.channel.in_(list(ways)), delivery.c.state == "sent",
        message.c.created_at < before,
    )  # fmt: skip
    return conn.execute(query.order_by(message.c.created_at.desc(), message.c.id).limit(limit)).all()


def mark_read(conn: sa.Connection, tenant: str, member: int, ids: Sequence[str], ways: Sequence[str], at: int) -> int:
    """The member has seen these; how many were new."""
    mine = sa.and_(
        message.c.tenant == tenant, message.c.member == member, message.c.id.in_(list(ids)), message.c.read_at == 0
    )
    new = list(conn.scalars(sa.select(message.c.id).where(mine).with_for_update()))
    here = sa.and_(delivery.c.tenant == tenant, delivery.c.message.in_(new), delivery.c.channel.in_(list(ways)))
    conn.execute(delivery.update().where(here, delivery.c.opened_at == 0).values(opened_at=at))
    conn.execute(message.update().where(message.c.tenant == tenant, message.c.id.in_(new)).values(read_at=at))
    return len(new)


def counts(conn: sa.Connection, tenant: str, since: int, until: int) -> Sequence[Any]:
    """Deliveries whose state was reached between two instants: how many per quarter of an hour, template, channel, state and
    reason, and of how many it is known that they were delivered, opened, and made somebody unsubscribe.

    Every zone's days begin at a quarter of an hour.
    """
    quarter = (delivery.c.at // QUARTER).label("quarter")
    what = (quarter, message.c.template, delivery.c.channel, delivery.c.state, delivery.c.reason)
    known = [
        sa.func.sum(sa.case((delivery.c[f"{name}_at"] > 0, 1), else_=0)).label(name)
        for name in ("delivered", "opened", "unsubscribed")
    ]
    query = sa.select(*what, sa.func.count().label("number"), *known).select_from(delivery.join(message, _same))
    query = query.where(delivery.c.tenant == tenant, delivery.c.at >= since, delivery.c.at < until)
    return conn.execute(query.group_by(*what).order_by(*what)).all()


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
        "browsers": list(addresses(conn, tenant, member, "push")),
    }  # fmt: skip


def forget(conn: sa.Connection, tenant: str, member: int) -> None:
    """Nothing of the member is kept."""
    mine = sa.select(message.c.id).where(message.c.tenant == tenant, message.c.member == member)
    conn.execute(delivery.delete().where(delivery.c.tenant == tenant, delivery.c.message.in_(mine)))
    conn.execute(message.delete().where(message.c.tenant == tenant, message.c.member == member))
    conn.execute(consent.delete().where(consent.c.tenant == tenant, consent.c.member == member))
    conn.execute(subscription.delete().where(subscription.c.tenant == tenant, subscription.c.member == member))


def _insert(conn: sa.Connection, table: sa.Table) -> Any:
    return (postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert)(table)
