"""``tally device``: pair, look after, allow, simulate."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tallystick import values
from tallystick.errors import InvalidRequest
from tallystick.ledger import instant, moment

from . import care, desk, pairing, receipts, routes, sim, store, tape
from .codes import make_card, secret_of
from .mqtt import Broker, listen


def page(
    visit: Any,
    *,
    url: Annotated[str, {"en": "Where the house is reached.", "zh": "服务地址。"}] = "http://127.0.0.1:8080",
    room: Annotated[str, {"en": "Of a showroom instead of the kiosk.", "zh": "改为展厅页面（展厅名称）。"}] = "",
    language: str = "en",
) -> tuple[Any, list[str]]:
    """The address that a kiosk or a headset opens.  It carries the right to ask for pairing, and nothing else."""
    if room and room not in visit.plugin.settings.showrooms:
        known = ", ".join(visit.plugin.settings.showrooms) or "-"
        raise InvalidRequest(f"there is no showroom {room!r}; there are: {known}")
    word = visit.house.pass_for(visit.tenant, "vr_kiosk.pair", "page")
    address = f"{url.rstrip('/')}/v1/vr_kiosk/{'room' if room else 'kiosk'}/{f'?name={room}' if room else ''}#{word}"
    said = "在设备上打开此网址，然后用 tally device approve 批准屏幕上的配对码。" if language == "zh" else (
        "Open it on the device; then approve the letters it shows with `tally device approve`."
    )  # fmt: skip
    return {"url": address}, [address, said]


def list_all(visit: Any, *, language: str = "en") -> tuple[Any, list[str]]:
    """All devices, when they were last heard of, and what they have to say of themselves."""
    found = routes.devices(visit)
    lines = [
        f"{one.id:<12} {one.state:<12} {one.name:<24} {one.place:<16} "
        f"{one.seen_at.astimezone(visit.plugin.programme.zone):%Y-%m-%d %H:%M}" if one.seen_at else
        f"{one.id:<12} {one.state:<12} {one.name:<24} {one.place:<16} -"
        for one in found
    ]  # fmt: skip
    return msgspec.to_builtins(found), lines or [
        "没有设备。" if language == "zh" else "No devices yet: tally device page."
    ]


def approve(
    visit: Any,
    letters: str,
    number: str,
    *,
    name: Annotated[str, {"en": "What you call it.", "zh": "设备名称。"}] = "Kiosk",
    place: Annotated[str, {"en": "Where it stands.", "zh": "放置地点。"}] = "",
    device: Annotated[str, {"en": "Pair this device anew.", "zh": "重新配对此设备。"}] = "",
    language: str = "en",
) -> tuple[Any, list[str]]:
    """Pair the device that shows these letters and this number."""
    row = care.approve(visit, letters, number, name=name[:80], place=place[:80], device=device, who="desk")
    said = f"{row.name} 已配对：{row.id}" if language == "zh" else f"{row.name} is paired: {row.id}"
    return {"device": row.id, "epoch": row.epoch}, [said]


def revoke(visit: Any, device: str, *, language: str = "en") -> tuple[Any, list[str]]:
    """Listen to the device no more, from this moment on."""
    row = care.change_state(visit, device, "revoked")
    return {"device": row.id, "state": row.state}, [
        f"{row.name} 已停用。" if language == "zh" else f"{row.name} is revoked."
    ]


def release(visit: Any, device: str, *, language: str = "en") -> tuple[Any, list[str]]:
    """Listen again to a device that was set aside."""
    row = care.change_state(visit, device, "active")
    return {"device": row.id, "state": row.state}, [
        f"{row.name} 已恢复。" if language == "zh" else f"{row.name} is active again."
    ]


def grant(
    visit: Any,
    device: str,
    *,
    max: Annotated[int, {"en": "For how many points.", "zh": "额度（积分）。"}] = 0,  # noqa: A002  --max, as people say it
    ttl: Annotated[str, {"en": "For how long: 8h.", "zh": "有效期，例如 8h。"}] = "8h",
    language: str = "en",
) -> tuple[Any, list[str]]:
    """Let a device give rewards for so many points while nobody can be asked."""
    try:
        length = values.duration(ttl)
    except ValueError:
        raise InvalidRequest(f"--ttl {ttl}: expected a duration such as 8h") from None
    if not 1 <= max <= 10**9 or not timedelta(minutes=1) <= length <= timedelta(days=7):
        raise InvalidRequest("--max is from 1, and --ttl from 1min to 7d")
    given = care.give(visit, device, max, visit.now + length)
    until = given.until.astimezone(visit.plugin.programme.zone)
    said = (
        f"{device} 可离线兑换至多 {max} 积分，有效期至 {until:%Y-%m-%d %H:%M}。" if language == "zh"
        else f"{device} may give rewards for {max} points without asking, until {until:%Y-%m-%d %H:%M}."
    )  # fmt: skip
    return msgspec.to_builtins(given), [said]


def tell(
    visit: Any, device: str, command: str,
    *, facts: Annotated[str, {"en": "JSON that goes with it.", "zh": "附带的 JSON。"}] = "{}", language: str = "en",
) -> tuple[Any, list[str]]:  # fmt: skip
    """Let a device show, print, restart, lock or unlock; it is told with its next sign of life."""
    try:
        body = msgspec.convert({"command": command, "facts": msgspec.json.decode(facts)}, type=routes.Order)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidRequest(f"that is no command: {error}") from None
    id = care.tell(visit, device, body.command, body.facts)
    return {"command": id}, ["已下发。" if language == "zh" else "It will be told with its next sign of life."]


def alarms(visit: Any, *, language: str = "en") -> tuple[Any, list[str]]:
    """What somebody should look at, newest first."""
    found = routes.alarms(visit)
    lines = [f"{one.at:%Y-%m-%d %H:%M}  {one.device:<12} {one.code:<28} {one.detail}" for one in found]
    return msgspec.to_builtins(found), lines or ["没有告警。" if language == "zh" else "Nothing to look at."]


def card(visit: Any, member: str, *, svg: Annotated[str, {"en": "File for the picture.", "zh": "二维码图片文件。"}] = "",
         language: str = "en") -> tuple[Any, list[str]]:  # fmt: skip
    """A code for the member's printed card; the card before is good no more."""
    number = visit.member(member)
    with visit.house.db.begin() as conn:
        alias = store.make_alias(conn, visit.tenant, number, "card", instant(visit.now))
    text = make_card(secret_of(visit.house.secret, visit.tenant, alias), alias)
    if svg:
        Path(svg).write_text(routes.picture(text))
    return {"code": text}, [text, *([f"{'已写入' if language == 'zh' else 'written to'} {svg}"] if svg else [])]


