"""Devices on one process: each says one frame a second over its own socket, and waits for the durable answer.

All come within one second, as after a cut of the power; what is said meanwhile and what is said once all are there is told
apart, and so is how long a device waits for its socket.  One frame in four is an event that is recorded, the others are
signs of life; all of them take their number durably.  The loop is the one of ``tally serve``.  The yardstick is fdatasync of a small file in the same minute.

    python bench/kiosk.py [devices] [seconds]
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SETTINGS = """\
[plugins.points]
[[plugins.points.earn]]
name = "touch"
on = "vr_kiosk.touched"
points = 1
[plugins.vr_kiosk]
sample = true
"""


def serve(folder: str, devices: int, told: Any) -> None:
    """A house with paired devices, each with a member before it; says where, with keys and sessions."""
    import uvicorn
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from tallystick.testing import make_stage
    from tallystick.web import build_app
    from tallystick_vr_kiosk import store
    from tallystick_vr_kiosk.commands import sim_device

    with make_stage(SETTINGS, f"sqlite:///{folder}/tally.db", Path(folder), start=datetime.now(UTC)) as stage:
        house, errand = stage.house, stage.house.errand("vr_kiosk", "shop", "bench")
        paired = []
        for n in range(devices):
            stage.enrol(f"member-{n}")
            key = Ed25519PrivateKey.generate()
            pen = sim_device(errand, f"device {n}", key).pen
            with house.db.begin() as conn:
                until = stage.clock[0] + 10**12
                store.open_session(
                    conn, "shop", f"{pen.device}/s", pen.device, stage.number(f"member-{n}"), "pin", until
                )
            word = house.pass_for("shop", "vr_kiosk.line", pen.device)
            paired.append((pen.device, pen.epoch, key.private_bytes_raw(), word))
        house.open()  # the writer and what runs by the clock are at work meanwhile
        server = uvicorn.Server(
            uvicorn.Config(build_app(house), host="127.0.0.1", port=0, log_level="error", ws_per_message_deflate=False)
        )

        async def run() -> None:
            asyncio.get_running_loop().create_task(tick())
            await server.serve()

        async def tick() -> None:
            while not server.started:  # noqa: ASYNC110  uvicorn and a pipe have no event to wait for
                await asyncio.sleep(0.01)
            told.send((server.servers[0].sockets[0].getsockname()[1], paired))
            for _ in ("all are there", "stop"):
                before = time.process_time()
                while not told.poll():
                    stage.clock[0] = time.time_ns() // 1_000
                    await asyncio.sleep(0.02)
                told.recv()
                told.send(time.process_time() - before)
            server.should_exit = True

        config: Any = server.config  # uvicorn says nothing of this type
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(run())


class Seen:
    """What the devices saw, in seconds: until their sockets were open, and of each frame when it was sent and how long it took."""

    def __init__(self) -> None:
        self.opened: list[float] = []
        self.frames: list[tuple[float, float]] = []
        self.refused: list[str] = []


async def visit(port: int, device: tuple[Any, ...], until: float, seen: Seen) -> None:
    """One device: a frame a second, begun at its own moment."""
    import msgspec
    import websockets
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from tallystick_vr_kiosk.frames import Pen

    name, epoch, secret, word = device
    pen = Pen(name, epoch, Ed25519PrivateKey.from_private_bytes(secret))
    await asyncio.sleep(hash(name) % 1000 / 1000)
    began = time.monotonic()
    url = f"ws://127.0.0.1:{port}/v1/vr_kiosk/{word}/line"
    async with websockets.connect(url, open_timeout=60, compression=None) as socket:
        seen.opened.append(time.monotonic() - began)
        n = 0
        while time.monotonic() < until:
            if n % 4 == 3:
                data = {"session": "s", "type": "vr_kiosk.touched", "facts": {"showroom": "sample", "spot": "teapot"}}
                body = pen.write("event", data, at=datetime.now(UTC))
            else:
                body = pen.write("beat", {"version": "bench"}, at=datetime.now(UTC))
            began = time.monotonic()
            await socket.send(body.decode())
            answer = msgspec.json.decode(await socket.recv())
            seen.frames.append((began, time.monotonic() - began))
            if answer.get("status") != "done":
                seen.refused.append(str(answer.get("code")))
            n += 1
            await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


def fdatasync(folder: Path, times: int = 300) -> float:
    """Seconds of one, at the median."""
    found = []
    with (folder / "yardstick").open("wb", buffering=0) as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(b"x" * 512)
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - began)
    return statistics.median(found)


async def measure(port: int, paired: list[tuple[Any, ...]], seconds: float, here: Any) -> tuple[Seen, float, float]:
    """What was seen, since when all were there, and the house's processor time until then."""
    seen, until = Seen(), time.monotonic() + seconds
    visits = [asyncio.ensure_future(visit(port, device, until, seen)) for device in paired]
    while len(seen.opened) < len(paired):  # noqa: ASYNC110  they tell nobody
        await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)  # the frames that waited meanwhile are through
    here.send("all are there")
    there, coming = time.monotonic(), here.recv()
    await asyncio.gather(*visits)
    return seen, there, coming


def told(what: str, took: list[float]) -> str:
    """Percentiles in milliseconds."""
    took = sorted(took)

    def at(part: float) -> float:
        return took[min(len(took) - 1, int(part * len(took)))] * 1000 if took else float("nan")

    return f"{what}: {len(took)}, p50 {at(0.5):.1f} ms, p95 {at(0.95):.1f} ms, p99 {at(0.99):.1f} ms"


def main() -> None:
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 20.0
    with tempfile.TemporaryDirectory() as name:
        here, there = multiprocessing.get_context("spawn").Pipe()
        house = multiprocessing.get_context("spawn").Process(target=serve, args=(name, devices, there))
        house.start()
        port, paired = here.recv()
        yard = fdatasync(Path(name))
        seen, since, coming = asyncio.run(measure(port, paired, seconds, here))
        here.send("stop")
        cpu = here.recv()
        house.join(20)
    meanwhile = [took for began, took in seen.frames if began < since]
    steady = [took for began, took in seen.frames if began >= since]
    own = time.process_time()
    print(f"{devices} devices, {len(seen.refused)} refused {sorted(set(seen.refused))[:3]}")
    print(told("sockets, all within a second", seen.opened))
    print(f"{told('frames meanwhile', meanwhile)}; house {coming:.2f} CPU s for both")
    print(f"{told('frames once all are there', steady)}; house {cpu / max(1, len(steady)) * 1e6:,.0f} CPU us per frame")
    print(
        f"yardstick: one fdatasync {yard * 1000:.2f} ms at the median; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; "
        f"the devices themselves {own:.1f} CPU s"
    )


if __name__ == "__main__":
    main()
