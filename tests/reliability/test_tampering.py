"""Whoever edits the books by hand is found out: a thousand single edits through SQL, each found, the first bad entry named (I13)."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.tests.lab import TENANT, Lab, verdict
from tallystick import crew, glance, proofs
from tallystick.effects import Count, Grant

EDITS = int(os.environ.get("TALLY_EDITS", "1000"))
#: What the journal fixes: table -> columns.  Not among them: what only says how (leases, `batch.at`), and what plugins keep.
FIXED = {
    "record": ("entry", "tenant", "member", "received", "body", "facts"),
    "transfer": ("entry", "place", "tenant", "debit", "credit", "unit", "amount", "rule", "lot", "into_lot"),
    "batch": ("writer", "number", "count", "root", "previous", "chain"),
    "lot": (
        "tenant",
        "member",
        "unit",
        "entry",
        "part",
        "amount",
        "remaining",
        "usable_from",
        "expires_at",
        "sliding",
        "waits",
        "issuer",
    ),
    "balance": ("tenant", "member", "unit", "posted", "deficit"),
    "counter": ("tenant", "member", "name", "grain", "start", "value"),
    "claim": ("tenant", "source", "id", "entry"),
    "entry_member": ("tenant", "member", "entry"),
    "order_entry": ("tenant", "order_id", "entry", "role", "member", "value", "returned", "lines"),
    "taken": ("tenant", "entry", "place", "amount"),
}
JOURNAL = ("record", "transfer", "batch")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("books")
    lab = lived(f"sqlite:///{folder}/books.db")
    yield lab
    lab.db.dispose()


def lived(url: str) -> Lab:
    """A shop with a little of everything in its books."""
    lab = Lab(url)
    lab.enrol("ann", "bob", "eve")
    lab.puppet.on("earn", lambda event, _: [
        Grant(rule="lab.base", unit="points", amount=event.facts.total // 100 if event.kind == "purchase.completed" else event.facts.amount),
        Count(rule="lab.visit", counter="lab.visits", window="month"),
    ])  # fmt: skip
    chance = random.Random(2)
    second = lab.writer(2)
    for n in range(60):
        who, to = chance.sample(["ann", "bob", "eve"], 2)
        arrival = chance.choice([
            lambda: lab.bought(who, chance.randrange(100, 30_000), f"R{n}"),  # noqa: B023
            lambda: lab.arrival("lab.did", who, amount=40, days=3),  # noqa: B023
            lambda: lab.arrival("lab.spent", who, amount=9, order="R1"),  # noqa: B023
            lambda: lab.arrival("lab.given", who, amount=5, to=to),  # noqa: B023
            lambda: lab.returned(f"R{chance.randrange(n + 1)}", amount=500),  # noqa: B023
        ])()  # fmt: skip
        lab.engine.record([arrival]) if n % 3 else second.record([arrival])
        lab.wait(hours=4)
    lab.puppet.on("review", verdict("hold"))
    held = [lab.buy("ann", 5_000, f"H{n}").entry for n in range(2)]
    lab.puppet.scripts.pop("review")
    lab.release(held[0])
    lab.sweep()
    lab.check()
    return lab


def changed(value: Any, chance: random.Random) -> Any:
    match value:
        case None:
            return b"x"
        case int():
            return value + chance.choice([-1, 1, 7, 1 << 20, -value or 1, -2 * value or 1])
        case str():
            return chance.choice([value + "x", value[1:] if value else "m-000000000001", value.upper() + "!"])
        case _:
            data = bytearray(value)
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            return bytes(data)


def edit(conn: sa.Connection, chance: random.Random) -> str:
    """Make one edit; a sentence that says which, or nothing if the database itself refused it."""
    table = chance.choice([*FIXED, *JOURNAL, *JOURNAL])
    columns = FIXED[table]
    rows = conn.execute(sa.text(f"SELECT * FROM {table}")).mappings().all()
    row = dict(chance.choice(rows))
    where = " AND ".join(f"{name} IS NOT DISTINCT FROM :{name}" for name in row)
    try:
        match chance.choice(["change", "change", "change", "delete", "insert", "swap"]):
            case "change":
                column = chance.choice(columns)
                new = changed(row[column], chance)
                if new == row[column]:
                    return ""
                conn.execute(
                    sa.text(f"UPDATE {table} SET {column} = :new_value WHERE {where}"), row | {"new_value": new}
                )
                return f"{table}.{column}: {row[column]!r} -> {new!r}"
            case "delete":
                conn.execute(sa.text(f"DELETE FROM {table} WHERE {where}"), row)
                return f"delete from {table}: {row}"
            case "insert":
                column = chance.choice(columns)
                row[column] = changed(row[column], chance)
                conn.execute(sa.text(f"INSERT INTO {table} VALUES ({', '.join(f':{name}' for name in row)})"), row)
                return f"insert into {table}: {row}"
            case "swap":
                column, other = chance.choice(columns), dict(chance.choice(rows))
                if other[column] == row[column]:
                    return ""
                conn.execute(
                    sa.text(f"UPDATE {table} SET {column} = :new_value WHERE {where}"),
                    row | {"new_value": other[column]},
                )
                return f"{table}.{column}: that of another row"
    except sa.exc.IntegrityError:
        return ""
    raise AssertionError


def test_every_single_edit_is_found(lab: Lab) -> None:
    chance = random.Random(13)
    missed, unnamed, made = [], [], 0
    with lab.db.connect() as conn:
        while made < EDITS:
            change = conn.begin()
            said = edit(conn, chance)
            if said:
                made += 1
                report = proofs.verify(conn)
                if not report.findings:
                    missed.append(said)
                elif not report.first_bad and said.split(".")[0].split(" ")[-1] in JOURNAL:
                    unnamed.append(said)
            change.rollback()
    assert (missed, unnamed) == ([], [])


def test_the_last_link_of_every_writer_is_looked_at(lab: Lab) -> None:
    """Nothing follows on it that would no longer fit."""
    with lab.db.connect() as conn:
        for writer in (1, 2):
            change = conn.begin()
            last = {"w": writer}
            chain = bytearray(conn.scalar(sa.text(
                "SELECT chain FROM batch WHERE writer = :w ORDER BY number DESC LIMIT 1"
            ), last))  # fmt: skip
            chain[0] ^= 1
            conn.execute(sa.text(
                "UPDATE batch SET chain = :c WHERE writer = :w AND number = (SELECT max(number) FROM batch WHERE writer = :w)"
            ), last | {"c": bytes(chain)})  # fmt: skip
            assert [finding.code for finding in proofs.verify(conn).findings] == ["chain"]
            change.rollback()


def test_a_glance_sees_what_a_long_look_sees(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A glance only says whether everything adds up; how much is read at a time, and whether it is used, changes no finding."""
    chance, seen = random.Random(29), 0
    with lab.db.connect() as conn:
        while seen < 40:
            change = conn.begin()
            if edit(conn, chance):
                seen += 1
                report = proofs.verify(conn)
                for count in (1, 3, 1_000):
                    with monkeypatch.context() as patch:
                        patch.setattr(crew, "pieces", lambda ends, _, count=count: glance.pieces(ends, count))
                        assert (crew.look(conn, None, {}, None) is None) == bool(report.findings)
                with monkeypatch.context() as patch:
                    patch.setattr(crew, "look", lambda *_: None)
                    assert proofs.verify(conn) == report
                    patch.setattr(proofs, "_AT_ONCE", 3)
                    assert proofs.verify(conn) == report
            change.rollback()


