"""Devices on one process: each says one frame a second over its own socket, and waits for the durable answer.

One frame in four is an event that is recorded, the others are signs of life; all of them take their number durably.
The yardstick is fdatasync of a small file in the same minute.

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
            before = time.process_time()
            while not told.poll():
                stage.clock[0] = time.time_ns() // 1_000
                await asyncio.sleep(0.02)
            told.recv()
            told.send(time.process_time() - before)
            server.should_exit = True

        asyncio.run(run())


async def visit(port: int, device: tuple[Any, ...], seconds: float, taken: list[float], refused: list[str]) -> None:
    """One device: a frame a second, begun at its own moment."""
    import msgspec
    import websockets
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from tallystick_vr_kiosk.frames import Pen

    name, epoch, secret, word = device
    pen = Pen(name, epoch, Ed25519PrivateKey.from_private_bytes(secret))
    await asyncio.sleep(hash(name) % 1000 / 1000)
    async with websockets.connect(f"ws://127.0.0.1:{port}/v1/vr_kiosk/{word}/line", open_timeout=60) as socket:
        until = time.monotonic() + seconds
        n = 0
        while (began := time.monotonic()) < until:
            if n % 4 == 3:
                data = {"session": "s", "type": "vr_kiosk.touched", "facts": {"showroom": "sample", "spot": "teapot"}}
                body = pen.write("event", data, at=datetime.now(UTC))
            else:
                body = pen.write("beat", {"version": "bench"}, at=datetime.now(UTC))
            began = time.monotonic()
            await socket.send(body.decode())
            answer = msgspec.json.decode(await socket.recv())
            taken.append(time.monotonic() - began)
            if answer.get("status") != "done":
                refused.append(str(answer.get("code")))
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


async def measure(port: int, paired: list[tuple[Any, ...]], seconds: float) -> tuple[list[float], list[str]]:
    taken: list[float] = []
    refused: list[str] = []
    await asyncio.gather(*(visit(port, device, seconds, taken, refused) for device in paired))
    return taken, refused


def main() -> None:
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 20.0
    with tempfile.TemporaryDirectory() as name:
        here, there = multiprocessing.get_context("spawn").Pipe()
        house = multiprocessing.get_context("spawn").Process(target=serve, args=(name, devices, there))
        house.start()
        port, paired = here.recv()
        yard = fdatasync(Path(name))
        taken, refused = asyncio.run(measure(port, paired, seconds))
        here.send("stop")
        cpu = here.recv()
        house.join(20)
    taken.sort()
    at = lambda part: taken[min(len(taken) - 1, int(part * len(taken)))] * 1000  # noqa: E731
    print(f"{devices} devices, {len(taken) / seconds:,.0f} frames/s, {len(refused)} refused {sorted(set(refused))[:3]}")
    print(f"p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms; house {cpu / len(taken) * 1e6:,.0f} CPU us per frame")
    print(
        f"yardstick: one fdatasync {yard * 1000:.2f} ms at the median; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
