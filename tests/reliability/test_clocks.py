"""The wall clock of a serving house is set forth and back: nothing expires twice, early or never, and order is by sequence (I17,
I19, S11).
"""

import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from tallystick import tables
from tallystick.ledger import EXPIRED, instant, parse_entry
from tests.reliability.served import Nursery, Server, Shop, Till, at_work, drain, settled, wait_until

JUMPS = int(os.environ.get("TALLY_JUMPS", "4"))
#: An hour is left out at night and one comes twice, a year ends, a leap day comes; by an hour, a day and a year backwards.
DAYS = (
    datetime(2027, 3, 26, 12, tzinfo=UTC),
    datetime(2027, 3, 26, 11, tzinfo=UTC),
    datetime(2027, 3, 28, 0, 59, 59, tzinfo=UTC),
    datetime(2027, 10, 31, 0, 59, 59, tzinfo=UTC),
    datetime(2027, 12, 31, 22, 59, 59, tzinfo=UTC),
    datetime(2028, 2, 29, 22, 59, 59, tzinfo=UTC),
    datetime(2028, 2, 28, 23, tzinfo=UTC),
    datetime(2028, 2, 29, 22, tzinfo=UTC),
    datetime(2028, 3, 1, 21, tzinfo=UTC),
    datetime(2028, 3, 2, 20, tzinfo=UTC),
    datetime(2029, 2, 28, 12, tzinfo=UTC),
    datetime(2028, 3, 3, 12, tzinfo=UTC),
)
END = datetime(2031, 1, 1, tzinfo=UTC)
EXPIRY = '[tenants.shop.plugins.points.expiry]\npolicy = "rolling"\nafter = "P2D"\n'


class Clock:
    """What the house takes for now: so far from the truth as a file says."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(DAYS[0])

    def set(self, when: datetime) -> None:
        self.away = when - datetime.now(UTC)
        fresh = self.file.with_suffix(".part")
        fresh.write_text(f"{self.away.total_seconds():+.6f}\n")
        fresh.replace(self.file)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.away


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def nursery(clock: Clock, debian_tool: Callable[[str, str], str]) -> Iterator[Nursery]:
    debian_tool("faketime", "faketime")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    made = Nursery(
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(clock.file),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    yield made
    made.close()


def test_clocks_that_jump_expire_nothing_twice_early_or_never(
    nursery: Nursery, clock: Clock, database_url: str, tmp_path: Path
) -> None:
    shop = Shop(tmp_path, database_url, ["m0", "m1", "m2"], more=EXPIRY)
    tills = [Till(shop, number, now=clock.now) for number in range(4)]
    chance = random.Random(3)
    server = Server(nursery, shop.folder, workers=1)
    shop.join(server.port, clock.now())
    jumps = [*DAYS[1:], *[DAYS[0] + timedelta(hours=chance.randrange(24 * 900)) for _ in range(JUMPS)]]
    with at_work(tills, server.port):
        for when in jumps:
            heard = [len(till.answered) for till in tills]
            wait_until(lambda heard=heard: all(len(t.answered) > n + 4 for t, n in zip(tills, heard, strict=True)))  # type: ignore[misc]
            clock.set(when)
    clock.set(END)
    drain(tills, server.port)
    wait_until(lambda: due(shop) == 0)
    server.stop()
    settled(shop, tills)
    expiries(shop)


def due(shop: Shop) -> int:
    """Lots that should be gone."""
    rows = tables.lot
    with shop.reading() as conn:
        late = sa.select(sa.func.count()).where(rows.c.expires_at <= instant(END), rows.c.remaining > 0)
        return conn.scalar(late) or 0


def expiries(shop: Shop) -> None:
    """Until its time a lot may be used, and from then on it only expires; that nothing is used twice was proved before."""
    ends: dict[str, int] = {}
    records = sorted(shop.records(""), key=lambda record: parse_entry(record.entry) or 0)
    assert any(later.received < earlier.received for earlier, later in pairwise(records)), "no clock was ever set back"
    for record in records:
        ends |= {lot.lot: lot.expires_at for lot in record.lots}
        for transfer in record.transfers:
            if transfer.lot and transfer.debit.startswith("m-"):
                assert (record.received >= ends[transfer.lot]) == (transfer.credit == EXPIRED), (record.entry, transfer)
    assert EXPIRED in {transfer.credit for record in records for transfer in record.transfers}
