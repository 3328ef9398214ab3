"""Conversions between two brands of a house, and the settlement of a month between fifty, on a real house and a SQLite file.

``python bench/coalition.py conversions [transfers] [at once]`` converts points of as many members: processor microseconds
for each, with everything that follows, beside what the machine can do: durable writes a second, and additions.

``python bench/coalition.py settlement [transfers] [brands]`` closes, compares, signs and keeps a month of transfers that lie in
both sides' books in the database: seconds, and the largest memory.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tallystick import config, discovery, house, people
from tallystick.document import Document
from tallystick.intake import read_document
from tallystick.ledger import instant, member_name
from tallystick_coalition import agreement as agreements
from tallystick_coalition import tables
from tallystick_coalition.agreement import Agreement, Flow
from tallystick_coalition.convoy import Note, Wish, send_many
from tallystick_coalition.desk import Desk, partner_of
from tallystick_coalition.exchange import Done
from tallystick_coalition.settlement import desks_of, settle_period

NOW = datetime(2026, 7, 3, 12, tzinfo=UTC)
PERIOD = "2026-06"


def key_of(brand: str) -> str:
    return agreements.new_key(sha256(f"bench/{brand}".encode()).digest())


@contextmanager
def town(folder: Path, brands: Sequence[str]) -> Iterator[house.House]:
    """A house whose tenants are brands that are all partners of one another."""
    text = f'[house]\ndatabase = "sqlite:///{folder / "tally.db"}"\n'
    for brand in brands:
        (folder / f"{brand}.key").write_text(key_of(brand))
        text += (
            f'\n[tenants.{brand}]\nname = "{brand}"\nzone = "UTC"\ncurrency = "USD"\n[tenants.{brand}.plugins.points]\n'
        )
        text += f'[tenants.{brand}.plugins.coalition]\nkey = {{ file = "{brand}.key" }}\nunit_cost = "1/2"\n'
        text += "".join(
            f'[tenants.{brand}.plugins.coalition.partners.{other}]\ntenant = "{other}"\n'
            for other in brands
            if other != brand
        )
    file = folder / "tally.toml"
    file.write_text(text)
    installed = discovery.discover()
    checked = config.check(Document.read(file), installed=installed, folder=folder)
    house.prepare(checked, installed=installed)
    built = house.build_house(checked, installed=installed, clock=lambda: instant(NOW))
    try:
        yield built
    finally:
        built.close()


def desk_of(built: house.House, brand: str) -> Desk:
    return Desk(built.errand("coalition", brand, "bench"))


def agree(built: house.House, brands: Sequence[str]) -> None:
    """Every two brands sign an agreement."""
    notes: dict[str, list[Note]] = {brand: [] for brand in brands}
    for one, two in combinations(sorted(brands), 2):
        agreed = Agreement(
            format="tallystick-agreement/1", name=f"{one}-{two}", version=1, brands=(one, two), currency="USD",
            keys={brand: (agreements.public_key(key_of(brand)),) for brand in (one, two)}, since=datetime(2026, 1, 1, tzinfo=UTC),
            flows=(Flow(kind="convert", source=one, target=two, rate="2/3", price="1/2"),),
        )  # fmt: skip
        text = agreements.canonical(agreed)
        said = {brand: agreements.sign(key_of(brand), agreements.PURPOSE, text.encode()) for brand in (one, two)}
        for brand, partner in ((one, two), (two, one)):
            data = {"partner": partner, "text": text, "signatures": said}
            notes[brand].append(Note("coalition.agreed", agreed.label, NOW, 0, data))
    for brand, some in notes.items():
        record(desk_of(built, brand), some)


def record(desk: Desk, notes: Sequence[Note]) -> None:
    for told in desk.record_many(notes):
        if isinstance(told, Exception):
            raise told


def yardsticks(folder: Path) -> str:
    begun = time.process_time()
    sum(range(10_000_000))
    additions = time.process_time() - begun
    begun, count = time.perf_counter(), 100
    with (folder / "yardstick").open("wb") as file:
        for _ in range(count):
            file.write(b"x" * 4_096)
            file.flush()
            os.fdatasync(file.fileno())
    written = count / (time.perf_counter() - begun)
    return f"yardstick: {written:,.0f} durable writes (fdatasync) a second; ten million additions take {additions:.2f} s of processor time"


# --- conversions -----------------------------------------------------------------------------------------------------


def conversions(transfers: int, at_once: int) -> None:
    with tempfile.TemporaryDirectory() as name, town(Path(name), ("fuel", "grocer")) as built:
        agree(built, ("fuel", "grocer"))
        members = _members(built, transfers)
        desk = desk_of(built, "fuel")
        way = partner_of(desk, "grocer")
        wishes = [Wish(transfer=f"bench-{n:08d}", amount=100, member=member) for n, member in enumerate(members)]
        print(yardsticks(Path(name)))
        built.relay()
        begun, cpu = time.perf_counter(), time.process_time()
        ended: list[Any] = []
        for start in range(0, transfers, at_once):
            ended += send_many(desk, way, wishes[start : start + at_once])
        done, spent = time.perf_counter() - begun, time.process_time() - cpu
        built.relay()
        after = time.process_time() - cpu - spent
        assert all(isinstance(each, Done) and each.state == "confirmed" for each in ended)
    print(f"{transfers} conversions, {at_once} at once: {transfers / done:,.0f} a second")
    print(
        f"{spent / transfers * 1e6:,.0f} processor microseconds each, and {after / transfers * 1e6:,.0f} for the books behind them"
    )


def _members(built: house.House, count: int) -> list[int]:
    """As many members of both brands, linked, with points at the first."""
    at, names = instant(NOW), [f"member-{n}" for n in range(count)]
    numbers: dict[str, list[int]] = {}
    for brand in ("fuel", "grocer"):
        with built.db.begin() as conn:
            new = [people.Newcomer(external_ids=(name,), joined=at) for name in names]
            people.enrol_many(conn, built.secret, brand, at, new)
            found = people.find(conn, built.secret, brand, names)
        numbers[brand] = [found[name].number for name in names]
    given = [
        {
            "id": f"given-{n}", "source": "bench", "type": "points.adjusted", "time": NOW.isoformat(), "member": member_name(number),
            "data": {"points": 1_000, "reason": "bench", "by": "bench"},
        }
        for n, number in enumerate(numbers["fuel"])
    ]  # fmt: skip
    kinds = built.kinds("fuel")
    built.record([read_document(one, tenant="fuel", kinds=kinds, received=NOW, actor="bench") for one in given])
    codes = [desk_of(built, "fuel").alias("grocer", number) for number in numbers["fuel"]]
    for brand, partner in (("fuel", "grocer"), ("grocer", "fuel")):
        pairs = zip(numbers[brand], codes, strict=True)
        record(
            desk_of(built, brand),
            [
                Note(
                    "coalition.consented", f"link-{n}", NOW, number, {"partner": partner, "alias": code, "given": True}
                )
                for n, (number, code) in enumerate(pairs)
            ],
        )
    return numbers["fuel"]


# --- settlement ------------------------------------------------------------------------------------------------------


def settlement(transfers: int, brands: int) -> None:
    names = [f"brand-{number:02d}" for number in range(brands)]
    with tempfile.TemporaryDirectory() as name, town(Path(name), names) as built:
        agree(built, names)
        built.relay()
        _fill(built.db, transfers, names)
        print(yardsticks(Path(name)))
        desks = desks_of(built.errand("coalition", names[0], "bench"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        begun, cpu = time.perf_counter(), time.process_time()
        settled = settle_period(desks, PERIOD, "USD")
        done, spent = time.perf_counter() - begun, time.process_time() - cpu
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        assert sum(pair.entries for pair in settled.pairs) == transfers
        assert all(pair.state == "agreed" and pair.signed for pair in settled.pairs)
        assert sum(settled.positions.values()) == 0 and len(settled.payments) <= brands - 1
    print(
        f"{transfers} transfers, {brands} brands, {len(settled.pairs)} pairs, {len(settled.payments)} payments; both sides' books"
    )
    print(f"{done:.1f} s, of which {spent:.1f} s of processor time; {after} MiB at most ({before} before)")


def _fill(db: sa.Engine, transfers: int, names: Sequence[str]) -> None:
    """What the month's transfers left in both sides' books."""
    pairs, kinds = list(combinations(names, 2)), ("convert", "redeem", "earn")
    with db.begin() as conn:
        cursor: Any = conn.connection.cursor()
        columns = [column.name for column in tables.entry.columns]
        insert = f"INSERT INTO coalition_entry ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        for start in range(0, transfers, 50_000):
            rows = []
            for n in range(start, min(start + 50_000, transfers)):
                pair = pairs[n * 7_919 % len(pairs)]
                source, target = pair if n % 3 else pair[::-1]
                amount = 1 + n * 104_729 % 5_000
                transfer = f"{n * 2_654_435_761 % 2**40:012x}"
                for tenant, partner in (pair, pair[::-1]):
                    rows.append(
                        (
                            tenant, partner, PERIOD, transfer, 0, kinds[n % 3], source, target, amount, amount * 2 // 3,
                            amount // 2, f"{pair[0]}-{pair[1]}/1", "1-1-0", 0,
                        )
                    )  # fmt: skip
            cursor.executemany(insert, rows)


def main() -> None:
    """Run what is asked for, or both."""
    what, *numbers = sys.argv[1:] or ["both"]
    given = [int(number) for number in numbers]
    if what in ("both", "conversions"):
        conversions(*[*given, *(5_000, 500)[len(given) :]])
    if what in ("both", "settlement"):
        settlement(*[*given, *(1_000_000, 50)[len(given) :]])


if __name__ == "__main__":
    main()
