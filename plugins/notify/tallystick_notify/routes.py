"""The inbox and the wishes of a member, over HTTP."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tallystick.errors import NotFound
from tallystick.ledger import instant, moment

from . import store
from .jobs import token
from .wording import TemplateRefused, choose, render

Purpose = Literal["service", "reminder", "marketing"]


class Item(Struct, frozen=True, kw_only=True):
    """One message in the inbox."""

    id: str
    template: str
    purpose: str
    at: datetime
    read: bool
    subject: str
    text: str
    facts: Mapping[str, Any]


class InboxQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the inbox."""

    before: Annotated[datetime, Meta(tz=True, description="messages older than this")] | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class Seen(Struct, frozen=True, forbid_unknown_fields=True):
    """Messages that were read."""

    ids: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(min_length=1, max_length=100)]


class Count(Struct, frozen=True):
    """How many were new."""

    read: int


class Said(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the member agrees to or takes back."""

    purpose: Purpose
    given: bool
    channel: Annotated[str, Meta(max_length=40, description="empty: all")] = ""
    wording: Annotated[str, Meta(max_length=64, description="version of the text that was agreed to")] = ""
    via: Annotated[str, Meta(max_length=64, description="where it was said")] = ""


class Consent(Struct, frozen=True, kw_only=True):
    """Something the member said."""

    purpose: str
    channel: str
    given: bool
    wording: str
    via: str
    at: datetime


class Token(Struct, frozen=True, forbid_unknown_fields=True):
    """What the link in a mail carried."""

    token: Annotated[str, Meta(max_length=200)]


def inbox(request: Any, query: InboxQuery) -> list[Item]:
    """The member's messages, newest first, in the member's language."""
    settings = request.plugin.settings
    ways = [way.name for way in settings.ways if way.kind == "inbox"]
    before = instant(query.before) if query.before is not None else 1 << 62
    with request.house.db.connect() as conn:
        _, spoken, _, _ = store.person(conn, request.tenant, request.member)
        rows = store.inbox(conn, request.tenant, request.member, ways, before, query.limit)
    items = []
    for row in rows:
        facts = msgspec.json.decode(row.facts)
        found = choose(row.template, (spoken, settings.language), settings.wordings)
        subject = text = ""
        if found is not None:
            try:
                words = render(found[1], facts, found[0], request.plugin.programme.zone)
                subject, text = words.subject, words.text
            except TemplateRefused:
                pass  # the facts are told all the same
        items.append(
            Item(
                id=row.id, template=row.template, purpose=row.purpose, at=moment(row.created_at), read=row.read_at > 0,
                subject=subject, text=text, facts=facts,
            )
        )  # fmt: skip
    return items


def read(request: Any, body: Seen) -> Count:
    """Mark messages as read.  Saying it again changes nothing."""
    with request.house.db.begin() as conn:
        return Count(store.mark_read(conn, request.tenant, request.member, body.ids, instant(request.now)))


def consents(request: Any) -> list[Consent]:
    """Everything the member agreed to or took back, oldest first."""
    with request.house.db.connect() as conn:
        return _told(store.history(conn, request.tenant, request.member))


def say(request: Any, body: Said) -> list[Consent]:
    """Write down what the member agrees to or takes back; from now on it is respected, for messages that wait, too."""
    with request.house.db.begin() as conn:
        store.say(
            conn, request.tenant, request.member, body.purpose, body.channel, given=body.given, wording=body.wording,
            via=body.via or request.principal.role, at=instant(request.now),
        )  # fmt: skip
        return _told(store.history(conn, request.tenant, request.member))


def unsubscribe(request: Any, body: Token) -> None:
    """Take consent back by the token of a mail, as the merchant's page for one click passes it on."""
    member, _, rest = body.token.partition(".")
    purpose, _, rest = rest.partition(".")
    channel, _, _ = rest.partition(".")
    right = member.isascii() and member.isdigit() and len(member) <= 12
    if not right or not hmac.compare_digest(
        token(request.house.secret, request.tenant, int(member), purpose, channel).encode(), body.token.encode()
    ):
        raise NotFound("there is no such token")
    with request.house.db.begin() as conn:
        store.say(
            conn,
            request.tenant,
            int(member),
            purpose,
            channel,
            given=False,
            wording="",
            via="one-click",
            at=instant(request.now),
        )


def _told(rows: Any) -> list[Consent]:
    return [
        Consent(
            purpose=row.purpose,
            channel=row.channel,
            given=bool(row.given),
            wording=row.wording,
            via=row.via,
            at=moment(row.at),
        )
        for row in rows
    ]
