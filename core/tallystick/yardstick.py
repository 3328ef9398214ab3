"""How fast this house is on this machine, each figure beside a yardstick of the same minute: `tally bench`.

A figure alone says little: machines differ by more than programs.  So each rate stands beside how often the disk (or the
database server) can commit in the same minute, and CPU times beside a fixed piece of Python.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from . import people, proofs
from .engine import Receipt
from .events import Arrival
from .house import House
from .importing import Importer
from .intake import read_event
from .ledger import moment
from .mapping import Item

#: Lines of every purchase of the bench.
LINES = [
    {"sku": "COFFEE-250", "amount": 899, "department": "GROCERY", "category": "COFFEE"},
    {"sku": "MILK-1L", "amount": 258, "quantity": 2, "department": "GROCERY", "category": "MILK"},
    {"sku": "FILTER-100", "amount": 349, "discount": 50, "department": "HOUSEHOLD"},
]
ROUNDS = 3


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    work: str
    rates: tuple[float, ...]  #: per second, one per round
    yardsticks: tuple[float, ...]  #: commits per second, measured right before each round
    cpu: float = 0.0  #: microseconds of processor time per piece of work; 0 where it was not measured
    more: str = ""  #: latencies and the like

    @property
    def ratio(self) -> float:
        """The median rate in yardsticks."""
        return statistics.median(self.rates) / (statistics.median(self.yardsticks) or 1)


class Bench:
    """Measures one house, in a folder and a database of its own."""

    def __init__(self, built: House, tenant: str, *, events: int) -> None:
        """*events* is the size of a round in process; rounds over HTTP take a tenth."""
        self.house, self.tenant, self.events = built, tenant, events
        self.folder = built.config.house.data_dir
        self._run = 0
        with built.db.begin() as conn:
            newcomers = [people.Newcomer(external_ids=(f"bench-{n}",), joined=built.clock()) for n in range(200)]
            self.members = people.enrol_many(conn, built.secret, tenant, built.clock(), newcomers)

    # -- yardsticks -------------------------------------------------------------------------------------------------

    def commits(self, seconds: float = 0.5) -> float:
        """How often a second one small commit lasts: fdatasync of a page on SQLite, a one-row transaction on PostgreSQL."""
        return (
            fdatasyncs(self.folder, seconds)
            if self.house.db.dialect.name == "sqlite"
            else _transactions(self.house.db, seconds)
        )

    # -- work ---------------------------------------------------------------------------------------------------------

    def bodies(self, count: int, member: str = "") -> Iterator[bytes]:
        """Purchases nobody has sent yet, spread over all members or of one."""
        self._run += 1
        at = moment(self.house.clock()).isoformat()
        for n in range(count):
            name = f"{self._run}-{n}"
            data = {"order": name, "currency": self.house.config.tenants[self.tenant].currency, "lines": LINES}
            yield msgspec.json.encode(
                {
                    "id": name, "source": "bench", "type": "purchase.completed", "time": at,
                    "member": member or f"bench-{n % 200}", "data": data,
                }
            )  # fmt: skip

    def arrivals(self, count: int) -> list[Arrival]:
        """The same, through the door already."""
        kinds, received = self.house.kinds(self.tenant), moment(self.house.clock())
        return [read_event(body, tenant=self.tenant, kinds=kinds, received=received) for body in self.bodies(count)]

    def in_process(self, batch: int) -> Figure:
        """Durable recording without HTTP, *batch* events to a commit."""

        def work() -> int:
            for start in range(0, len(arrivals), batch):
                outcomes = self.house.engine.record(arrivals[start : start + batch])
                assert all(isinstance(outcome, Receipt) for outcome in outcomes), outcomes[0]
            return len(arrivals)

        def prepare() -> None:
            arrivals[:] = self.arrivals(self.events)

        arrivals: list[Arrival] = []
        return self._measure(f"in process, batches of {batch:,}", work, prepare)

    def bulk(self) -> Figure:
        """A file of events, as `tally import` reads it."""

        def work() -> int:
            items = [Item(row, self.house.clock(), body, None) for row, body in enumerate(bodies, 1)]
            return Importer(self.house, self.tenant, actor="bench").run(iter(items)).recorded

        def prepare() -> None:
            bodies[:] = self.bodies(self.events)

        bodies: list[bytes] = []
        return self._measure("bulk file (JSONL), full double entry", work, prepare)

    def verification(self) -> Figure:
        """`tally verify` over what was written so far; per transfer."""

        def work() -> int:
            with self.house.reading() as conn:
                report = proofs.verify(conn)
            assert report.ok, report.findings[:1]
            return report.transfers

        return self._measure("verify, transfers", work)

    def over_http(self, clients: int, url: tuple[str, int], key: str, *, pid: int = 0, one: bool = False) -> Figure:
        """Durable earning through the server at *url* with *clients* at once, of all members or of *one*."""
        latencies: list[float] = []
        used = 0.0
        count = max(clients * 4, self.events // 10) if clients > 1 else max(50, self.events // 50)

        def work() -> int:
            nonlocal used
            before = _cpu_of(pid)
            latencies.extend(asyncio.run(_load(url, key, [*self.bodies(count, "bench-0" if one else "")], clients)))
            used += _cpu_of(pid) - before
            return count

        asyncio.run(_load(url, key, [*self.bodies(100)], clients))  # what happens once is not measured
        figure = self._measure(
            f"HTTP earn, {'one member, ' if one else ''}{clients} client{'s' if clients > 1 else ''}", work
        )
        latencies.sort()
        p50, p99 = (latencies[int(len(latencies) * share)] * 1_000 for share in (0.5, 0.99))
        memory = f", RSS {_memory_of(pid):.0f} MB" if pid else ""
        return msgspec.structs.replace(
            figure,
            cpu=used / (count * ROUNDS) * 1e6 if pid else 0.0,
            more=f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, p99/p50 {p99 / p50:.1f}{memory}",
        )

    def _measure(self, name: str, work: Callable[[], int], prepare: Callable[[], None] = lambda: None) -> Figure:
        rates, yardsticks, cpu, total = [], [], 0.0, 0
        for _ in range(ROUNDS):
            prepare()
            gc.collect()
            yardsticks.append(self.commits())
            wall, used = time.perf_counter(), _cpu()
            done = work()
            cpu += _cpu() - used
            rates.append(done / (time.perf_counter() - wall))
            total += done
        return Figure(work=name, rates=tuple(rates), yardsticks=tuple(yardsticks), cpu=cpu / total * 1e6)


def fdatasyncs(folder: Path, seconds: float) -> float:
    """How often a second a page can be appended to a file in *folder* and be on the disk."""
    name = folder / "yardstick"
    file = os.open(name, os.O_CREAT | os.O_WRONLY)
    sync = getattr(os, "fdatasync", os.fsync)
    try:
        start, times = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            os.write(file, b"x" * 4_096)
            sync(file)
            times += 1
        return times / (time.perf_counter() - start)
    finally:
        os.close(file)
        name.unlink()


def _transactions(db: Any, seconds: float) -> float:
    with db.connect() as conn:
        driver = conn.connection.driver_connection
        with driver.cursor() as cur:
            cur.execute("CREATE TABLE IF NOT EXISTS yardstick (n bigint)")
            driver.commit()
            start, times = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                cur.execute("INSERT INTO yardstick VALUES (1)")
                driver.commit()
                times += 1
            rate = times / (time.perf_counter() - start)
            cur.execute("DROP TABLE yardstick")
            driver.commit()
    return rate


def python_speed() -> float:
    """Milliseconds of processor time for a million additions: CPU figures of two machines compare by it."""
    start, total = time.process_time(), 0
    for n in range(1_000_000):
        total += n
    return (time.process_time() - start) * 1_000


# --- the server under load -------------------------------------------------------------------------------------------


async def _load(url: tuple[str, int], key: str, bodies: Sequence[bytes], clients: int) -> list[float]:
    todo = iter(bodies)
    latencies: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection(*url)
        head = f"POST /v1/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: "
        for body in todo:
            started = time.perf_counter()
            writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            said = await reader.readexactly(length)
            assert answer[9:12] == b"200", said
            latencies.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return latencies


def _cpu_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu() -> float:
    """Processor seconds of this process and of those it had to help it."""
    return time.process_time() + sum(os.times()[2:4])


def _memory_of(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return int(status.partition("VmRSS:")[2].split()[0]) / 1_024


class Server:
    """`tally serve` as a process of its own; its port is found in what it says first."""

    def __init__(self, config: Path, environ: Mapping[str, str]) -> None:
        words = ["serve", "--port", "0", "--workers", "1", "--config", str(config)]
        self.process = subprocess.Popen(  # noqa: S603  our own command
            [sys.executable, "-m", "tallystick", *words],
            env={**environ, "LANG": "C"},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = next((line for line in self.process.stderr if "http://" in line), "")
        self.url = ("127.0.0.1", int(line.rpartition(";")[0].rpartition(":")[2]))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


# --- the table -------------------------------------------------------------------------------------------------------


class Cells(NamedTuple):
    """A row as it is printed."""

    work: str
    rate: str
    yardstick: str
    ratio: str
    cpu: str
    more: str


def cells(figure: Figure) -> Cells:
    """Rates as minimum / median / maximum of the rounds."""
    low, middle, high = min(figure.rates), statistics.median(figure.rates), max(figure.rates)
    return Cells(
        figure.work,
        f"{low:,.0f} / {middle:,.0f} / {high:,.0f}",
        f"{statistics.median(figure.yardsticks):,.0f}",
        f"{figure.ratio:.2f}",
        f"{figure.cpu:.0f}" if figure.cpu else "",
        figure.more,
    )


def table(figures: Sequence[Figure], heading: Sequence[str]) -> list[str]:
    """A Markdown table."""
    rows = [tuple(heading), tuple("---" for _ in heading), *(cells(figure) for figure in figures)]
    return [f"| {' | '.join(row)} |" for row in rows]
