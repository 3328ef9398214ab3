"""Large books are looked at by a crew: a process for each processor, each at some pieces, all at the same instant.

Every process has a snapshot of its own and says how far each writer had come in it.  Only when all say the same do they
begin: whatever a :mod:`~tallystick.glance` adds up changes with a batch alone.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Lock
from typing import Any, Final

import sqlalchemy as sa

from . import database
from .glance import UNREADABLE, Differs, Glance, Piece, Seen, ends, pieces
from .later import module_path
from .leaves import Terms, stream
from .ledger import Head

#: Fewer entries are looked at before others would have started.
LARGE: Final = 50_000
#: Each takes some 60 MiB, and all that a year of a supermarket holds in memory is to stay below 500.
MOST: Final = 4
#: Entries of a piece; who is done with one takes the next.
PIECE: Final = 10_000
#: How often all may look before it is given up that they see the same.
TRIES: Final = 50


def look(
    conn: sa.Connection,
    tenant: str | None,
    expected: Mapping[int, Head],
    progress: Callable[[int], object] | None,
) -> Seen | None:
    """What is there, if all of it is as the journal has it; None if anything is not, or cannot be read.

    If *conn* only looks, and there are more than :data:`LARGE` entries, a crew looks for it, at the instant at which it is
    there.
    """
    try:
        far = ends(conn)
        if any(far.get(writer, 0) < head.number for writer, head in expected.items()):
            return None
        hands = min(os.cpu_count() or 1, MOST)
        if hands > 1 and database.only_looks(conn) and conn.engine.url.database not in (None, "", ":memory:"):
            (entries,) = next(stream(conn, "SELECT sum(count) FROM batch"))
            if (entries or 0) > LARGE:
                with suppress(_Alone):
                    return _together(conn, hands, int(entries), tenant, expected, progress)
        secret = secrets.token_hex(8), secrets.randbits(60)
        glance = Glance(conn, tenant, *secret, expected, progress)
        for piece in pieces(far, 1):
            glance.take(piece)
        return _add_up([(glance.seen, glance.totals)])
    except (Differs, *UNREADABLE):
        return None


def _add_up(found: Iterable[tuple[Seen, Mapping[str, int]]]) -> Seen:
    batches = entries = transfers = 0
    sums: dict[tuple[str, str, str], int] = {}
    terms: dict[Terms, int] = {}
    left: dict[str, int] = {}
    for seen, totals in found:
        batches, entries, transfers = batches + seen.batches, entries + seen.entries, transfers + seen.transfers
        for key, amount in seen.sums.items():
            sums[key] = sums.get(key, 0) + amount
        for each, entry in seen.terms.items():
            terms[each] = min(entry, terms.get(each, entry))
        for what, total in totals.items():
            left[what] = left.get(what, 0) + total
    if any(left.values()):
        raise Differs
    return Seen(batches, entries, transfers, sums, terms)


class _Alone(Exception):
    """There is no crew to be had: it takes longer, and comes to the same."""


# --- whoever asks ----------------------------------------------------------------------------------------------------


def _together(
    conn: sa.Connection,
    hands: int,
    entries: int,
    tenant: str | None,
    expected: Mapping[int, Head],
    progress: Callable[[int], object] | None,
) -> Seen:
    task = {
        "books": conn.engine.url.render_as_string(hide_password=False),
        "tenant": tenant,
        "word": secrets.token_hex(8),
        "number": secrets.randbits(60),
        "expected": [[head.writer, head.number, head.chain.hex()] for head in expected.values()],
    }
    environ = os.environ | {
        "PYTHONPATH": module_path(),
        "PYTHONHASHSEED": str(secrets.randbelow(1 << 32)),  # they must hash alike: what one adds another takes away
    }
    done, lock = 0, Lock()

    def told(entries: int) -> None:
        nonlocal done
        with lock:
            done += entries
            if progress is not None:
                progress(done)

    with ExitStack() as stack, ThreadPoolExecutor(hands) as pool:
        crew = [stack.enter_context(_Hand(task, environ)) for _ in range(hands)]
        for _ in range(TRIES):
            far = list(pool.map(_Hand.look, crew))
            if all(each == far[0] for each in far):
                break
        else:
            raise _Alone
        todo = deque(pieces(far[0], max(4 * hands, entries // PIECE)))
        try:
            return _add_up(pool.map(lambda hand: hand.work(todo, told), crew))
        finally:
            todo.clear()  # where something differs, nobody begins another piece


class _Hand:
    """A process of the crew."""

    def __init__(self, task: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tallystick.crew import main; main()"],
            env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._send(task)

    def __enter__(self) -> _Hand:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with suppress(BrokenPipeError), self._process:  # which closes the pipes, and waits
            pass

    def look(self) -> dict[int, int]:
        """How far the writers have come at the instant that it sees now."""
        return dict(self._ask("look"))

    def work(self, todo: deque[Piece], told: Callable[[int], None]) -> tuple[Seen, Mapping[str, int]]:
        """Take pieces while there are any; what it saw, and what these come to."""
        with suppress(IndexError):
            while True:
                told(self._ask(todo.popleft()))
        *counts, sums, terms, totals = self._ask("end")
        return Seen(*counts, *({tuple(key): n for key, n in each} for each in (sums, terms))), totals

    def _ask(self, what: object) -> Any:
        self._send(what)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise _Alone
        answer = json.loads(said)  # sums outgrow what msgspec takes for a whole number
        if answer is None:
            raise Differs
        return answer

    def _send(self, what: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is noticed when it does not answer
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()


# --- a process of the crew -------------------------------------------------------------------------------------------


def main() -> None:
    """Do what standard input asks for, a line at a time, and answer on standard output; null where something differs."""
    gc.disable()  # nothing here refers back to itself, and looking whether it does is a quarter of the time
    task = json.loads(sys.stdin.readline())
    expected = {
        writer: Head(writer=writer, number=n, chain=bytes.fromhex(chain)) for writer, n, chain in task["expected"]
    }
    engine = database.connect(task["books"], pool_size=1)
    with ExitStack() as looking:
        for line in sys.stdin:
            asked = json.loads(line)
            answer: Any
            if asked == "look":
                looking.close()
                conn = looking.enter_context(database.reading(engine))
                if conn.dialect.name == "sqlite":  # a page is read once, and need not be kept
                    conn.exec_driver_sql("PRAGMA cache_size = -2048")
                glance = Glance(conn, task["tenant"], task["word"], task["number"], expected)
                answer = [*ends(conn).items()]
            elif asked == "end":
                *counts, sums, terms = glance.seen
                answer = [*counts, [*sums.items()], [*terms.items()], glance.totals]
            else:
                before = glance.seen.entries
                try:
                    glance.take(Piece(*asked))
                    answer = glance.seen.entries - before
                except (Differs, *UNREADABLE):
                    answer = None
            print(json.dumps(answer), flush=True)  # noqa: T201 - the answer
