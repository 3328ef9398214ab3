"""What a merchant can set: channels, quiet hours, caps, wordings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import Any, Final

import attrs

from tallystick import values
from tallystick.manifest import PURPOSES

from . import egress
from .channels import Channel, File, Inbox, Mail, Webhook
from .plan import Cap, Quiet
from .wording import SHIPPED, Wording, objections

KINDS: Final = ("inbox", "file", "webhook", "mail")


@attrs.frozen(kw_only=True)
class Way:
    """A channel of the tenant: its name, what it is, and the purposes it is for."""

    name: str
    kind: str
    purposes: tuple[str, ...]
    channel: Channel


@attrs.frozen(kw_only=True)
class Settings:
    """All of it."""

    ways: tuple[Way, ...] = ()
    quiet: Quiet | None = None
    caps: tuple[Cap, ...] = ()
    wordings: Mapping[str, Mapping[str, Wording]] = {}
    language: str = "en"


def _says(doc: str, type_: str, **rules: Any) -> dict[str, Any]:
    """A key of the schema with what it means."""
    return {"type": type_, **rules, "meta": {**rules.get("meta", {}), "doc": doc}}


_WORDING: Final = {
    "subject": _says("One line: what the message is about.", "string", required=True),
    "text": _says("The message.", "string", required=True),
}
_CHANNEL: Final = {
    "kind": _says("What it is.", "string", required=True, allowed=list(KINDS)),
    "purposes": _says("What it is for; by default everything.", "list", schema={"type": "string", "allowed": list(PURPOSES)}),
    "path": _says("`file`: where the lines are written.", "string"),
    "url": _says("`webhook`: the receiver's address, https.", "string"),
    "secrets": _says(
        "`webhook`: what it is signed with, `whsec_` and base64; while one is replaced, both.", "list",
        maxlength=4, schema={"type": "secret"},
    ),
    "allow_private": _says(
        "`webhook`: addresses inside your own network that it may go to, for tests; by default none.", "list",
        schema={"type": "string"},
    ),
    "host": _says("`mail`: the mail server.", "string"),
    "port": _says("`mail`: its port, by default 587.", "integer", min=1, max=65535),
    "sender": _says(
        "`mail`: from whom, `Shop <club@example.com>`.", "string",
        regex=r"[^\x00-\x1f\x7f]+@[A-Za-z0-9.-]+>?", meta={"expected": "one line with an address"},
    ),
    "tls": _says("`mail`: whether STARTTLS is demanded, by default yes.", "boolean"),
    "user": _says("`mail`: the user at the mail server.", "string"),
    "password": _says("`mail`: the user's password.", "secret"),
    "unsubscribe": _says(
        "`mail`: your page for one click, which passes the token on to `/v1/notify/unsubscribe`.", "string",
        regex=r"https://[\x21-\x7e]*\{token\}[\x21-\x7e]*", meta={"expected": 'an https address with "{token}" in it'},
    ),
}  # fmt: skip
_CAP: Final = {
    "most": _says("How many messages at most.", "integer", min=1, required=True),
    "window": _says("In which time.", "duration", required=True),
    "purpose": _says("Of which purpose; by default any.", "string", allowed=list(PURPOSES)),
    "channel": _says("Over which channel; by default any.", "id"),
}
SCHEMA: Final = {
    "channels": _says(
        "The ways messages go out, by names you choose.", "dict",
        keysrules={"type": "id"}, valuesrules={"type": "dict", "schema": _CHANNEL},
    ),
    "quiet": _says(
        "When nobody is disturbed by mail, by the member's clock (`zone` of the profile, else the programme's); service messages go.",
        "dict",
        schema={
            "since": _says("From when.", "clock", required=True),
            "until": _says("Until when; earlier than `since`: the next morning.", "clock", required=True),
        },
    ),
    "caps": _says("How many messages a member gets at most.", "list", schema={"type": "dict", "schema": _CAP}),
    "wordings": _says(
        "Your own words, by the message's name, in front of those that come with the plugin.", "dict",
        keysrules={"type": "name"},
        valuesrules={
            "type": "dict",
            "schema": {
                "facts": _says("What the words may name; known for messages that have words already.", "list", schema={"type": "id"}),
                "en": _says("In English.", "dict", schema=_WORDING),
                "zh": _says("In Chinese.", "dict", schema=_WORDING),
            },
        },
    ),
}  # fmt: skip
#: What each kind of channel cannot be without, and what else it knows.
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "inbox": (), "file": ("path",), "webhook": ("url", "secrets"), "mail": ("host", "sender"),
}  # fmt: skip
KNOWS: Final[Mapping[str, tuple[str, ...]]] = {
    "inbox": (), "file": (), "webhook": ("allow_private",), "mail": ("port", "tls", "user", "password", "unsubscribe"),
}  # fmt: skip


def check(document: Mapping[str, Any], context: Any) -> Iterator[tuple[tuple[Any, ...], str]]:  # noqa: ARG001
    """Mistakes that a schema cannot express."""
    yield from _check_channels(document)
    yield from _check_wordings(document)


def _check_channels(document: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    for name, said in document.get("channels", {}).items():
        kind = said["kind"]
        for key in NEEDS[kind]:
            if not said.get(key):
                yield ("channels", name), f'"{key}" is missing; a {kind} channel needs it'
        for key in said:
            if key not in ("kind", "purposes", *NEEDS[kind], *KNOWS[kind]):
                yield ("channels", name, key), f'a {kind} channel has no "{key}"'
        if kind == "webhook" and said.get("url"):
            try:
                egress.check_url(said["url"], said.get("allow_private", ()))
            except egress.AddressRefused as error:
                yield ("channels", name, "url"), str(error)
    for index, cap in enumerate(document.get("caps", ())):
        if "channel" in cap and cap["channel"] not in document.get("channels", {}):
            yield ("caps", index, "channel"), f'there is no channel "{cap["channel"]}"'


def _check_wordings(document: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    for template, said in document.get("wordings", {}).items():
        if template not in SHIPPED and "facts" not in said:
            yield ("wordings", template), f'"facts" is missing; expected the facts that "{template}" may name'
            continue
        facts = tuple(said.get("facts", SHIPPED[template].facts if template in SHIPPED else ()))
        for language in ("en", "zh"):
            for part, text in said.get(language, {}).items():
                for objection in objections(text, facts):
                    yield ("wordings", template, language, part), objection


def read(document: Mapping[str, Any], context: Any) -> Settings:
    """A checked document as the plugin uses it."""
    quiet = document.get("quiet")
    return Settings(
        ways=tuple(
            Way(name=name, kind=said["kind"], purposes=tuple(said.get("purposes", PURPOSES)), channel=_channel(said))
            for name, said in document.get("channels", {}).items()
        ),
        quiet=Quiet(since=_clock(quiet["since"]), until=_clock(quiet["until"])) if quiet else None,
        caps=tuple(
            Cap(
                most=cap["most"], window=_duration(cap["window"]),
                purpose=cap.get("purpose", ""), channel=cap.get("channel", ""),
            )
            for cap in document.get("caps", ())
        ),
        wordings={
            template: {language: Wording(**said[language]) for language in ("en", "zh") if language in said}
            for template, said in document.get("wordings", {}).items()
        },
        language=context.language,
    )  # fmt: skip


def _clock(value: str | time) -> time:
    return value if isinstance(value, time) else time.fromisoformat(value)


def _duration(value: str | timedelta) -> timedelta:
    return value if isinstance(value, timedelta) else values.duration(value)


def _channel(said: Mapping[str, Any]) -> Channel:
    match said["kind"]:
        case "inbox":
            return Inbox()
        case "file":
            return File(path=Path(said["path"]))
        case "webhook":
            return Webhook(url=said["url"], secrets=tuple(said["secrets"]), allow=tuple(said.get("allow_private", ())))
        case _:
            return Mail(
                host=said["host"], port=said.get("port", 587), sender=said["sender"], tls=said.get("tls", True),
                user=said.get("user", ""), password=said.get("password", {}), unsubscribe=said.get("unsubscribe", ""),
            )  # fmt: skip
