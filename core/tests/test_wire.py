"""Statements to PostgreSQL through libpq itself: what goes out together is looked at before anything is committed."""

from collections.abc import Iterator
from typing import Any, cast

import psycopg
import pytest
import sqlalchemy as sa

from core.tests.lab import TENANT, Lab
from tallystick import database
from tallystick.engine import Receipt
from tallystick.errors import OutOfStock
from tallystick.store import Store
from tallystick.wire import Wire

pytestmark = pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    lab = Lab(database_url)
    lab.enrol("ann")
    yield lab
    lab.db.dispose()


def cursor(conn: sa.Connection) -> Wire:
    return cast(Wire, Store("postgresql").cursor(conn))


def shelves(lab: Lab) -> dict[str, int]:
    return dict(lab.rows("SELECT key, remaining FROM stock"))


PUT = "INSERT INTO stock (tenant, key, remaining) VALUES (%s, %s, %s)"
TAKE = "UPDATE stock SET remaining = remaining - %s WHERE tenant = %s AND key = %s AND remaining >= %s"


def test_what_goes_out_together_is_there_when_it_ends(lab: Lab) -> None:
    with lab.db.begin() as conn, cursor(conn) as wire:
        wire.execute(PUT, (TENANT, "cup", 3))
        wire.executemany(PUT, [(TENANT, f"plate {n}", n) for n in range(20)])
        wire.demand(TAKE, (2, TENANT, "cup", 2), 1, OutOfStock("none"))
    assert shelves(lab) == {"cup": 1, **{f"plate {n}": n for n in range(20)}}


def two_takes_too_many(lab: Lab) -> None:
    with lab.db.begin() as conn, cursor(conn) as wire:
        wire.execute(PUT, (TENANT, "cup", 1))
        wire.demand(TAKE, (2, TENANT, "cup", 2), 1, OutOfStock("no cups"))
        wire.execute(PUT, (TENANT, "plate", 1))
        wire.demand(TAKE, (2, TENANT, "plate", 2), 1, OutOfStock("no plates"))


def test_a_refusal_among_what_goes_out_together_is_raised_before_the_commit(lab: Lab) -> None:
    with pytest.raises(OutOfStock, match="no cups"):
        two_takes_too_many(lab)
    assert shelves(lab) == {}


def the_same_twice_and_worse(lab: Lab) -> None:
    with lab.db.begin() as conn, cursor(conn) as wire:
        wire.execute(PUT, (TENANT, "cup", 1))
        wire.execute(PUT, (TENANT, "cup", 2))
        wire.execute("SELECT 1 / 0")


@pytest.mark.parametrize("times", range(4))
def test_the_first_error_is_what_is_raised_and_the_connection_serves_on(lab: Lab, times: int) -> None:
    """However often a statement was sent before: plain, while it is being prepared, and prepared."""
    for n in range(times):
        with lab.db.begin() as conn:
            cursor(conn).execute(PUT, (TENANT, f"plate {n}", n))
    with pytest.raises(psycopg.errors.UniqueViolation):
        the_same_twice_and_worse(lab)
    for n in range(3):
        with lab.db.begin() as conn:
            cursor(conn).execute(PUT, (TENANT, f"spoon {n}", n))
    assert shelves(lab) == {f"{what} {n}": n for what, many in (("plate", times), ("spoon", 3)) for n in range(many)}


