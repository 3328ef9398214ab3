"""Large books are looked at by several processes, and what they see is what one sees."""

import os
import sys
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from core.tests.books import TENANT, Books
from tallystick import crew, database, proofs
from tallystick.ledger import Head, chain_hash


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    """Two writers' books."""
    books = Books(database_url)
    books.enrol("ann")
    books.enrol("bob")
    books.wander(7, 60)
    second = books.writer(2)
    for _ in range(9):
        books.record("shop.topped", "ann", engine=second, amount=7)
    yield books
    books.db.dispose()


@pytest.fixture
def crewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is asked looks at nothing himself, however small the books are."""
    monkeypatch.setattr(crew, "LARGE", -1)
    monkeypatch.setattr(crew, "PIECE", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.delattr(crew, "Glance")


def meddle(books: Books, sql: str) -> None:
    with books.db.begin() as conn:
        assert conn.execute(sa.text(sql)).rowcount > 0


def verify(books: Books, **more: object) -> proofs.Report:
    with database.reading(books.db) as conn:
        return proofs.verify(conn, **more)  # type: ignore[arg-type]


@pytest.mark.usefixtures("crewed")
def test_a_crew_sees_what_one_sees(books: Books) -> None:
    seen: list[int] = []
    with database.reading(books.db) as conn:
        kept = proofs.heads(conn)
        report = proofs.verify(conn, TENANT, expected=kept, progress=seen.append)
        alone = proofs._name_what_differs(conn, TENANT, {}, None, proofs._Findings())
    assert report.ok
    assert (report.batches, report.entries, report.transfers) == (alone.batches, alone.entries, alone.transfers)
    assert report.sums == proofs._nested(alone.sums)
    assert seen == sorted(seen)
    assert seen[-1] == report.entries > 50


#: One of each sort of pieces; every edit there is, in pieces of every size, is for tests/reliability/test_tampering.py.
MEDDLING = {
    "a record": ("UPDATE record SET received = received + 1 WHERE entry = (SELECT max(entry) FROM record)", "record"),
    "a record of no batch": (
        """INSERT INTO record SELECT entry + 4096 * 1000, tenant, member, received, body, facts FROM record
           WHERE entry = (SELECT max(entry) FROM record)""",
        "batch",
    ),
    "a lot": ("UPDATE lot SET remaining = remaining + 1", "lot"),
}  # fmt: skip


@pytest.mark.usefixtures("crewed")
@pytest.mark.parametrize("what", MEDDLING)
def test_a_crew_sees_what_was_meddled_with(books: Books, what: str) -> None:
    sql, code = MEDDLING[what]
    meddle(books, sql)
    assert code in {finding.code for finding in verify(books).findings}


@pytest.mark.usefixtures("crewed")
def test_a_crew_looks_at_the_links_between_pieces(books: Books) -> None:
    """Whoever forges a batch with its own chain hash is found by the one after."""
    with books.db.begin() as conn:
        row = conn.execute(sa.text("SELECT root, count FROM batch WHERE writer = 1 AND number = 21")).one()
        forged = chain_hash(b"\x01" * 32, bytes(row.root), 1, 21, row.count)
        conn.execute(
            sa.text("UPDATE batch SET previous = :previous, chain = :chain WHERE writer = 1 AND number = 21"),
            {"previous": b"\x01" * 32, "chain": forged},
        )
    assert "chain" in {finding.code for finding in verify(books).findings}


@pytest.mark.usefixtures("crewed")
def test_a_crew_knows_the_heads_that_were_kept(books: Books) -> None:
    other = Head(writer=1, number=30, chain=b"\x01" * 32)
    assert [finding.code for finding in verify(books, expected=[other]).findings] == ["head"]


@pytest.mark.usefixtures("crewed")
def test_all_of_a_crew_see_the_same_instant(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something was recorded after one had looked and before another did, all look once more."""
    look, alone, far = crew._Hand.look, threading.Lock(), []

    def look_and_buy(hand: crew._Hand) -> dict[int, int]:
        with alone:
            far.append(look(hand))
            if len(far) == 1:
                books.buy("ann", 500)
            return far[-1]

    monkeypatch.setattr(crew._Hand, "look", look_and_buy)
    with database.reading(books.db) as conn:
        assert crew.look(conn, None, {}, None) is not None
    assert far[0] != far[1]
    assert far[-2] == far[-1]


@pytest.mark.parametrize(
    "room, name, trouble",
    [(crew, "TRIES", 0), (sys, "executable", "/bin/false")],
    ids=["no two agree", "it dies"],
)
def test_where_there_is_no_crew_one_looks_alone(
    books: Books, monkeypatch: pytest.MonkeyPatch, room: object, name: str, trouble: object
) -> None:
    monkeypatch.setattr(crew, "LARGE", -1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(room, name, trouble)
    assert verify(books).ok
    meddle(books, "UPDATE lot SET remaining = remaining + 1")
    assert not verify(books).ok


def test_what_is_not_committed_is_nothing_for_a_crew(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others could not see it: who is writing looks alone."""
    monkeypatch.setattr(crew, "LARGE", -1)
    monkeypatch.delattr(crew, "_together")
    with books.db.connect() as conn, conn.begin() as transaction:
        conn.execute(sa.text("UPDATE balance SET posted = posted + 1"))
        assert {finding.code for finding in proofs.verify(conn).findings} == {"balance"}
        transaction.rollback()
