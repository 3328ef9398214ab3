"""The doors: pairing and frames for devices, which bring no key; devices, codes and alarms for those who do."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
import segno
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta, Struct

from tallystick.errors import NotFound, TallyError
from tallystick.ledger import instant, moment

from . import care, codes, desk, frames, pairing, showroom, store
from .care import Allowance
from .errors import BadFrame, PairingEnded

_JSON = "application/json"


# --- devices: whoever has the link of the page, and whoever has a paired device's ------------------------------------


class Asks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device wants to be paired, or asks whether it was."""

    public_key: Annotated[str, Meta(min_length=64, max_length=64, pattern="^[0-9a-f]+$")]
    version: Annotated[str, Meta(max_length=40)] = ""
    letters: Annotated[str, Meta(max_length=16)] = ""
    signature: Annotated[str, Meta(max_length=128)] = ""


def pair(knock: Any) -> tuple[str, bytes]:
    """First it is told the letters to show; then, with its signature under them, what became of them."""
    try:
        asks = msgspec.json.decode(knock.body, type=Asks)
    except (msgspec.DecodeError, UnicodeError):
        raise BadFrame("that is no request to be paired") from None
    frames.check_key(asks.public_key)
    found = _paired(knock, asks) if asks.letters else _letters(knock, asks)
    return _JSON, msgspec.json.encode(found)


def _letters(knock: Any, asks: Asks) -> dict[str, Any]:
    now = instant(knock.now)
    letters, until = pairing.make_letters(), now + pairing.LIFE
    with knock.house.db.begin() as conn:
        invited = knock.words[1] if len(knock.words) > 1 else ""
        good = care.accept(conn, knock.tenant, invited, asks.public_key, asks.version, now) if invited else 0
        if good:
            letters, until = invited, good
        else:
            store.add_pairing(
                conn, knock.tenant, letters=letters, public_key=asks.public_key, version=asks.version, state="waiting",
                expires_at=until,
            )  # fmt: skip
    return {
        "letters": pairing.show_letters(letters), "number": pairing.number_of(asks.public_key),
        "until": moment(until).isoformat(),
    }  # fmt: skip


def _paired(knock: Any, asks: Asks) -> dict[str, Any]:
    letters = pairing.read_letters(asks.letters)
    try:
        signature = base64.b64decode(asks.signature, altchars=b"-_", validate=True)
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(asks.public_key)).verify(signature, letters.encode())
    except (InvalidSignature, binascii.Error, ValueError):
        raise PairingEnded from None
    with knock.house.reading() as conn:
        row = store.load_pairing(conn, knock.tenant, letters)
        found = store.load_device(conn, knock.tenant, row.device) if row is not None and row.device else None
    if row is None or row.public_key != asks.public_key or row.expires_at < instant(knock.now):
        raise PairingEnded
    if found is None:
        return {"state": row.state}
    return {
        "state": row.state, "device": found.id, "epoch": found.epoch, "name": found.name,
        "line": knock.house.pass_for(knock.tenant, "vr_kiosk.line", found.id),
        "showroom": knock.house.pass_for(knock.tenant, "vr_kiosk.showroom", found.id),
        "settings": about(knock.plugin.settings),
    }  # fmt: skip


def about(settings: Any) -> dict[str, Any]:
    """What a kiosk page must know of the settings."""
    return {
        "title": settings.title.languages, "idle": settings.idle, "unit": settings.unit, "check_in": settings.check_in,
        "draw": settings.draw, "showrooms": {one.name: one.title.languages for one in settings.showrooms.values()},
        "rewards": [
            {"name": one.name, "title": one.title.languages, "points": one.points, "picture": one.picture}
            for one in settings.rewards.values()
        ],
    }  # fmt: skip


def line(knocks: Sequence[Any]) -> Sequence[Any]:
    """Frames of many devices, one of each, over HTTP or sockets; see :mod:`tallystick_vr_kiosk.frames`."""
    first = knocks[0]
    found = desk.Desk(first.house, first.tenant, first.plugin.settings, first.now)
    return [_sent(taken) for taken in found.take_all([(knock.words[0], knock.body) for knock in knocks])]


def _sent(taken: desk.Taken) -> Any:
    """An answer as it goes out, now or later."""
    if isinstance(taken, TallyError):
        return taken
    if isinstance(taken, desk.Answer):
        return _JSON, taken.encoded()
    later: Future[tuple[str, bytes]] = Future()

    def done(answer: Future[desk.Answer]) -> None:
        try:
            later.set_result((_JSON, answer.result().encoded()))
        except Exception as error:  # noqa: BLE001  whoever asked hears of it
            later.set_exception(error)

    taken.add_done_callback(done)
    return later


def show(knock: Any) -> tuple[str, bytes]:
    """A showroom, as its page reads it; or one of the merchant's models, by its name."""
    if file := knock.query.get("file", ""):
        media = "model/gltf-binary" if file.endswith(".glb") else "model/gltf+json"
        return media, showroom.read_model(knock.plugin.settings.models, file)
    found = knock.plugin.settings.showrooms.get(knock.query.get("name", ""))
    if found is None:
        raise NotFound("there is no such showroom")
    language = knock.query.get("language", "en")
    return _JSON, msgspec.json.encode(showroom.document(found, language))


# --- whoever looks after devices --------------------------------------------------------------------------------------