def sim_device(visit: Any, name: str, key: Ed25519PrivateKey, place: str = "") -> sim.Device:
    """A simulated device, paired as any other: it shows letters, and they are approved."""
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()
    letters = pairing.make_letters()
    with visit.house.db.begin() as conn:
        store.add_pairing(
            conn, visit.tenant, letters=letters, public_key=public, version="sim", state="waiting",
            expires_at=instant(visit.now) + pairing.LIFE,
        )  # fmt: skip
    row = care.approve(visit, letters, pairing.number_of(public), name=name, place=place, who="simulator")
    house, settings = visit.house, visit.plugin.settings

    def line(body: bytes) -> bytes:
        return desk.Desk(house, visit.tenant, settings, moment(house.clock())).take(row.id, body).encoded()

    return sim.Device.make(row.id, row.epoch, key, line, lambda: moment(house.clock()))


def play(
    visit: Any, session: str,
    *, fast: Annotated[bool, {"en": "Do not wait in between.", "zh": "不等待间隔。"}] = False,
    code: Annotated[str, {"en": "The member code that stands as $code.", "zh": "代替 $code 的会员识别码。"}] = "",
    phone: Annotated[str, {"en": "The member that stands as $phone.", "zh": "代替 $phone 的会员。"}] = "",
    pin: Annotated[str, {"en": "The PIN that stands as $pin.", "zh": "代替 $pin 的 PIN。"}] = "",
    printer: Annotated[str, {"en": "An ESC/POS printer: 192.0.2.7:9100.", "zh": "ESC/POS 打印机地址。"}] = "",
    language: str = "en",
) -> tuple[Any, list[str]]:  # fmt: skip
    """Play a recorded session with a simulated device, paired for it."""
    device = sim_device(visit, f"sim {Path(session).stem}"[:80], Ed25519PrivateKey.generate())
    device.printer = sim.network_printer(printer) if printer else None
    kept = {name: said for name, said in (("$code", code), ("$phone", phone), ("$pin", pin)) if said}
    happened = [one.kind for one, _ in sim.play(sim.read_session(Path(session)), device, fast=fast, kept=kept)]
    device.sync()
    return _told(device, happened, language)


def record(
    visit: Any, session: str,
    *, device: Annotated[str, {"en": "Write down what this paired device sends.", "zh": "记录此已配对设备发送的内容。"}] = "",
    printer: Annotated[str, {"en": "An ESC/POS printer: 192.0.2.7:9100.", "zh": "ESC/POS 打印机地址。"}] = "",
    language: str = "en",
) -> tuple[Any, list[str]]:  # fmt: skip
    """Write a session down: what is typed, one thing a line, until Ctrl-D; or what a paired device sends, until Ctrl-C."""
    return _listened(visit, Path(session), device, language) if device else _typed(visit, session, printer, language)


