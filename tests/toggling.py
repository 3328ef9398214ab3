"""A till in a process of its own for test_toggling: rings up a batch of purchases for each line it reads."""

import sys
import time
from pathlib import Path

import msgspec

from tallystick import config, discovery, engine
from tallystick.errors import TallyError
from tallystick.house import build_house
from tallystick.intake import read_document
from tallystick.ledger import moment

#: How far ahead the till's clock goes: within the five minutes that are allowed, so that the generation in force judges.
AHEAD = 60_000_000


def main(file: str, name: str, size: int) -> None:
    """Print one line of JSON per batch: entry numbers as the house gave them, or codes of refusals."""
    engine.PATIENCE = 120.0  # a busy machine makes everybody's turn long, and a refusal says nothing of switches
    installed = discovery.discover()
    house = build_house(config.load(Path(file), installed=installed), installed=installed)
    with house:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for n, _ in enumerate(sys.stdin):
            now = time.time_ns() // 1_000
            documents = [
                {
                    "id": f"{name}-{n}-{i}", "source": name, "type": "purchase.completed", "member": f"m-{i % 7}",
                    "time": moment(now + AHEAD).isoformat(),
                    "data": {"order": f"{name}-{n}-{i}", "currency": "USD", "lines": [{"sku": "A", "amount": 100 * (1 + i)}]},
                }
                for i in range(size)
            ]  # fmt: skip
            kinds = house.kinds("shop")
            arrivals = [read_document(each, tenant="shop", kinds=kinds, received=moment(now)) for each in documents]
            outcomes = house.record(arrivals)
            said = [each.code if isinstance(each, TallyError) else each.record.entry for each in outcomes]
            sys.stdout.write(msgspec.json.encode(said).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
