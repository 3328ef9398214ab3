"""What a merchant can set: channels, quiet hours, caps, the look of mail, own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import Any, Final

import attrs

from tallystick import values
from tallystick.manifest import PURPOSES

from . import apprises, egress, wechat
from .apprises import Apprise
from .brought import Brought
from .channels import Channel, File, Inbox
from .errors import AddressRefused
from .letter import PLAIN, Brand
from .mail import Mail
from .messages import LANGUAGES, Message, declared
from .plan import Cap, Quiet
from .sms import Sms, Verdict, unknown_places
from .webhook import Webhook
from .webpush import WebPush
from .wechat import WeChat
from .wording import Wording, objections


@attrs.frozen(kw_only=True)
class Way:
    """A channel of the tenant: its name, what it is, the purposes it is for, and where news of it come from."""

    name: str
    kind: str
    purposes: tuple[str, ...]
    channel: Channel
    bounces: Path | None = None  #: `mail`: the Maildir in which undeliverable mail arrives


@attrs.frozen(kw_only=True)
class Settings:
    """All of it."""

    ways: tuple[Way, ...] = ()
    messages: Mapping[str, Message] = {}
    quiet: Quiet | None = None
    caps: tuple[Cap, ...] = ()
    language: str = "en"
    public: str = ""  #: how members' browsers reach the house
    brand: Brand = PLAIN

    def way(self, name: str) -> Way | None:
        """The channel of that name."""
        return next((way for way in self.ways if way.name == name), None)


def _says(doc: str, type_: str, **rules: Any) -> dict[str, Any]:
    """A key of the schema with what it means."""
    return {"type": type_, **rules, "meta": {**rules.get("meta", {}), "doc": doc}}


_WORDING: Final = {
    "subject": _says("One line: what the message is about.", "string", required=True),
    "text": _says("The message.", "string", required=True),
}
_FIELDS: Final = {"keysrules": {"type": "string"}, "valuesrules": {"type": "string"}}
_SECRETS: Final = {"keysrules": {"type": "string"}, "valuesrules": {"type": "secret"}}
_FORM: Final = {
    "id": _says("The template's id at WeChat.", "string", required=True),
    "url": _says(
        "Where a tap on the message leads.",
        "string",
        regex="https://[\x21-\x7e]+",
        meta={"expected": "an https address"},
    ),
    "en": _says("What stands in its fields, in English.", "dict", **_FIELDS),
    "zh": _says("What stands in its fields, in Chinese.", "dict", **_FIELDS),
}
_VERDICT: Final = {
    "field": _says("Of its JSON: `code`, or `result.code`.", "string", required=True),
    "is": _says("What stands there when all is well.", "string", required=True),
    "never": _says("What stands there when trying again is of no use.", "list", schema={"type": "string"}),
}
_CHANNEL: Final = {
    "kind": _says(
        "What it is.", "string", required=True,
        allowed=["inbox", "mail", "sms", "wechat", "webpush", "webhook", "apprise", "plugin", "file"],
    ),
    "purposes": _says("What it is for; by default everything.", "list", schema={"type": "string", "allowed": list(PURPOSES)}),
    "url": _says("`webhook`, `sms`: the receiver's address, https.", "string"),
    "secrets": _says(
        "`webhook`: what it is signed with, `whsec_` and base64; while one is replaced, both.", "list",
        maxlength=4, schema={"type": "secret"},
    ),
    "allow_private": _says(
        "`webhook`, `sms`, `wechat`, `webpush`: addresses inside your own network that it may go to, for tests; by default none.",
        "list", schema={"type": "string"},
    ),
    "host": _says("`mail`: the mail server. `wechat`: another address of its interface.", "string"),
    "port": _says("`mail`: its port, by default 587.", "integer", min=1, max=65535),
    "sender": _says(
        "`mail`: from whom, `Shop <club@example.com>`.", "string",
        regex=r"[^\x00-\x1f\x7f]+@[A-Za-z0-9.-]+>?", meta={"expected": "one line with an address"},
    ),
    "tls": _says("`mail`: whether STARTTLS is demanded, by default yes.", "boolean"),
    "user": _says("`mail`: the user at the mail server.", "string"),
    "password": _says("`mail`: the user's password.", "secret"),
    "bounces_to": _says(
        "`mail`: the address that undeliverable mail goes back to; by default the sender's.", "string",
        regex=r"[^\s@<>]+@[A-Za-z0-9.-]+", meta={"expected": "a mail address"},
    ),
    "bounces": _says("`mail`: the Maildir in which undeliverable mail arrives; it is read every minute.", "string"),
    "pixel": _says("`mail`: whether a picture tells that a mail was opened, by default no.", "boolean"),
    "fields": _says("`sms`: the form; `{phone}`, `{text}` and `{id}` are filled in.", "dict", **_FIELDS),
    "secret_fields": _says("`sms`: fields of the form that are secrets.", "dict", **_SECRETS),
    "headers": _says("`sms`: headers that are secrets, such as `authorization`.", "dict", **_SECRETS),
    "json": _says("`sms`: whether the form goes as JSON, by default no.", "boolean"),
    "verdict": _says("`sms`: where a gateway that always answers 200 says what came of it.", "dict", schema=_VERDICT),
    "app": _says("`wechat`: the account's AppID.", "string"),
    "secret": _says("`wechat`: the account's AppSecret.", "secret"),
    "token": _says("`wechat`: the token that callbacks are signed with.", "secret"),
    "templates": _says(
        "`wechat`: which template of the account says which message.", "dict",
        keysrules={"type": "name"}, valuesrules={"type": "dict", "schema": _FORM},
    ),
    "address": _says(
        "`wechat`, `plugin`: where the member's address stands: `email`, `phone` or `more.KEY` of the profile.", "string",
        regex=r"email|phone|more\.[a-z0-9_.-]+", meta={"expected": '"email", "phone" or "more.KEY"'},
    ),
    "vapid": _says("`webpush`: your private key, 32 bytes in base64url.", "secret"),
    "contact": _says(
        "`webpush`: whom a push service writes to when something is wrong.", "string",
        regex=r"(mailto:|https://)[\x21-\x7e]+", meta={"expected": '"mailto:..." or an https address'},
    ),
    "ttl": _says("`webpush`: for how long a message waits for a browser that is off, by default 3 days.", "duration"),
    "urls": _says("`apprise`: addresses as Apprise writes them.", "list", schema={"type": "secret"}),
    "path": _says("`file`: where the lines are written.", "string"),
}  # fmt: skip
_CAP: Final = {
    "most": _says("How many messages at most.", "integer", min=1, required=True),
    "window": _says("In which time.", "duration", required=True),
    "purpose": _says("Of which purpose; by default any.", "string", allowed=list(PURPOSES)),
    "channel": _says("Over which channel; by default any.", "id"),
}
_HTTPS: Final = {"regex": r"https://[\x21-\x7e]+", "meta": {"expected": "an https address"}}
SCHEMA: Final = {
    "channels": _says(
        "The ways messages go out, by names you choose.", "dict",
        keysrules={"type": "id"}, valuesrules={"type": "dict", "schema": _CHANNEL},
    ),
    "public": _says(
        "How members' browsers reach this house: `https://club.example.com`. Links to unsubscribe begin with it.", "string",
        regex=r"https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-])?",
        meta={"expected": "an https address without a slash at its end"},
    ),
    "brand": _says(
        "How mail looks.", "dict",
        schema={
            "name": _says("The shop's name, as members know it.", "string"),
            "colour": _says("The colour of the band above.", "string", regex="#[0-9a-fA-F]{6}", meta={"expected": 'a colour such as "#2f6f5e"'}),
            "logo": _says("Address of a picture, 32 pixels high, in place of the name.", "string", **_HTTPS),
            "footer": _says("What stands below: your address, and what the law asks for.", "string"),
        },
    ),
    "quiet": _says(
        "When nobody is disturbed, by the member's clock (`zone` of the profile, else the programme's); service messages go.",
        "dict",
        schema={
            "since": _says("From when.", "clock", required=True),
            "until": _says("Until when; earlier than `since`: the next morning.", "clock", required=True),
        },
    ),
    "caps": _says("How many messages a member gets at most.", "list", schema={"type": "dict", "schema": _CAP}),
    "wordings": _says(
        "Your own words, by the message's name, in front of those that its plugin comes with.", "dict",
        keysrules={"type": "name"},
        valuesrules={
            "type": "dict",
            "schema": {
                "facts": _says("What the words may name; known for messages that a plugin declares.", "list", schema={"type": "id"}),
                "en": _says("In English.", "dict", schema=_WORDING),
                "zh": _says("In Chinese.", "dict", schema=_WORDING),
            },
        },
    ),
}  # fmt: skip
#: What each kind of channel cannot be without, and what else it knows.
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "inbox": (), "file": ("path",), "webhook": ("url", "secrets"), "mail": ("host", "sender"), "sms": ("url", "fields"),
    "wechat": ("app", "secret", "templates"), "webpush": ("vapid", "contact"), "apprise": ("urls",), "plugin": (),
}  # fmt: skip
KNOWS: Final[Mapping[str, tuple[str, ...]]] = {
    "inbox": (), "file": (), "webhook": ("allow_private",), "apprise": (), "plugin": ("address",),
    "mail": ("port", "tls", "user", "password", "bounces", "bounces_to", "pixel"),
    "sms": ("secret_fields", "headers", "json", "verdict", "allow_private"),
    "wechat": ("token", "address", "host", "allow_private"), "webpush": ("ttl", "allow_private"),
}  # fmt: skip


def check(document: Mapping[str, Any], context: Any) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Mistakes that a schema cannot express."""
    messages = declared(context.messages.values())
    for name, said in document.get("channels", {}).items():
        for path, message in _check_channel(said, document, messages):
            yield ("channels", name, *path), message
    for index, cap in enumerate(document.get("caps", ())):
        if "channel" in cap and cap["channel"] not in document.get("channels", {}):
            yield ("caps", index, "channel"), f'there is no channel "{cap["channel"]}"'
    for template, said in document.get("wordings", {}).items():
        if template not in messages and "facts" not in said:
            yield ("wordings", template), f'"facts" is missing; expected the facts that "{template}" may name'
            continue
        facts = tuple(said.get("facts", messages[template].facts if template in messages else ()))
        for language in LANGUAGES:
            for part, text in said.get(language, {}).items():
                for objection in objections(text, facts):
                    yield ("wordings", template, language, part), objection


