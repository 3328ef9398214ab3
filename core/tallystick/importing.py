"""Events from files: read, put in order where history is played, and recorded batch by batch through the one door."""

from __future__ import annotations

import codecs
import hashlib
import itertools
import queue
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs
import msgspec

from . import people
from .engine import Outcome, Receipt
from .errors import InvalidConfig, InvalidEvent, Problem, TallyError
from .events import Arrival
from .house import House
from .intake import LIMITS, read_event, take_facts
from .jobs import Turn
from .ledger import instant, moment
from .mapping import Item, RowMapping, flaw_at, mark_of
from .people import Newcomer
from .reading import read_beside, worthwhile

#: Events recorded in one transaction.
BATCH: Final = 2_000
#: Batches that are read, decoded and checked ahead while one is recorded.
AHEAD: Final = 2
#: While a file is put in order, SQLite keeps this many KiB of it in memory.
SORTING: Final = 65_536

_DAY = timedelta(days=1)


@attrs.frozen(kw_only=True)
class Refusal:
    """A row that was refused."""

    row: int
    id: str
    error: TallyError

    def document(self) -> dict[str, Any]:
        """For the report."""
        return {
            "row": self.row,
            "id": self.id,
            "code": self.error.code,
            "pointer": self.error.pointer,
            "detail": self.error.message,
        }


@attrs.define(kw_only=True)
class Tally:
    """What an import has done so far."""

    read: int = 0  #: events taken from the file, those of an interrupted run before included
    recorded: int = 0
    repeated: int = 0
    refused: int = 0
    enrolled: int = 0
    swept: int = 0  #: members from whom something expired as the days went by
    skipped: int = 0  #: done by an interrupted run before


class _Chunk(NamedTuple):
    """A batch, and what became of each of its items at the door."""

    items: list[Item]
    read: list[Arrival | TallyError]