class Device(Struct, frozen=True, kw_only=True):
    """One device, as it stands."""

    id: str
    name: str
    place: str
    state: str
    epoch: int
    counter: int
    version: str
    paired_at: datetime
    seen_at: datetime | None
    health: Mapping[str, Any]


class Approval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The letters that a device shows are right."""

    letters: Annotated[str, Meta(min_length=8, max_length=20)]
    number: Annotated[
        str, Meta(min_length=6, max_length=6, description="the six digits that the device shows beside them")
    ]
    name: Annotated[str, Meta(min_length=1, max_length=80)]
    place: Annotated[str, Meta(max_length=80)] = ""
    device: Annotated[str, Meta(max_length=40, description="pair this device anew instead of making one")] = ""


class State(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the house listens to a device: active, quarantined or revoked."""

    state: Annotated[str, Meta(pattern="^(active|quarantined|revoked)$")]


class Order(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the device shall do: show, print, restart or lock."""

    command: Annotated[str, Meta(pattern="^(show|print|restart|lock|unlock)$")]
    facts: dict[str, Any] = {}


class Grant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device may give without asking."""

    points: Annotated[int, Meta(ge=1, le=10**9)]
    seconds: Annotated[int, Meta(ge=60, le=7 * 86_400, description="for how long")]


def devices(request: Any) -> list[Device]:
    """All devices."""
    with request.house.reading() as conn:
        return [_device(row) for row in store.list_devices(conn, request.tenant)]


def approve(request: Any, body: Approval) -> Device:
    """Pair the device that shows these letters.  Raises PairingEnded, and TooManyTries after five wrong ones."""
    row = care.approve(
        request,
        body.letters,
        body.number,
        name=body.name,
        place=body.place,
        device=body.device,
        who=request.principal.key,
    )
    return _device(row)


def change(request: Any, body: State) -> Device:
    """Revoke a device, set it aside, or listen to it again.  A revoked one must be paired anew."""
    return _device(care.change_state(request, request.path["device"], body.state))


def order(request: Any, body: Order) -> dict[str, str]:
    """Let the device do something; it is told with its next sign of life."""
    return {"command": care.tell(request, request.path["device"], body.command, body.facts)}


class Told(Struct, frozen=True, kw_only=True):
    """A command, and what came of it."""

    id: str
    command: str
    state: str
    tries: int
    said: str
    at: datetime


def orders(request: Any) -> list[Told]:
    """The device's commands, newest first."""
    with request.house.reading() as conn:
        care.find(conn, request.tenant, request.path["device"])
        rows = store.list_commands(conn, request.tenant, request.path["device"])
    return [
        Told(id=row.id, command=row.command, state=row.state, tries=row.tries, said=row.said, at=moment(row.created_at))
        for row in rows
    ]


def grant(request: Any, body: Grant) -> Allowance:
    """Let the device give rewards for so many points while nobody can be asked."""
    return care.give(request, request.path["device"], body.points, request.now + timedelta(seconds=body.seconds))


class Alarm(Struct, frozen=True, kw_only=True):
    """Something that a person should look at."""

    device: str
    code: str
    detail: str
    at: datetime


def alarms(request: Any) -> list[Alarm]:
    """The last hundred, newest first."""
    with request.house.reading() as conn:
        rows = store.list_alarms(conn, request.tenant)
    return [Alarm(device=row.device, code=row.code, detail=row.detail, at=moment(row.at)) for row in rows]


def _device(row: Any) -> Device:
    return Device(
        id=row.id, name=row.name, place=row.place, state=row.state, epoch=row.epoch, counter=row.counter, version=row.version,
        paired_at=moment(row.paired_at), seen_at=moment(row.seen_at) if row.seen_at else None,
        health=msgspec.json.decode(row.health),
    )  # fmt: skip


# --- members ------------------------------------------------------------------------------------------------------------


class Shown(Struct, frozen=True, kw_only=True):
    """A code to be shown to a kiosk, and its picture."""

    code: str
    svg: str
    until: datetime | None  #: None: until the card is replaced


class Pin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A PIN of four to eight digits."""

    pin: Annotated[str, Meta(pattern="^[0-9]{4,8}$")]


def code(request: Any) -> Shown:
    """The member's code of this half minute."""
    seconds = instant(request.now) // 1_000_000
    with request.house.db.begin() as conn:
        alias = store.alias_of(conn, request.tenant, request.member, "phone", instant(request.now))
    step = codes.step_of(seconds)
    text = codes.make_code(codes.secret_of(request.house.secret, request.tenant, alias), alias, step)
    return Shown(code=text, svg=picture(text), until=moment((step + 1) * codes.STEP * 1_000_000))


def card(request: Any) -> Shown:
    """A code for a printed card; the card before is good no more."""
    with request.house.db.begin() as conn:
        alias = store.make_alias(conn, request.tenant, request.member, "card", instant(request.now))
    text = codes.make_card(codes.secret_of(request.house.secret, request.tenant, alias), alias)
    return Shown(code=text, svg=picture(text), until=None)


def set_pin(request: Any, body: Pin) -> None:
    """The member's PIN, for rewards above the limit."""
    with request.house.db.begin() as conn:
        store.set_pin(conn, request.tenant, request.member, body.pin, instant(request.now))


def picture(text: str) -> str:
    """A QR code as SVG."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(out, kind="svg", scale=8, border=4, xmldecl=False, svgns=True)
    return out.getvalue().decode()
