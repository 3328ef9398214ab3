"""No key ever sees a nonce twice, not even when a restored backup gives out the same numbers again."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.tests.lab import TENANT, Lab
from tallystick import database, house, migrate, queries, vault
from tallystick.engine import Receipt

KEY = b"k" * 32


@pytest.fixture
def lab(sqlite_url: str) -> Iterator[Lab]:
    lab = Lab(sqlite_url)
    lab.enrol("ann")
    yield lab
    lab.db.dispose()


def test_facts_sealed_before_the_epoch_joined_the_nonce_are_still_read() -> None:
    entry, facts = (3 << 51) | (7 << 12) | 1, b'{"data":{}}'
    before = AESGCM(KEY).encrypt(entry.to_bytes(12, "big"), facts, None)
    assert vault.open_facts(KEY, entry, before) == facts
    assert vault.open_facts(KEY, entry, vault.seal_facts(KEY, entry, facts, 1_795_000_000)) == facts
    assert vault.open_facts(b"x" * 32, entry, before) is None
    assert vault.open_facts(KEY, entry, b"") is None


def test_the_same_entry_of_two_leases_is_sealed_under_two_nonces() -> None:
    one, other = (vault.seal_facts(KEY, 5, b"the same", epoch) for epoch in (1_795_000_000, 1_795_000_001))
    assert one[:4] != other[:4]
    assert one[4:] != other[4:]


def test_no_epoch_comes_again_after_a_restore(tmp_path: Path) -> None:
    """The writer's row of the backup knows an older lease than the one that was in force when the disk died."""
    url, file = f"sqlite:///{tmp_path}/books.db", tmp_path / "books.db"
    db = database.connect(url)
    migrate.upgrade(db, [migrate.CORE])
    second = 1_795_000_000_000_000
    first = house.lease_writer(db, second)
    house.release_writer(db, *first)
    database.checkpoint(db, truncate=True)
    db.dispose()
    shutil.copy(file, tmp_path / "backup.db")
    lost = house.lease_writer(db, second + 60_000_000)
    db.dispose()
    shutil.copy(tmp_path / "backup.db", file)
    for each in tmp_path.glob("books.db-*"):
        each.unlink()
    again = house.lease_writer(db, second + 120_000_000)
    assert (first[0], lost[0], again[0]) == (1, 1, 1)
    assert first[1] < lost[1] < again[1]
    db.dispose()


def test_an_event_is_sealed_under_the_lease_of_its_writer(lab: Lab) -> None:
    lab.engine.lease = (1, 77)
    with lab.db.begin() as conn:
        conn.exec_driver_sql("UPDATE writer SET epoch = 77 WHERE id = 1")
    (outcome,) = lab.engine.record([lab.arrival("lab.did", "ann", amount=1)])
    assert isinstance(outcome, Receipt)
    ((sealed,),) = lab.rows("SELECT facts FROM record")
    assert bytes(sealed[:4]) == (77).to_bytes(4, "big")
    with database.reading(lab.db) as conn:
        assert queries.load_facts(conn, b"l" * 32, TENANT, (1 << 51) | (1 << 12))["data"]["amount"] == 1
