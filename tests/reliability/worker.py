"""A writer process for the crash tests: records a stream of events and says which were recorded, in a file or on a pipe.

    python -m tests.reliability.worker URL FIRST COUNT [--acks FILE] [--setup] [--pragma TEXT]

Event number n is the same whoever sends it, so that what was cut off can be sent again.
"""

import argparse
import os
import sys
from collections.abc import Iterator

import sqlalchemy as sa

from core.tests.lab import START, Lab
from tallystick.engine import Receipt
from tallystick.events import Arrival

MEMBERS = ("ann", "bob", "eve")
SIZES = (1, 1, 3, 1, 8, 2)


def event(lab: Lab, n: int) -> Arrival:
    """Sales, spends, gifts and refunds, each by its number."""
    who, to = MEMBERS[n % 3], MEMBERS[(n + 1) % 3]
    match n % 5:
        case 0 | 1:
            return lab.bought(who, 1_000 + n, f"R{n}", id=f"n{n}", at=START)
        case 2:
            return lab.arrival("lab.did", who, amount=5, days=30, id=f"n{n}", at=START)
        case 3:
            return lab.arrival("lab.spent", who, amount=3, id=f"n{n}", at=START)
    return lab.arrival("lab.given", who, amount=1, to=to, id=f"n{n}", at=START)


def batches(lab: Lab, first: int, count: int) -> Iterator[list[Arrival]]:
    n = first
    while n < first + count:
        size = min(SIZES[n % len(SIZES)], first + count - n)
        yield [event(lab, place) for place in range(n, n + size)]
        n += size


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--acks", default="")
    parser.add_argument("--setup", action="store_true")
    parser.add_argument("--pragma", default="")
    given = parser.parse_args(argv)
    lab = Lab(given.url, fresh=given.setup)
    if given.pragma:
        sa.event.listen(lab.db, "begin", lambda conn: None)
        sa.event.listen(lab.db, "checkout", lambda driver, *_: driver.execute(given.pragma))
    if given.setup:
        lab.enrol(*MEMBERS)
        for name in MEMBERS:
            lab.gain(name, 1_000)
    told = os.open(given.acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if given.acks else 1
    os.write(told, b"ready\n")
    for batch in batches(lab, given.first, given.count):
        outcomes = lab.engine.record(batch)
        # one write per batch: whoever reads a line reads what was recorded
        done = [f"{a.id}\n" for a, o in zip(batch, outcomes, strict=True) if isinstance(o, Receipt)]
        os.write(told, "".join(done).encode())
    os.write(told, b"end\n")


if __name__ == "__main__":
    main(sys.argv[1:])