def test_a_glance_suffices_where_everything_adds_up(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it reports is what the long look reports; and edits are found on this database, too."""
    lab, chance, seen = lived(database_url), random.Random(31), 0
    with lab.db.connect() as conn:
        for tenant in (None, TENANT, "nobody"):
            for at_once in (1, 500):
                with monkeypatch.context() as patch:
                    patch.setattr(glance, "_AT_ONCE", at_once)
                    assert crew.look(conn, tenant, {}, None) is not None
                    report = proofs.verify(conn, tenant)
                    patch.setattr(crew, "look", lambda *_: None)
                    assert proofs.verify(conn, tenant) == report
                assert report.ok
        conn.rollback()
        while seen < 60:
            change = conn.begin()
            if said := edit(conn, chance):
                seen += 1
                assert proofs.verify(conn).findings, said
            change.rollback()
    lab.db.dispose()


@pytest.mark.parametrize("text", ["", "é€😀", 'a"b\\c/d', "".join(map(chr, range(32))) + "\x7f", "\u2028\ufeff"])
def test_a_glance_reads_whatever_can_be_an_id(database_url: str, text: str) -> None:
    """The database writes the line of a row as the journal's is written, or every look would be a long one."""
    if not database_url.startswith("sqlite"):
        text = text.replace("\0", "")
    lab = Lab(database_url)
    lab.enrol("ann")
    lab.puppet.on("earn", lambda event, _: [Grant(rule=f"lab.{text}", unit="points", amount=1)])
    lab.buy("ann", 100, f"R{text}", id=f"i{text}")
    with lab.db.connect() as conn:
        assert crew.look(conn, None, {}, None) is not None
    lab.db.dispose()


def test_books_that_nobody_edited_are_found_whole(lab: Lab) -> None:
    with lab.db.begin() as conn:
        assert proofs.verify(conn).findings == ()


def test_what_was_cut_off_is_found_against_an_exported_head(lab: Lab) -> None:
    with lab.db.connect() as conn:
        heads = proofs.heads(conn)
        change = conn.begin_nested() if conn.in_transaction() else conn.begin()
        last = max(head.number for head in heads if head.writer == 1)
        first = (1 << 51) | (last << 12)
        for sql in ("DELETE FROM batch WHERE writer = 1 AND number = :n", "DELETE FROM record WHERE entry >= :e AND entry < 2 << 51",
                    "DELETE FROM transfer WHERE entry >= :e AND entry < 2 << 51"):  # fmt: skip
            given = {"n": last} if ":n" in sql else {"e": first}
            conn.execute(sa.text(sql), given)
        assert any(finding.code == "head" for finding in proofs.verify(conn, expected=heads).findings)
        change.rollback()