def _listened(visit: Any, session: Path, device: str, language: str) -> tuple[Any, list[str]]:
    said = f"正在记录 {device}，按 Ctrl-C 结束。" if language == "zh" else f"Recording {device}; stop with Ctrl-C."
    count = 0
    with session.open("wb") as file, _until_stopped() as stopped:
        sys.stderr.write(f"{said}\n")
        for one in tape.listen(visit, device, stopped):
            file.write(msgspec.json.encode(one) + b"\n")
            file.flush()
            count += 1
    told = f"{session}：{count} 条" if language == "zh" else f"{count} lines in {session}"
    return {"device": device, "lines": count}, [told]


def _typed(visit: Any, session: str, printer: str, language: str) -> tuple[Any, list[str]]:
    device = sim_device(visit, f"sim {Path(session).stem}"[:80], Ed25519PrivateKey.generate())
    device.printer = sim.network_printer(printer) if printer else None
    happened = []
    with Path(session).open("wb") as file:
        for one, answer in sim.record(sys.stdin, device, file):
            happened.append(one.kind)
            if answer is not None:
                sys.stderr.write(f"{_line(one.kind, answer)}\n")
    device.sync()
    found, lines = _told(device, happened, language)
    return found, lines[-1:]  # the others were said as they came


def stand_printer(
    visit: Any, address: str, place: str,
    *, name: Annotated[str, {"en": "What you call it.", "zh": "设备名称。"}] = "Printer", language: str = "en",
) -> tuple[Any, list[str]]:  # fmt: skip
    """Print the receipts of all kiosks at a place with an ESC/POS printer in the network, 192.0.2.7:9100, until Ctrl-C."""
    if not receipts.available():
        raise InvalidRequest("receipts need python-escpos: pip install 'tallystick-vr-kiosk[printer]'")
    device = sim_device(visit, name[:80], Ed25519PrivateKey.generate(), place[:80])
    try:
        device.printer = sim.network_printer(address)
        said = (
            f"正在为“{place}”打印，按 Ctrl-C 结束。"
            if language == "zh"
            else f'Printing for "{place}"; stop with Ctrl-C.'
        )
        with _until_stopped() as stopped:
            sys.stderr.write(f"{said}\n")
            count = sim.stand_by(device, stopped)
    finally:
        care.change_state(visit, device.pen.device, "revoked")
    return {"device": device.pen.device, "commands": count}, [
        f"已处理 {count} 张凭条。" if language == "zh" else f"{count} receipts were asked for."
    ]


@contextlib.contextmanager
def _until_stopped() -> Iterator[Callable[[float], bool]]:
    """Waits so many seconds each time that it is called; true as soon as somebody said to stop."""
    stopped = threading.Event()
    before = {each: signal.signal(each, lambda *_: stopped.set()) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped.wait
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _line(kind: str, answer: Mapping[str, Any]) -> str:
    said = msgspec.json.encode(answer.get("said", {})).decode()[:100]
    return f"{kind:<10} {answer['status']:<10} {answer.get('code', '')} {said}"


def _told(device: sim.Device, happened: list[str], language: str) -> tuple[Any, list[str]]:
    """What the device was answered, a line each."""
    told = [{"kind": kind, **answer} for kind, answer in zip(happened, device.answers, strict=False)]
    done = sum(one["status"] == "done" for one in told)
    shown = [_line(str(one["kind"]), one) for one in told]
    shown.append(f"{done} / {len(told)} {'已完成' if language == 'zh' else 'done'}")
    return {"device": device.pen.device, "answers": told}, shown


def mqtt(
    visit: Any, *, broker: Annotated[str, {"en": "Where it is: mqtt://host:1883 or mqtts://host:8883.", "zh": "消息服务器地址。"}] = "mqtt://127.0.0.1:1883",
    language: str = "en",
) -> tuple[Any, list[str]]:  # fmt: skip
    """Take frames of devices over MQTT 5 until Ctrl-C; user and password are TALLY_MQTT_USER and TALLY_MQTT_PASSWORD."""
    found = Broker.read(broker)
    said = "已连接消息服务器。" if language == "zh" else "Listening at the broker; stop with Ctrl-C."

    async def run() -> None:
        told = lambda: sys.stderr.write(f"{said}\n")  # noqa: E731
        listens = asyncio.ensure_future(listen(visit.house, visit.tenant, found, told))
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, listens.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await listens

    visit.house.writer.start()  # frames come from several threads, and an engine has one
    try:
        asyncio.run(run())
    finally:
        visit.house.writer.stop()
    return {"broker": broker}, ["已停止。" if language == "zh" else "Stopped."]
