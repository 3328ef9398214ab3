"""Settlement of a million transfers between fifty brands: matrix, positions, payments, and both sides' statements of every pair.

``python bench/coalition.py [transfers] [brands]`` prints processor seconds, the largest memory, and a yardstick of the machine.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict
from itertools import combinations

from tallystick_coalition import settle
from tallystick_coalition.settle import Entry


def made(transfers: int, brands: int) -> dict[tuple[str, str], list[Entry]]:
    """Entries by pair of brands, in no order that helps."""
    names = [f"brand-{number:02d}" for number in range(brands)]
    pairs = list(combinations(names, 2))
    kinds = ("convert", "redeem", "earn")
    books: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for n in range(transfers):
        pair = pairs[n * 7_919 % len(pairs)]
        source, target = pair if n % 3 else pair[::-1]
        amount = 1 + n * 104_729 % 5_000
        books[pair].append(
            Entry(f"{n * 2_654_435_761 % 2**40:012x}", 0, kinds[n % 3], source, target, amount, amount * 2 // 3, amount // 2, f"{pair[0]}-{pair[1]}/1")
        )  # fmt: skip
    return books


def main() -> None:
    """Run it once."""
    transfers = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    brands = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    begun = time.process_time()
    sum(range(10_000_000))
    yardstick = time.process_time() - begun
    books = made(transfers, brands)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    begun = time.process_time()
    owed: dict[tuple[str, str], int] = {}
    for pair, entries in books.items():
        ours = settle.draw_up(pair, "2026-06", "USD", entries)
        theirs = settle.draw_up(pair[::-1], "2026-06", "USD", entries[::-1])
        assert settle.text_of(ours) == settle.text_of(theirs)
        (one, two), (there, back) = ours.brands, ours.owed
        owed |= {(one, two): there, (two, one): back}
    net = settle.positions(owed)
    payments = settle.payments(net)
    spent = time.process_time() - begun
    assert sum(net.values()) == 0 and len(payments) <= brands - 1
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{transfers} transfers, {brands} brands, {len(books)} pairs, {len(payments)} payments")
    print(f"{spent:.1f} s of processor time, both sides' statements included; {after} MiB at most ({before} before)")
    print(f"yardstick: ten million additions take {yardstick:.2f} s")


if __name__ == "__main__":
    main()
