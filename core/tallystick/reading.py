"""A large table is read by a process of its own: its next rows become claims while the last events are recorded.

What comes over is each event's claim in canonical form, made by the code that makes it without this process, and its facts
are decoded from there: that costs an eighth of what it takes to make them of columns.
"""

from __future__ import annotations

import os
import pickle  # noqa: TID251  from the house to its own process, never back
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import attrs
import msgspec

from .errors import InvalidConfig, Problem
from .events import EventKind, Facts
from .intake import claim_of
from .later import module_path
from .ledger import moment
from .mapping import Item, Plain, RowMapping, flaw_at, mark_of

#: A table with fewer rows is read before another process would have started.
LARGE: Final = 50_000
#: Events that come over at once.
FRAME: Final = 250


class _Row(msgspec.Struct, array_like=True):
    """One event on its way: a claim if it is plain, otherwise what the door is to look at."""

    row: int
    time: int | None
    id: str = ""
    member: str = ""
    claim: bytes = b""
    body: bytes = b""
    flaw: str | None = None  #: the mark of what no JSON can say


class _Frame(msgspec.Struct, array_like=True):
    rows: list[_Row]
    error: str = ""


def worthwhile(rows: int) -> bool:
    """Whether a table of so many rows is read faster by a process of its own on this machine."""
    return rows > LARGE and (os.cpu_count() or 1) > 1


# --- the importer's side ---------------------------------------------------------------------------------------------


def read_beside(file: Path, mapping: RowMapping, *, too_long: frozenset[int] = frozenset()) -> Iterator[Item]:
    """The events of *file*, as ``Table(file, mapping).items()`` gives them.  Raises InvalidConfig if the file ends early."""
    facts_of = _facts_of(mapping.kind.facts)
    # of the kind, what makes facts; its words and examples stay here
    kind = EventKind(name=mapping.kind.name, facts=mapping.kind.facts, summary={}, example={})
    recipe = pickle.dumps((file, attrs.evolve(mapping, kind=kind), too_long))
    environ = os.environ | {"PYTHONPATH": module_path()}
    with subprocess.Popen(
        [sys.executable, "-c", "from tallystick.reading import main; main()"],
        env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(recipe)
                process.stdin.close()
            for each in _received(process.stdout):
                if each.claim:
                    plain = Plain(each.id, each.member, facts_of(each.claim), each.claim)
                    yield Item(each.row, each.time, b"", None, plain)
                else:
                    yield Item(each.row, each.time, each.body, None if each.flaw is None else flaw_at(each.flaw))
        finally:
            process.kill()


def _received(pipe: IO[bytes]) -> Iterator[_Row]:
    while True:
        size = int.from_bytes(pipe.read(4), "big")
        frame = _read_frame(pipe.read(size)) if size else _Frame([], "the process that read it has ended")
        if frame.error:
            raise InvalidConfig([Problem(f"the file cannot be read to its end: {frame.error}")])
        if not frame.rows:
            return
        yield from frame.rows


_read_frame = msgspec.msgpack.Decoder(_Frame).decode


def _facts_of(facts: type[Facts]) -> Any:
    decode = msgspec.json.Decoder(msgspec.defstruct("Claimed", [("data", facts)])).decode
    return lambda claim: decode(claim).data  # type: ignore[attr-defined]


# --- the reader's side -----------------------------------------------------------------------------------------------


def main() -> None:
    """Read the table that standard input names, and write its events to standard output."""
    from .tabular import Table

    file, mapping, too_long = pickle.load(sys.stdin.buffer)  # noqa: S301  from the process that started this one
    out = sys.stdout.buffer
    with suppress(BrokenPipeError):  # nobody wants the rest
        try:
            _send(out, _rows(Table(file, mapping, too_long=too_long).items(), mapping))
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001  said where the events are wanted
            _write(out, _Frame([], f"{type(error).__name__}: {error}"[:500]))
        else:
            _write(out, _Frame([]))


def _rows(items: Iterable[Item], mapping: RowMapping) -> Iterator[_Row]:
    source, kind = mapping.source, mapping.kind
    for row, time, body, flaw, plain in items:
        if plain is None or time is None:
            yield _Row(row, time, body=body, flaw=mark_of(flaw))
        else:
            id, member, facts, _ = plain
            yield _Row(
                row, time, id, member, claim_of(facts, id=id, source=source, at=moment(time), member=member, kind=kind)
            )


def _send(out: IO[bytes], rows: Iterator[_Row]) -> None:
    frame: list[_Row] = []
    for row in rows:
        frame.append(row)
        if len(frame) == FRAME:
            _write(out, _Frame(frame))
            frame = []
    if frame:
        _write(out, _Frame(frame))


def _write(out: IO[bytes], frame: _Frame) -> None:
    text = msgspec.msgpack.encode(frame)
    out.write(len(text).to_bytes(4, "big"))
    out.write(text)
    out.flush()
