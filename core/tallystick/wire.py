"""Statements to PostgreSQL through libpq itself: prepared once, as many in one go as wait for each other's answers only.

A batch has some twenty statements.  The driver's cursor takes 60 microseconds of processor time and a round trip for each,
and its own pipeline sends each by itself; here they take 5, and what belongs together waits once.  The connection, its
COMMIT and ROLLBACK, and what its errors are called stay the driver's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg import generators, pq
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGconn, PGresult

from .errors import TallyError

Rows = list[tuple[Any, ...]]
_DONE = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})
#: Texts remembered per connection; those that were sent once only go first.
_REMEMBERED = 300
#: What was prepared is not there, or is there already; of what is there, the plan no longer fits the tables.
_ELSEWHERE, _OUTDATED = frozenset({"26000", "42P05"}), "0A000"


class Prepared:
    """What one connection has prepared.  It lives as long as the connection does."""

    def __init__(self) -> None:
        #: a pooler may lend another server's connection to each transaction, and tables change: then all is sent in full
        self.lasts = True
        self.names: dict[str, bytes] = {}  #: by text; empty while it was sent only once


class _Statement(NamedTuple):
    sql: str
    values: Sequence[bytes | None]
    matched: int = 0  #: how many rows it must match, or
    refusal: TallyError | None = None  #: this is raised


class _Sent(NamedTuple):
    """What an answer is about."""

    statement: _Statement | None = None
    preparing: tuple[str, bytes] | None = None  #: text and name


class Wire:
    """A cursor for one transaction of one connection.

    What is executed inside ``with wire:`` is sent, and waited for at its end.  What :meth:`later` was given goes out with
    whatever is executed next, in front of it.
    """

    def __init__(self, connection: psycopg.Connection[Any], prepared: Prepared) -> None:
        self._connection, self._prepared = connection, prepared
        self._waiting: list[_Statement] = []
        self._sent: list[_Sent] = []
        self._preparing: set[str] = set()  # in this go
        self._gathering = False
        self._result: PGresult | None = None
        self._row = 0

    # -- as the driver's cursor -------------------------------------------------------------------------------------

    @property
    def rowcount(self) -> int:
        """How many rows the last statement matched."""
        found = self._result.command_tuples if self._result is not None else None
        return -1 if found is None else found

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Send a statement."""
        self.later(sql, parameters)
        self._send()

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Send the same statement for each of *rows*, in one go."""
        for row in rows:
            self.later(sql, row)
        self._send()

    def demand(self, sql: str, parameters: Sequence[Any], matched: int, refusal: TallyError) -> None:
        """Send a statement; *refusal* is raised with its answer if it matched another number of rows."""
        self._waiting.append(_Statement(sql, [_text(value) for value in parameters], matched, refusal))
        self._send()

    def fetchall(self) -> Rows:
        """Rows of the last statement that were not fetched yet."""
        result, first = self._result, self._row
        if result is None or first >= result.ntuples:
            return []
        self._row = result.ntuples
        read = Transformer(self._connection)
        read.set_pgresult(result)
        return read.load_rows(first, self._row, tuple)

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row of the last statement."""
        result = self._result
        if result is None or self._row >= result.ntuples:
            return None
        self._row += 1
        read = Transformer(self._connection)
        read.set_pgresult(result)
        return read.load_rows(self._row - 1, self._row, tuple)[0]

    # -- several in one go ------------------------------------------------------------------------------------------

    def later(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Send a statement in front of the next one."""
        self._waiting.append(_Statement(sql, [_text(value) for value in parameters]))

    def __enter__(self) -> Wire:
        self._gathering = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._gathering = False
        if kind is None:
            self._wait()
        else:  # its transaction will be rolled back: what became of these matters to nobody
            with suppress(psycopg.Error, TallyError):
                self._wait()

    def _send(self) -> None:
        pg, names, sent = self._connection.pgconn, self._prepared.names, self._sent
        if not sent:
            pg.enter_pipeline_mode()
            if pg.transaction_status == pq.TransactionStatus.IDLE and not self._connection.autocommit:
                pg.send_query_params(_begin(self._connection), None)
                sent.append(_Sent())
        for statement in self._waiting:
            name = names.get(statement.sql)
            if not self._prepared.lasts:
                pg.send_query_params(_numbered(statement.sql), statement.values)
            elif name is None:
                if len(names) >= _REMEMBERED:
                    self._prepared.names = names = {sql: name for sql, name in names.items() if name}
                names[statement.sql] = b""
                pg.send_query_params(_numbered(statement.sql), statement.values)
            else:
                if not name and statement.sql not in self._preparing:
                    self._preparing.add(statement.sql)
                    name = _name(statement.sql)
                    pg.send_prepare(name, _numbered(statement.sql))
                    sent.append(_Sent(preparing=(statement.sql, name)))
                pg.send_query_prepared(name or _name(statement.sql), statement.values)
            sent.append(_Sent(statement))
        self._waiting = []
        if not self._gathering:
            self._wait()

    def _wait(self) -> None:
        """Wait for all answers.  Raises the driver's error for the first statement that failed, else the first refusal."""
        sent, self._sent, self._result, self._row = self._sent, [], None, 0
        if not sent:
            return
        self._preparing.clear()
        pg = self._connection.pgconn
        try:
            pg.pipeline_sync()
            results = self._connection.wait(_answers(pg, len(sent)))
            pg.exit_pipeline_mode()
        except BaseException:
            self._connection.close()  # answers may be under way still, and must not be taken for another's
            raise
        for result, one in zip(results, sent, strict=True):
            if result.status not in _DONE:
                raise self._understood(error_from_result(result), one)
            if one.preparing is not None:
                self._prepared.names[one.preparing[0]] = one.preparing[1]
        for result, one in zip(results, sent, strict=True):
            asked = one.statement
            if asked is not None and asked.refusal is not None and result.command_tuples != asked.matched:
                raise asked.refusal
        self._result = results[-1]

    def _understood(self, error: psycopg.Error, one: _Sent) -> psycopg.Error:
        """*error*, or that the transaction has to be run again because what was prepared is not what it was."""
        prepared = one.statement is not None and self._prepared.names.get(one.statement.sql)
        if error.sqlstate in _ELSEWHERE or (error.sqlstate == _OUTDATED and prepared):
            self._prepared.lasts = False
            again = psycopg.OperationalError("what this connection had prepared is no longer there")
            again.__cause__ = error
            return again
        return error


def _answers(pg: PGconn, expected: int) -> PQGen[list[PGresult]]:
    """What the driver waits with: the results of *expected* statements, and the end of the go."""
    yield from generators.send(pg)
    results: list[PGresult] = []
    while len(results) < expected:
        found = yield from generators.fetch_many(pg)
        if not found:
            raise psycopg.OperationalError("the connection is lost")
        results += found
    yield from generators.fetch_many(pg)
    return results


def _begin(connection: psycopg.Connection[Any]) -> bytes:
    level = connection.isolation_level
    isolation = f" ISOLATION LEVEL {level.name.replace('_', ' ')}" if level is not None else ""
    return f"BEGIN{isolation}{' READ ONLY' if connection.read_only else ''}".encode()


@lru_cache(maxsize=512)
def _numbered(sql: str) -> bytes:
    """*sql* with its parameters as the server counts them."""
    first, *rest = sql.split("%s")
    return (first + "".join(f"${n}{part}" for n, part in enumerate(rest, 1))).replace("%%", "%").encode()


def _name(sql: str) -> bytes:
    """What *sql* is prepared under: never another text's name, not even where a pooler mixes several processes' names."""
    return f"tally_{hashlib.sha256(sql.encode()).hexdigest()[:32]}".encode()


def _text(value: str | int | bytes | None) -> bytes | None:
    """*value* as the server reads it; its type is what the statement says."""
    match value:
        case str():
            if "\0" in value:
                raise psycopg.DataError("text cannot hold NUL")
            return value.encode()
        case int():
            return b"%d" % value
        case bytes():
            return b"\\x" + value.hex().encode()
        case None:
            return None
    raise TypeError(f"{type(value).__name__} is nothing a statement takes")
