"""What the door costs per event: decode, check and canonical form.  CPU time, best of several rounds.

The yardstick is `json.loads` of the same bytes: a door that checks nothing.

    python bench/intake.py
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tallystick.events import CORE_KINDS
from tallystick.intake import read_events
from tallystick.strict_json import find_flaw

KINDS = {kind.name: kind for kind in CORE_KINDS}
NOW = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
ROUNDS = 15


def event(zone: str = "Z", **more: Any) -> dict[str, Any]:
    lines = [
        {"sku": "COFFEE-250", "amount": 899, "department": "GROCERY", "category": "COFFEE"},
        {"sku": "MILK-1L", "amount": 258, "quantity": 2, "department": "GROCERY", "category": "MILK"},
        {"sku": "FILTER-100", "amount": 349, "discount": 50, "department": "HOUSEHOLD"},
    ]
    return {
        "specversion": "1.0",
        "id": "till-1-0001",
        "source": "pos/main-street",
        "type": "purchase.completed",
        "time": f"2026-11-21T10:15:00{zone}",
        "member": "C-1001",
        "data": {
            "order": "R-1001",
            "currency": "USD",
            "lines": [{**line, **more} for line in lines],
            "store": "main-street",
        },
    }


def cost(work: Callable[[], Any], times: int) -> float:
    """CPU microseconds of one call, the best round."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time_ns()
        for _ in range(times):
            work()
        rounds.append((time.process_time_ns() - start) / times / 1_000)
    return min(rounds)


def main() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    plain = json.dumps(event()).encode()
    yardstick = cost(lambda: json.loads(plain), 5_000)
    print(f"yardstick: json.loads of the same {len(plain)} bytes  {yardstick:6.2f} us\n")
    print(f"{'one event of three lines':48}{'us':>7}{'x yardstick':>13}")

    def show(name: str, work: Callable[[], Any], events: int = 1) -> None:
        micro = cost(work, 5_000 // events) / events
        print(f"{name:48}{micro:7.2f}{micro / yardstick:13.2f}")

    def read(body: bytes) -> Callable[[], Any]:
        return lambda: read_events(body, tenant="t", kinds=KINDS, received=NOW)

    show("alone", read(plain))
    show("alone, without whitespace", read(json.dumps(event(), separators=(",", ":")).encode()))
    show("in an array of 100", read(json.dumps([event()] * 100).encode()), 100)
    show("in an array of 1,000", read(json.dumps([event()] * 1_000).encode()), 1_000)
    show("defaults written out: read twice", read(json.dumps(event(quantity=1, kind="item")).encode()))
    show("local time", read(json.dumps(event("+08:00")).encode()))
    show("escapes: looked at exactly", read(json.dumps(event(brand="积分")).encode()))
    show("a wrong amount: refused by name", read(plain.replace(b"899", b'"899"')))
    show("the exact look alone", lambda: find_flaw(plain, depth=32))


if __name__ == "__main__":
    main()
