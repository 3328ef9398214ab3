"""The inbox and the wishes of a member, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tallystick.errors import InvalidRequest
from tallystick.ledger import instant, moment

from . import store
from .errors import TemplateRefused
from .plan import SYSTEMS, allowed
from .webpush import Subscription, WebPush
from .wording import choose, render

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


class Preference(Struct, frozen=True, kw_only=True):
    """Whether messages of a purpose may come over a channel, and since when that is so."""

    purpose: str
    channel: str
    kind: Annotated[str, Meta(description="what the channel is: `mail`, `sms` and so on")]
    allowed: bool
    since: Annotated[datetime | None, Meta(description="when the member said so; null: never asked")] = None
    wording: Annotated[str, Meta(description="version of the text that was agreed to")] = ""


class Preferences(Struct, frozen=True, kw_only=True):
    """What may come how, and what a browser subscribes with."""

    preferences: tuple[Preference, ...]
    push_keys: Annotated[
        Mapping[str, str], Meta(description="`applicationServerKey` of each channel that pushes to browsers")
    ]


class Browser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A browser that messages are to be pushed to, or no longer."""

    subscription: Annotated[Subscription, Meta(description="as `PushSubscription.toJSON()` gives it")]
    wanted: bool = True


class Browsers(Struct, frozen=True):
    """How many browsers of the member are known now."""

    browsers: int


def inbox(request: Any, query: InboxQuery) -> list[Item]:
    """The member's messages, newest first, in the member's language."""
    settings = request.plugin.settings
    before = instant(query.before) if query.before is not None else 1 << 62
    with request.house.reading() as conn:
        spoken = store.persons(conn, request.tenant, [request.member])[request.member].language
        rows = store.inbox(conn, request.tenant, request.member, _inboxes(request), before, query.limit)
    items = []
    for row in rows:
        facts, subject, text = msgspec.json.decode(row.facts), "", ""
        message = settings.messages.get(row.template)
        found = choose(message.words, (spoken, settings.language)) if message is not None else None
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
        at = instant(request.now)
        return Count(store.mark_read(conn, request.tenant, request.member, body.ids, _inboxes(request), at))


def _inboxes(request: Any) -> list[str]:
    return [way.name for way in request.plugin.settings.ways if way.kind == "inbox"]


def preferences(request: Any) -> Preferences:
    """What may come over which channel, as the member's app shows it; changed by what the member says to consents."""
    settings = request.plugin.settings
    with request.house.reading() as conn:
        wishes = store.wishes(conn, request.tenant, [request.member]).get(request.member, [])
    found = []
    for way in settings.ways:
        if way.kind in SYSTEMS:
            continue
        for purpose in way.purposes:
            said = next((w for c in (way.name, "") for w in wishes if (w.purpose, w.channel) == (purpose, c)), None)
            found.append(
                Preference(
                    purpose=purpose, channel=way.name, kind=way.kind, allowed=allowed(purpose, way.name, wishes),
                    since=moment(said.at) if said is not None else None, wording=said.wording if said is not None else "",
                )
            )  # fmt: skip
    keys = {way.name: way.channel.public() for way in settings.ways if isinstance(way.channel, WebPush)}
    return Preferences(preferences=tuple(found), push_keys=keys)


def consents(request: Any) -> list[Consent]:
    """Everything the member agreed to or took back, oldest first."""
    with request.house.reading() as conn:
        return _told(store.history(conn, request.tenant, request.member))


def say(request: Any, body: Said) -> list[Consent]:
    """Write down what the member agrees to or takes back; from now on it is respected, for messages that wait, too."""
    if body.given and body.purpose == "marketing" and not body.wording:
        raise InvalidRequest("say which version of the text the member agreed to", parameter="wording")
    with request.house.db.begin() as conn:
        store.say(
            conn, request.tenant, request.member, body.purpose, body.channel, given=body.given, wording=body.wording,
            via=body.via or request.principal.role, at=instant(request.now),
        )  # fmt: skip
        return _told(store.history(conn, request.tenant, request.member))


def browser(request: Any, body: Browser) -> Browsers:
    """Push messages to a browser of the member from now on, or no longer.  Saying it again changes nothing."""
    endpoint = body.subscription.endpoint
    with request.house.db.begin() as conn:
        if body.wanted:
            sealed = msgspec.json.encode(body.subscription)
            store.subscribe(conn, request.tenant, request.member, endpoint, sealed, instant(request.now))
        else:
            store.unsubscribe(conn, request.tenant, request.member, [endpoint])
        return Browsers(len(store.addresses(conn, request.tenant, request.member, "push")))


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