def _check_channel(
    said: Mapping[str, Any], document: Mapping[str, Any], messages: Mapping[str, Message]
) -> Iterator[tuple[tuple[Any, ...], str]]:
    kind = said["kind"]
    for key in NEEDS[kind]:
        if not said.get(key):
            yield (), f'"{key}" is missing; a {kind} channel needs it'
    for key in said:
        if key not in ("kind", "purposes", *NEEDS[kind], *KNOWS[kind]):
            yield (key,), f'a {kind} channel has no "{key}"'
    for key in ("url", "host"):
        if said.get(key) and kind in ("webhook", "sms", "wechat"):
            try:
                egress.check_url(said[key], said.get("allow_private", ()))
            except AddressRefused as error:
                yield (key,), str(error)
    if kind == "mail" and "public" not in document:
        yield from _check_private(said)
    if kind == "apprise" and not apprises.is_installed():
        yield ("kind",), apprises.MISSING
    if kind == "sms" and said.get("fields"):
        yield from _check_fields(said["fields"])
    for template, form in said.get("templates", {}).items() if kind == "wechat" else ():
        yield from _check_form(template, form, messages)


def _check_private(said: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    if tuple(said.get("purposes", PURPOSES)) != ("service",):
        yield (), '"public" is missing above: mail that is no service must be easy to unsubscribe'
    if said.get("pixel"):
        yield ("pixel",), '"public" is missing above: the picture is fetched from there'


def _check_fields(fields: Mapping[str, str]) -> Iterator[tuple[tuple[Any, ...], str]]:
    for name in unknown_places(fields):
        yield ("fields",), f'nothing stands for "{{{name}}}"; expected {{phone}}, {{text}} or {{id}}'
    for name in ("phone", "text"):
        if not any(f"{{{name}}}" in value for value in fields.values()):
            yield ("fields",), f'no field has "{{{name}}}" in it'


def _check_form(
    template: str, form: Mapping[str, Any], messages: Mapping[str, Message]
) -> Iterator[tuple[tuple[Any, ...], str]]:
    place = ("templates", template)
    if not any(form.get(language) for language in LANGUAGES):
        yield place, '"zh" or "en" is missing; expected what stands in the template\'s fields'
    if template not in messages:
        yield place, f'no enabled plugin has a message "{template}"'
        return
    for language in LANGUAGES:
        for field, text in form.get(language, {}).items():
            for objection in objections(text, messages[template].facts):
                yield (*place, language, field), objection


def read(document: Mapping[str, Any], context: Any) -> Settings:
    """A checked document as the plugin uses it."""
    quiet, brand = document.get("quiet"), Brand(**document.get("brand", {}))
    return Settings(
        ways=tuple(
            Way(
                name=name, kind=said["kind"], purposes=tuple(said.get("purposes", PURPOSES)), channel=_channel(name, said, brand),
                bounces=Path(said["bounces"]) if "bounces" in said else None,
            )
            for name, said in document.get("channels", {}).items()
        ),
        messages=_messages(document.get("wordings", {}), declared(context.messages.values())),
        quiet=Quiet(since=_clock(quiet["since"]), until=_clock(quiet["until"])) if quiet else None,
        caps=tuple(
            Cap(
                most=cap["most"], window=_duration(cap["window"]),
                purpose=cap.get("purpose", ""), channel=cap.get("channel", ""),
            )
            for cap in document.get("caps", ())
        ),
        language=context.language,
        public=document.get("public", ""),
        brand=brand,
    )  # fmt: skip


def _messages(wordings: Mapping[str, Any], known: Mapping[str, Message]) -> dict[str, Message]:
    """The messages that are known, with the merchant's words in front of theirs."""
    found = dict(known)
    for template, said in wordings.items():
        own = {language: Wording(**said[language]) for language in LANGUAGES if language in said}
        message = found.get(template) or Message(facts=tuple(said["facts"]))
        found[template] = attrs.evolve(message, words={**message.words, **own})
    return found


def _clock(value: str | time) -> time:
    return value if isinstance(value, time) else time.fromisoformat(value)


def _duration(value: str | timedelta) -> timedelta:
    return value if isinstance(value, timedelta) else values.duration(value)


def _channel(name: str, said: Mapping[str, Any], brand: Brand) -> Channel:
    allow = tuple(said.get("allow_private", ()))
    match said["kind"]:
        case "inbox":
            return Inbox()
        case "file":
            return File(path=Path(said["path"]))
        case "webhook":
            return Webhook(url=said["url"], secrets=tuple(said["secrets"]), allow=allow)
        case "sms":
            verdict = said.get("verdict")
            return Sms(
                url=said["url"], fields=said["fields"], secrets=said.get("secret_fields", {}), headers=said.get("headers", {}),
                json=said.get("json", False), allow=allow,
                verdict=Verdict(field=verdict["field"], good=verdict["is"], never=tuple(verdict.get("never", ()))) if verdict else None,
            )  # fmt: skip
        case "wechat":
            forms = {
                template: wechat.Form(
                    id=form["id"], url=form.get("url", ""),
                    data={language: form[language] for language in LANGUAGES if form.get(language)},
                )
                for template, form in said["templates"].items()
            }  # fmt: skip
            return WeChat(
                app=said["app"], secret=said["secret"], forms=forms, token=said.get("token", {}), allow=allow,
                host=said.get("host", wechat.HOST), address=said.get("address", "more.wechat"),
            )  # fmt: skip
        case "webpush":
            ttl = int(_duration(said.get("ttl", timedelta(days=3))).total_seconds())
            return WebPush(vapid=said["vapid"], contact=said["contact"], ttl=ttl, allow=allow)
        case "apprise":
            return Apprise(urls=tuple(said["urls"]))
        case "plugin":
            return Brought(name=name, address=said.get("address", ""))
        case _:
            return Mail(
                host=said["host"], port=said.get("port", 587), sender=said["sender"], tls=said.get("tls", True),
                user=said.get("user", ""), password=said.get("password", {}), bounces=said.get("bounces_to", ""),
                pixel=said.get("pixel", False), brand=brand,
            )  # fmt: skip
