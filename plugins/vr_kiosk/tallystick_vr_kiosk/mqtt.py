"""Frames over MQTT 5: the same frames, the same checks and the same answers as over a socket.

A device publishes its frames to ``tallystick/<tenant>/<device>/frame`` and reads ``tallystick/<tenant>/<device>/answer``.
An answer bears the correlation data of its frame, if that had some.  Who may publish where is the broker's to say; what a
frame is believed for is its signature alone.  What the broker loses, the device sends again, as over any network.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import msgspec

from tallystick.errors import InvalidRequest, NotFound, TallyError
from tallystick.gathering import Gathering

from .desk import Desk, Taken
from .frames import MAX_FRAME

log = logging.getLogger("tallystick")

#: Frames that may wait at once; the broker keeps the others.
WAITING: Final = 2_000
#: Seconds between two tries to reach the broker, at first and at last.
PAUSE, LONGEST_PAUSE = 0.5, 30.0


@attrs.frozen
class Broker:
    """Where the broker is.  User and password come from TALLY_MQTT_USER and TALLY_MQTT_PASSWORD: they stand in no command."""

    host: str
    port: int
    tls: bool

    @staticmethod
    def read(url: str) -> Broker:
        """From ``mqtt://host:1883`` or ``mqtts://host:8883``.  Raises InvalidRequest."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        bare = not (parts.path.strip("/") or parts.query or parts.username)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == -1 or not bare:
            raise InvalidRequest("a broker is reached by mqtt://host:1883 or mqtts://host:8883")
        tls = parts.scheme == "mqtts"
        return Broker(parts.hostname, port or (8883 if tls else 1883), tls)

    def client(self, name: str) -> Any:
        """A client of the broker.  Raises InvalidRequest if aiomqtt is missing."""
        try:
            import aiomqtt
        except ImportError:
            raise InvalidRequest("MQTT needs aiomqtt: pip install 'tallystick-vr-kiosk[mqtt]'") from None
        return aiomqtt.Client(
            self.host, self.port, protocol=aiomqtt.ProtocolVersion.V5, identifier=name,
            username=os.environ.get("TALLY_MQTT_USER"), password=os.environ.get("TALLY_MQTT_PASSWORD"),
            tls_context=ssl.create_default_context() if self.tls else None, max_queued_incoming_messages=WAITING,
        )  # fmt: skip


async def listen(house: Any, tenant: str, broker: Broker, connected: Callable[[], object] = lambda: None) -> None:
    """Take the frames of the tenant's devices, and publish what they are answered, until cancelled.

    *connected* is called each time that the broker was reached.  Raises InvalidRequest if aiomqtt is missing.
    """
    gathering: Gathering[tuple[str, bytes]] = Gathering(lambda came: _take(house, tenant, came))
    client = broker.client(f"tallystick-{tenant}-{os.getpid()}")
    import aiomqtt

    pause = PAUSE
    while True:
        try:
            async with client:
                await client.subscribe(f"tallystick/{tenant}/+/frame", qos=1)
                connected()
                pause = PAUSE
                await _converse(client, tenant, gathering)
        except aiomqtt.MqttError as error:
            log.warning("the MQTT broker cannot be reached: %s", error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


async def _converse(client: Any, tenant: str, gathering: Gathering[tuple[str, bytes]]) -> None:
    room = asyncio.Semaphore(WAITING)
    at_work: set[asyncio.Task[None]] = set()

    def done(task: asyncio.Task[None]) -> None:
        at_work.discard(task)
        room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a frame could not be answered", exc_info=error)

    try:
        async for message in client.messages:
            device, body = str(message.topic).split("/")[2], message.payload
            if isinstance(body, bytes) and len(body) <= MAX_FRAME:  # what is larger is no frame of anybody
                await room.acquire()
                task = asyncio.create_task(_answer(client, tenant, gathering, device, body, message.properties))
                at_work.add(task)
                task.add_done_callback(done)
    finally:
        for task in at_work:
            task.cancel()


async def _answer(
    client: Any, tenant: str, gathering: Gathering[tuple[str, bytes]], device: str, body: bytes, properties: Any
) -> None:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    try:
        said = (await gathering.answer(device, (device, body))).encoded()
    except TallyError as refusal:
        said = msgspec.json.encode({"code": refusal.code})
    make: Any = Properties  # paho says nothing of its types here
    more = make(PacketTypes.PUBLISH)
    if (correlation := getattr(properties, "CorrelationData", None)) is not None:
        more.CorrelationData = correlation
    import aiomqtt

    with contextlib.suppress(aiomqtt.MqttError):  # the device sends it again and is answered alike
        await client.publish(f"tallystick/{tenant}/{device}/answer", said, qos=1, properties=more)


def _take(house: Any, tenant: str, came: Sequence[tuple[str, bytes]]) -> list[Taken]:
    errand = house.errand("vr_kiosk", tenant, "vr_kiosk.mqtt")
    if errand.plugin is None:
        return [NotFound("nobody listens to devices here") for _ in came]
    return Desk(house, tenant, errand.plugin.settings, errand.now).take_all(came)
