"""Frames over MQTT 5, through a real broker: the same answers as over a socket, also when the broker goes away."""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from plugins.vr_kiosk.tests.conftest import Shop
from tallystick.errors import InvalidRequest
from tallystick_vr_kiosk import mqtt
from tallystick_vr_kiosk.commands import mqtt as command
from tallystick_vr_kiosk.frames import Pen
from tallystick_vr_kiosk.mqtt import Broker

aiomqtt = pytest.importorskip("aiomqtt")


class Mosquitto:
    """A broker of our own on a free port."""

    def __init__(self, program: str, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._file = folder / "mosquitto.conf"
        self._file.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        self._program = program
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", self._file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture
def broker(debian_tool: Callable[[str, str], str], tmp_path: Path) -> Iterator[Mosquitto]:
    found = Mosquitto(debian_tool("mosquitto", "mosquitto"), tmp_path)
    yield found
    found.stop()


@contextmanager
def listening(shop: Shop, broker: Mosquitto) -> Iterator[threading.Semaphore]:
    """The house at the broker; the semaphore is released each time that it was reached."""
    reached, loop = threading.Semaphore(0), asyncio.new_event_loop()
    listens = loop.create_task(
        mqtt.listen(shop.house, "shop", Broker("127.0.0.1", broker.port, tls=False), reached.release)
    )

    def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(listens)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert reached.acquire(timeout=60)
        yield reached
    finally:
        loop.call_soon_threadsafe(listens.cancel)
        thread.join()


async def say(broker: Mosquitto, device: str, frames: list[bytes], to: str = "") -> list[Any]:
    """Publish frames at once; their answers, by the correlation of each."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    found: dict[int, Any] = {}
    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe(f"tallystick/shop/{to or device}/answer", qos=1)
        for place, frame in enumerate(frames):
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = bytes([place])
            topic = f"tallystick/shop/{to or device}/frame"
            await client.publish(topic, frame, qos=1, properties=properties)
        async for message in client.messages:
            found[message.properties.CorrelationData[0]] = msgspec.json.decode(message.payload)
            if len(found) == len(frames):
                break
    return [found[place] for place in range(len(frames))]


def test_frames_are_answered_as_over_a_socket_and_in_their_order(shop: Shop, broker: Mosquitto) -> None:
    kiosk = shop.pair()
    shop.buys("ann", 80)
    shop.cut = True
    kiosk.say("beat", {"version": "1"})
    kiosk.say("identify", {"code": shop.code("ann")}, operation="here")
    kiosk.say("redeem", {"session": "here", "reward": "coffee"})
    with listening(shop, broker):
        device, frames = kiosk.pen.device, kiosk.history
        answers = asyncio.run(asyncio.wait_for(say(broker, device, [*frames, frames[2]]), 60))
    assert [one["status"] for one in answers] == ["done"] * 4
    assert answers[3] == answers[2]
    assert answers[2]["said"]["usable"] == shop.stage.usable("ann") == 30
    shop.cut = False
    assert msgspec.json.decode(kiosk.line(frames[2])) == answers[2]


def test_what_is_not_this_devices_is_refused_here_as_everywhere(shop: Shop, broker: Mosquitto) -> None:
    kiosk, other = shop.pair("one"), shop.pair("two")
    shop.cut = True
    kiosk.say("beat", {})
    copy = Pen(kiosk.pen.device, kiosk.pen.epoch, kiosk.pen.key)
    frames = [kiosk.history[0], b"nonsense", copy.write("beat", {"n": 1}, at=shop.stage.now), kiosk.history[0]]
    with listening(shop, broker):
        elsewhere = asyncio.run(asyncio.wait_for(say(broker, "", [kiosk.history[0]], to=other.pen.device), 60))
        answers = asyncio.run(asyncio.wait_for(say(broker, kiosk.pen.device, frames), 60))
    assert elsewhere == [{"code": "vr_kiosk_bad_frame"}]
    said = [one.get("code") or one["status"] for one in answers]
    assert said == ["done", "vr_kiosk_bad_frame", "vr_kiosk_device_refused", "vr_kiosk_device_refused"]
    assert shop.alarms() == ["copied"]


def test_the_house_comes_back_to_a_broker_that_was_away(shop: Shop, broker: Mosquitto) -> None:
    kiosk = shop.pair()
    shop.cut = True
    kiosk.say("beat", {})
    with listening(shop, broker) as reached:
        broker.stop()
        broker.start()
        assert reached.acquire(timeout=60)
        answers = asyncio.run(asyncio.wait_for(say(broker, kiosk.pen.device, kiosk.history), 60))
    assert [one["status"] for one in answers] == ["done"]


@pytest.mark.parametrize(
    "url", ["", "http://a", "mqtt://", "mqtt://a:b", "mqtt://a/path", "mqtt://user:word@a", "mqtt://a?x=1"]
)
def test_a_broker_is_named_plainly(shop: Shop, url: str) -> None:
    with pytest.raises(InvalidRequest, match="mqtt://host:1883"):
        command(shop.errand, broker=url)


def test_ports_have_their_defaults() -> None:
    found = itertools.starmap(Broker, [("a", 1883, False), ("a", 8883, True), ("a", 7, True)])
    assert list(found) == [Broker.read(url) for url in ("mqtt://a", "mqtts://a", "mqtts://a:7")]