def on_every_connection(lab: Lab, *statements: str) -> None:
    """Without any it is as if another process had prepared what is there."""
    lent = [lab.db.raw_connection() for _ in range(lab.db.pool.checkedin())]  # type: ignore[attr-defined]
    for each in lent:
        driver = cast(psycopg.Connection[Any], each.driver_connection)
        driver.autocommit = True  # as a pooler between two transactions
        for statement in statements:
            driver.execute(statement)
        driver.autocommit = False
        if not statements:
            each.info.clear()
        each.close()


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(["DISCARD ALL"], id="gone"),
        pytest.param(["ALTER TABLE lot ALTER part TYPE integer"], id="outdated"),
        pytest.param([], id="there already"),
    ],
)
@pytest.mark.parametrize("times", range(4))
def test_what_is_no_longer_prepared_as_it_was_is_sent_in_full(lab: Lab, statements: list[str], times: int) -> None:
    """A pooler that lends server connections by the transaction, and tables that somebody changed meanwhile."""
    for n in range(times):
        lab.buy("ann", 1_000, f"before {n}")
    on_every_connection(lab, *statements)
    for n in range(4):
        lab.buy("ann", 1_000, f"after {n}")
    lab.check()


def fail_between(lab: Lab) -> None:
    with lab.db.begin() as conn, cursor(conn) as wire:
        wire.execute(PUT, (TENANT, "cup", 1))
        raise ZeroDivisionError


def test_an_exception_of_ours_leaves_nothing_of_what_went_out_before(lab: Lab) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_between(lab)
    with lab.db.begin() as conn:
        cursor(conn).execute(PUT, (TENANT, "plate", 1))
    assert shelves(lab) == {"plate": 1}


def test_a_lock_goes_out_with_what_is_read_behind_it(lab: Lab) -> None:
    with lab.db.begin() as conn:
        wire = cursor(conn)
        wire.later(PUT, (TENANT, "cup", 1))
        wire.execute("SELECT key, remaining FROM stock WHERE tenant = %s", (TENANT,))
        assert wire.fetchall() == [("cup", 1)]
        assert wire.fetchall() == []


def test_who_only_looks_cannot_write_through_the_wire_either(lab: Lab) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), database.reading(lab.db) as conn:
        cursor(conn).execute(PUT, (TENANT, "cup", 1))


def test_who_only_looks_sees_one_instant_through_the_wire_too(lab: Lab) -> None:
    count = "SELECT count(*) FROM stock"
    with database.reading(lab.db) as conn:
        wire = cursor(conn)
        wire.execute(count)
        with lab.db.begin() as other:
            cursor(other).execute(PUT, (TENANT, "cup", 1))
        wire.execute(count)
        assert wire.fetchone() == (0,)


VALUES: dict[str, Any] = {
    "text": "100 % of \\ \" ' {} $1 \N{SNOWMAN}", "nothing": "", "null": None, "number": -(1 << 62), "bytes": bytes(range(256)),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back_as_they_went(lab: Lab, name: str) -> None:
    kind = {"number": "bigint", "bytes": "bytea"}.get(name, "text")
    with lab.db.begin() as conn:
        wire = cursor(conn)
        for _ in range(3):
            wire.execute(f"SELECT %s::{kind}, '100 %%'", (VALUES[name],))
            assert wire.fetchall() == [(VALUES[name], "100 %")]


def test_text_with_a_nul_is_an_error_and_not_cut_short(lab: Lab) -> None:
    with pytest.raises(psycopg.DataError), lab.db.begin() as conn:
        cursor(conn).execute(PUT, (TENANT, "cup\0plate", 1))
    assert shelves(lab) == {}


def test_a_batch_waits_for_the_server_as_often_as_a_lone_event(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten answers and the commit: each is time that a till waits."""
    waits: list[str] = []
    wait = psycopg.Connection.wait

    def counted(self: psycopg.Connection, generator: Any, *more: Any) -> Any:
        waits.append(generator.__name__)
        return wait(self, generator, *more)

    lab.buy("ann", 500, "first")
    monkeypatch.setattr(psycopg.Connection, "wait", counted)
    for size in (1, 50):
        waits.clear()
        outcomes = lab.try_all(*(lab.bought("ann", 500, f"order {size} {n}") for n in range(size)))
        assert all(isinstance(outcome, Receipt) for outcome in outcomes)
        assert (waits.count("_answers"), waits.count("_commit_gen")) == (10, 1)