class Importer:
    """Records the events of one source for one tenant."""

    def __init__(
        self,
        house: House,
        tenant: str,
        *,
        mapping: RowMapping | None = None,
        history: bool = False,
        enrol: bool = False,
        actor: str = "import",
        on_refusal: Callable[[Refusal], None] = lambda _: None,
        on_progress: Callable[[Tally], None] = lambda _: None,
    ) -> None:
        """With *history* events are received when they happened, and days end as they did; with *enrol* unknown members join."""
        self.house, self.tenant, self.actor = house, tenant, actor
        self.mapping, self.history, self.enrol = mapping, history, enrol
        self.tally = Tally()
        self._on_refusal, self._on_progress = on_refusal, on_progress
        self._zone = house.config.tenants[tenant].zone
        self._midnight: int | None = None
        self._nightly = [job for job in house.jobs() if history and job.history and job.tenant == tenant]

    def run(self, items: Iterable[Item], *, done: int = 0, checkpoint: Callable[[int], None] = lambda _: None) -> Tally:
        """Record all *items* but the first *done*; after each commit *checkpoint* is told how many are done."""
        self.tally.skipped = self.tally.read = done
        kinds = self.house.kinds(self.tenant)
        for chunk in _ahead(self._prepared(itertools.islice(items, done, None), kinds)):
            last = chunk.items[-1].time
            if self.history and last is not None:
                self._end_days(last)
            self._record(chunk)
            checkpoint(self.tally.read)
            self._on_progress(self.tally)
        return self.tally

    def _batches(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Up to BATCH events; where history is played, of one local day: at midnight what is due expires."""
        batch: list[Item] = []
        midnight = 0
        for item in items:
            if batch and (len(batch) >= BATCH or (self.history and item.time is not None and item.time >= midnight)):
                yield batch
                batch = []
            if self.history and item.time is not None and item.time >= midnight:
                midnight = self._day_after(item.time)
            batch.append(item)
        if batch:
            yield batch

    def _prepared(self, items: Iterable[Item], kinds: Any) -> Iterator[_Chunk]:
        """The batches with everything that can be worked out of them before those ahead of them are written."""
        for batch in self._batches(items):
            received = moment(self.house.clock())
            read: list[Arrival | TallyError] = []
            for item in batch:
                try:
                    read.append(self._read(item, kinds, received))
                except TallyError as error:
                    read.append(error)
            yield _Chunk(batch, read)

    def _record(self, chunk: _Chunk) -> None:
        arrivals: list[Arrival] = []
        places: list[Item] = []
        for item, read in zip(chunk.items, chunk.read, strict=True):
            if isinstance(read, TallyError):
                self._refuse(item, read)
            else:
                arrivals.append(read)
                places.append(item)
        if self.enrol:
            self._enrol(arrivals)
        outcomes = self.house.record(arrivals, history=self.history)
        for item, outcome in zip(places, outcomes, strict=True):
            self._count(item, outcome)
        self.tally.read += len(chunk.items)

    def _read(self, item: Item, kinds: Any, received: datetime) -> Arrival:
        if item.flaw is not None:
            raise item.flaw
        if item.plain is None:
            return read_event(item.body, tenant=self.tenant, kinds=kinds, received=received, actor=self.actor)
        id, member, facts, claim = item.plain
        mapping = self.mapping
        assert mapping is not None
        assert item.time is not None
        return take_facts(
            facts, id=id, source=mapping.source, at=moment(item.time), member=member, tenant=self.tenant, kind=mapping.kind,
            received=received, actor=self.actor, claim=claim,
        )  # fmt: skip

    def _count(self, item: Item, outcome: Outcome) -> None:
        if not isinstance(outcome, Receipt):
            self._refuse(item, outcome)
            return
        if outcome.repeated:
            self.tally.repeated += 1
        else:
            self.tally.recorded += 1

    def _refuse(self, item: Item, error: TallyError) -> None:
        self.tally.refused += 1
        self._on_refusal(
            Refusal(row=item.row, id=item.plain.id if item.plain is not None else _id_of(item.body), error=error)
        )

    def _enrol(self, arrivals: Sequence[Arrival]) -> None:
        """Members nobody knows join when they are first heard of."""
        first: dict[str, datetime] = {}
        for arrival in arrivals:
            if arrival.member and not arrival.early:
                first.setdefault(arrival.member, arrival.at)
        with self.house.db.begin() as conn:
            known = people.find(conn, self.house.secret, self.tenant, first)
            newcomers = [
                Newcomer(external_ids=(reference,), joined=instant(at))
                for reference, at in first.items()
                if reference not in known
            ]
            newcomers = [newcomer for newcomer in newcomers if _acceptable(newcomer)]
            people.enrol_many(conn, self.house.secret, self.tenant, self.house.clock(), newcomers)
            self.tally.enrolled += len(newcomers)

    # -- days -----------------------------------------------------------------------------------------------------------

    def _day_after(self, at: int) -> int:
        """The local midnight that ends the day of *at*."""
        return instant(datetime.combine(moment(at).astimezone(self._zone).date() + _DAY, time(), self._zone))

    def _end_days(self, at: int) -> None:
        """Let every day end that ended before *at*: what was due then expires then, and tiers are reviewed as of then."""
        at = min(at, self.house.clock())  # an event that claims to come from the future is refused and moves no day
        if self._midnight is None:
            self._midnight = self._day_after(at)
        if self._midnight > at:
            return
        if self._nightly or self.house.engine.due(self.tenant, at):
            while self._midnight <= at:
                self.tally.swept += self.house.expire(self.tenant, now=self._midnight, history=True)
                for job in self._nightly:
                    job.run(Turn(job, moment(self._midnight), "", lambda _: None, history=True))
                self._midnight = self._day_after(self._midnight)
        self._midnight = self._day_after(at)


def _acceptable(newcomer: Newcomer) -> bool:
    try:
        people.check_newcomer(newcomer)
    except TallyError:
        return False  # the event will be refused, and say why
    return True


class _Id(msgspec.Struct):
    id: str = ""


_read_id = msgspec.json.Decoder(_Id).decode


def _id_of(body: bytes) -> str:
    try:
        return _read_id(body).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def _ahead(chunks: Iterator[_Chunk]) -> Iterator[_Chunk]:
    """The same chunks, read and taken through the door by another thread while the last ones are recorded."""
    waiting: queue.Queue[_Chunk | BaseException | None] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def put(thing: _Chunk | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(thing, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for chunk in chunks:
                if not put(chunk):
                    return
        except BaseException as error:  # noqa: BLE001  raised again where the batches are wanted
            put(error)
        else:
            put(None)

    reader = threading.Thread(target=read, name="tally-read", daemon=True)
    reader.start()
    try:
        while (chunk := waiting.get()) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk
    finally:
        stopped.set()
        reader.join()


# --- files -----------------------------------------------------------------------------------------------------------


def open_events(file: Path, mapping: RowMapping | None, *, history: bool, workspace: Path) -> Iterator[Item]:
    """The events of *file*; in time order if *history* is to be played, put in order on disk in *workspace* if need be.

    Raises InvalidConfig if the file needs a mapping, or the mapping does not fit it.
    """
    if mapping is None:
        if file.suffix.lower() not in {".jsonl", ".ndjson", ".json"}:
            raise InvalidConfig([Problem(f"{file.name} is a table: say with --mapping how its rows become events")])
        return _lines(file) if not history or _lines_in_order(file) else _sorted(_lines(file), workspace)
    from .tabular import Table

    table = Table(file, mapping)
    if table.in_order() if history else table.together():
        return read_beside(file, mapping, too_long=table.too_long) if worthwhile(table.rows) else table.items()
    return _sorted(_grouped(table, workspace), workspace)


class _Time(msgspec.Struct):
    time: datetime | None = None


_read_time = msgspec.json.Decoder(_Time).decode


def _time_of(body: bytes) -> int | None:
    try:
        at = _read_time(body).time
        return instant(at.astimezone(UTC)) if at is not None and at.tzinfo is not None else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
        return None


def _lines(file: Path) -> Iterator[Item]:
    with file.open("rb") as lines:
        for row, line in enumerate(_bounded(lines), 1):
            body = (line.removeprefix(codecs.BOM_UTF8) if row == 1 else line).strip()
            if body:
                flaw = (
                    InvalidEvent(f"the line is longer than {LIMITS.body} bytes", reason="too_large")
                    if len(body) > LIMITS.body
                    else None
                )
                yield Item(row, _time_of(body), body, flaw)


def _bounded(lines: Any) -> Iterator[bytes]:
    """Lines of which none is held longer than the door would take."""
    while line := lines.readline(LIMITS.body + 2):
        if not line.endswith(b"\n") and len(line) > LIMITS.body:
            while (rest := lines.readline(1 << 20)) and not rest.endswith(b"\n"):
                pass
        yield line


def _lines_in_order(file: Path) -> bool:
    last = 0
    for item in _lines(file):
        if item.time is not None:
            if item.time < last:
                return False
            last = item.time
    return True


# --- order on disk ---------------------------------------------------------------------------------------------------


class _Sorter:
    """Rows in order, whatever their number: a private SQLite file sorts them and is gone afterwards."""

    def __init__(self, workspace: Path, columns: str) -> None:
        workspace.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix="import-", dir=workspace)
        self._conn = sqlite3.connect(Path(self._folder.name) / "rows.db", check_same_thread=False)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE", f"cache_size = -{SORTING}"):
            self._conn.execute(f"PRAGMA {pragma}")
        self._conn.execute(f"CREATE TABLE item ({columns})")
        self._marks = ", ".join("?" * len(columns.split(",")))

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        self._conn.executemany(f"INSERT INTO item VALUES ({self._marks})", rows)  # noqa: S608

    def by(self, order: str) -> Iterator[Any]:
        try:
            yield from self._conn.execute(f"SELECT * FROM item ORDER BY {order}")  # noqa: S608
        finally:
            self._conn.close()
            self._folder.cleanup()


def _sorted(items: Iterable[Item], workspace: Path) -> Iterator[Item]:
    """By time; those without one first, so that they are refused before anything waits for them."""
    sorter = _Sorter(workspace, "row, time, body, flaw")
    for some in _some(items, 10_000):
        sorter.add([(item.row, item.time, item.body, mark_of(item.flaw)) for item in some])
    for row, at, body, flaw in sorter.by("time, row"):
        yield Item(row, at, body, flaw_at(flaw) if flaw is not None else None)


def _grouped(table: Any, workspace: Path) -> Iterator[Item]:
    """Events of rows that are scattered over the file."""
    from .tabular import Piece, join

    sorter = _Sorter(workspace, "grp, row, time, body, flaw")
    for pieces in table.pieces():
        sorter.add(pieces)
    rows = (Piece(*each) for each in sorter.by("grp, row"))
    for _, group in itertools.groupby(rows, key=lambda piece: piece.group):
        pieces = list(group)
        flaw = next((piece.flaw for piece in pieces if piece.flaw), "")
        body = join(pieces, table.mapping.list_name)
        yield Item(pieces[0].row, pieces[0].time, body, flaw_at(flaw) if flaw else None)


def _some(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while some := list(itertools.islice(rest, count)):
        yield some


# --- restart ---------------------------------------------------------------------------------------------------------


class Bookmark:
    """How far an import has come, kept beside the books until it is complete."""

    def __init__(self, folder: Path, file: Path, *about: object) -> None:
        """The same file (by name, size and time of change) read in the same way (*about*) has the same bookmark."""
        stat = file.stat()
        name = hashlib.sha256(repr((str(file.resolve()), stat.st_size, stat.st_mtime_ns, *about)).encode()).hexdigest()[
            :32
        ]
        self._path = folder / "imports" / f"{name}.json"

    def read(self) -> int:
        """How many events are done."""
        return self._said().get("done", 0)

    @property
    def reported(self) -> int | None:
        """How long the report of refused rows was then; None if nobody said."""
        return self._said().get("reported")

    def _said(self) -> dict[str, int]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            return {}

    def write(self, done: int, *, reported: int | None = None) -> None:
        """Remember; what was recorded after the last word is sent again and answers as a repeat."""
        said = {"done": done} if reported is None else {"done": done, "reported": reported}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(said))
        fresh.replace(self._path)

    def remove(self) -> None:
        """The import is complete."""
        self._path.unlink(missing_ok=True)
