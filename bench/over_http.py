"""What an event costs over HTTP, durable, in one process: the application itself, without a server's socket work.

Many tills send one purchase of three lines each and wait for the commit.  Printed beside it: the same events handed to
the engine in batches, so that the difference is the price of HTTP; and fdatasync/s of the same minute.

    python bench/over_http.py [folder]
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent))

from tallystick.intake import read_event
from tallystick.ledger import moment
from tests.town import NOW, START, Town, build_town

EVENTS, TILLS = 20_000, 64
LINES = [
    {"sku": "COFFEE-250", "amount": 899, "department": "GROCERY", "category": "COFFEE"},
    {"sku": "MILK-1L", "amount": 258, "quantity": 2, "department": "GROCERY", "category": "MILK"},
    {"sku": "FILTER-100", "amount": 349, "discount": 50, "department": "HOUSEHOLD"},
]


def body(number: int, run: str) -> bytes:
    data = {"order": f"{run}-{number}", "currency": "USD", "lines": LINES}
    member = ("ann", "bob")[number % 2]
    event = {
        "id": f"{run}-{number}",
        "source": "till",
        "type": "purchase.completed",
        "time": NOW,
        "member": member,
        "data": data,
    }
    return json.dumps(event).encode()


async def tills(app: Any, key: str, bodies: list[bytes], tills: int) -> None:
    headers = [
        (b"authorization", f"Bearer {key}".encode()),
        (b"content-type", b"application/json"),
        (b"host", b"localhost"),
    ]
    todo = iter(bodies)

    async def till() -> None:
        for content in todo:
            scope = {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
                "path": "/v1/events", "raw_path": b"/v1/events", "query_string": b"", "root_path": "", "headers": headers,
                "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
            }  # fmt: skip
            messages: list[dict[str, Any]] = []

            async def receive(content: bytes = content) -> dict[str, Any]:
                return {"type": "http.request", "body": content, "more_body": False}

            async def send(message: dict[str, Any], messages: list[dict[str, Any]] = messages) -> None:
                messages.append(message)

            await app(scope, receive, send)
            assert messages[0]["status"] == 200, messages

    await asyncio.gather(*(till() for _ in range(tills)))


def fdatasyncs(folder: Path) -> float:
    file = os.open(folder / "yardstick", os.O_CREAT | os.O_WRONLY)
    start, times = time.perf_counter(), 0
    while time.perf_counter() - start < 1:
        os.write(file, b"x" * 4096)
        os.fdatasync(file)
        times += 1
    os.close(file)
    return times / (time.perf_counter() - start)


def loads(content: bytes) -> float:
    start = time.thread_time()
    for _ in range(10_000):
        json.loads(content)
    return (time.thread_time() - start) * 100


def engine(town: Town, count: int) -> float:
    kinds = town.house.kinds("oak")
    arrivals = [read_event(body(n, "engine"), tenant="oak", kinds=kinds, received=moment(START)) for n in range(count)]
    start = time.process_time()
    for place in range(0, count, TILLS):
        town.house.engine.record(arrivals[place : place + TILLS])
    return (time.process_time() - start) / count * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        with build_town(folder, f"sqlite:///{folder / 'tally.db'}") as town:
            key = town.keys["oak", "cashier"]
            bodies = [body(number, "http") for number in range(EVENTS)]
            asyncio.run(tills(town.client.app, key, bodies[:500], TILLS))
            gc.collect()
            gc.freeze()
            gc.set_threshold(100_000, 50, 50)
            batches = town.house.writer.batches
            start, cpu, door = time.perf_counter(), time.process_time(), time.thread_time()
            asyncio.run(tills(town.client.app, key, bodies[500:], TILLS))
            wall, cpu, door = time.perf_counter() - start, time.process_time() - cpu, time.thread_time() - door
            count = EVENTS - 500
            batches = town.house.writer.batches - batches
            print(f"yardsticks: fdatasync/s {fdatasyncs(folder):.0f}, json.loads of a body {loads(bodies[0]):.1f} us")
            print(f"{count} events from {TILLS} tills in {batches} batches: {count / wall:.0f} events/s")
            print(
                f"over HTTP    {cpu / count * 1e6:6.1f} us CPU per event, {door / count * 1e6:.1f} of them in the application's thread"
            )
            town.house.writer.stop()
            print(f"engine alone {engine(town, 5_000):6.1f} us CPU per event, in batches of {TILLS}")


if __name__ == "__main__":
    main()
