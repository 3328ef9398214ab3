"""Heads, receipts, backups and rebuilding, through the command line, on SQLite and PostgreSQL."""

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tallystick import backup, database, proofs, tables, witness, yardstick
from tallystick.cli import cli
from tallystick.errors import InvalidRequest, ProofFailed
from tallystick.ledger import Head, entry_number
from tallystick.terminal import Desk

#: Everything after the first batch of the first writer.
ENTRY = entry_number(1, 1, 4095)
SCRIPT = Path(__file__).parents[2] / "tools" / "verify_receipt.py"


class Shop:
    """A deployment in a folder of its own."""

    def __init__(self, folder: Path, url: str, environ: pytest.MonkeyPatch) -> None:
        self.folder, self.url, self.environ = folder, url, environ
        environ.chdir(folder)
        environ.setenv("LANG", "C.UTF-8")
        self.use(url)
        self.run("init")
        self.run("member", "add", "ann", "--name", "Ann Smith")
        self.run("member", "add", "bob", "--name", "Bob Jones")

    def use(self, url: str) -> None:
        self.url = url
        self.environ.setenv("TALLY__HOUSE__DATABASE", url)

    def run(self, *words: str, status: int = 0) -> Result:
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == status, result.output
        return result

    def read(self, *words: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.run(*words, "--json").stdout)
        return found

    def sell(self, first: int, count: int) -> None:
        start = datetime.now(UTC) - timedelta(hours=1)
        lines = []
        for n in range(first, first + count):
            data = {"order": f"o{n}", "currency": "USD", "lines": [{"sku": "cup", "amount": 500 + n}]}
            event = {
                "id": f"e{n}",
                "source": "till",
                "type": "purchase.completed",
                "member": "ann" if n % 2 else "bob",
                "data": data,
            }
            lines.append(json.dumps({**event, "time": (start + timedelta(seconds=n)).isoformat()}))
            if n % 3 == 0:
                back = {
                    "id": f"r{n}",
                    "source": "till",
                    "type": "purchase.refunded",
                    "data": {"order": f"o{n}", "amount": 200},
                }
                lines.append(json.dumps({**back, "time": (start + timedelta(seconds=n)).isoformat()}))
        file = self.folder / f"events-{first}.jsonl"
        file.write_text("\n".join(lines) + "\n")
        self.run("import", str(file))

    def database(self) -> sa.Engine:
        return database.connect(self.url)

    def change(self, sql: str) -> None:
        db = self.database()
        with db.begin() as conn:
            assert conn.execute(sa.text(sql)).rowcount > 0
        db.dispose()

    def entries(self) -> list[str]:
        db = self.database()
        with database.reading(db) as conn:
            bodies = conn.scalars(sa.select(tables.record.c.body).order_by(tables.record.c.entry)).all()
        db.dispose()
        return [json.loads(body)["entry"] for body in bodies]


@pytest.fixture
def shop(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(tmp_path, database_url, monkeypatch)


@pytest.fixture
def small(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(tmp_path, sqlite_url, monkeypatch)


# --- heads


def test_a_signed_head_finds_that_the_end_was_cut_off(shop: Shop) -> None:
    shop.sell(0, 3)
    shop.sell(3, 3)
    shop.run("head", "--sign", "--output", "head.txt")
    shop.run("verify", "--head", "head.txt")
    shop.sell(6, 3)
    shop.run("verify", "--head", "head.txt")
    for table in ("record", "transfer"):
        shop.change(f"DELETE FROM {table} WHERE entry > {ENTRY}")
    shop.change("DELETE FROM batch WHERE number > 1")
    findings = json.loads(shop.run("verify", "--head", "head.txt", "--json", status=1).stdout)["findings"]
    assert "head" in {finding["code"] for finding in findings}


def test_a_program_gets_the_signature_as_well(small: Shop) -> None:
    small.sell(0, 2)
    small.run("head", "--sign", "--json", "--output", "head.json")
    found = json.loads(Path("head.json").read_text())
    assert found["heads"] == json.loads(small.run("head", "--json").stdout)
    Path("head.txt").write_text(found["signed"])
    small.run("verify", "--head", "head.txt")


def test_a_head_is_believed_only_as_it_was_signed(small: Shop) -> None:
    small.sell(0, 2)
    small.run("head", "--sign", "--output", "head.txt")
    head = Path("head.txt")
    signed = head.read_text()
    lines = signed.splitlines()
    writer, number, rest = lines[3].split(" ", 2)
    lines[3] = f"{writer} {int(number) + 4} {rest}"
    head.write_text("\n".join(lines) + "\n")
    assert small.run("verify", "--head", "head.txt", status=1).stderr.startswith("tally: proof_failed: ")
    head.write_text(signed)
    other = witness.Signer(b"another house").key
    small.run("verify", "--head", "head.txt", "--key", str(other), status=1)
    small.run("verify", "--head", "head.txt", "--key", str(small.read("head", "--key")["key"]))


@given(
    heads=st.dictionaries(
        st.integers(1, 4095), st.tuples(st.integers(1, 1 << 38), st.binary(min_size=32, max_size=32)), max_size=9
    )
)
def test_a_head_reads_as_it_was_written(heads: dict[int, tuple[int, bytes]]) -> None:
    wanted = [Head(writer=writer, number=number, chain=chain) for writer, (number, chain) in sorted(heads.items())]
    signer = witness.Signer(b"s" * 32)
    note = signer.sign(witness.write_head(signer.key.name, wanted, 1_700_000_000_000_000))
    key = witness.read_key(str(signer.key))
    assert witness.read_head(key.open(note)) == wanted


@given(place=st.integers(0, 10_000), bit=st.integers(0, 6))
def test_no_character_of_a_signed_head_can_change(place: int, bit: int) -> None:
    signer = witness.Signer(b"s" * 32)
    note = signer.sign(witness.write_head(signer.key.name, [Head(writer=1, number=5, chain=b"c" * 32)], 0)).encode()
    place %= len(note)
    changed = note[:place] + bytes([note[place] ^ 1 << bit]) + note[place + 1 :]
    if changed.decode("utf-8", "replace").rstrip("\n") == note.decode().rstrip("\n"):
        return
    with pytest.raises(ProofFailed):
        signer.key.open(changed.decode("utf-8", "replace"))


# --- receipts


def test_a_receipt_proves_its_entry_with_neither_house_nor_database(shop: Shop, tmp_path: Path) -> None:
    shop.sell(0, 7)
    key = str(shop.read("head", "--key")["key"])
    for entry in shop.entries():
        shop.run("receipt", entry, "--output", "receipt.json")
        receipt = (tmp_path / "receipt.json").read_bytes()
        assert len(receipt) < 4_000
        record, head = witness.check_receipt(witness.read_receipt(receipt), witness.read_key(key))
        assert record.entry == entry
        assert head.writer == int(entry.split("-")[0])
    (tmp_path / "tally.toml").rename(tmp_path / "gone.toml")
    shop.run("verify-receipt", "receipt.json", status=1)
    assert entry in shop.run("verify-receipt", "receipt.json", "--key", key).stdout
    alone = subprocess.run([sys.executable, SCRIPT, "receipt.json", key], capture_output=True, text=True, check=True)
    assert entry in alone.stdout
    for meddling in (("purchase", "parchase"), ("issued", "issuer"), ('"index": ', '"index": 1')):
        (tmp_path / "forged.json").write_text(receipt.decode().replace(*meddling, 1))
        if (tmp_path / "forged.json").read_bytes() == receipt:
            continue
        shop.run("verify-receipt", "forged.json", "--key", key, status=1)
        for optimised in ((), ("-O",)):  # which leaves assertions out
            command = [sys.executable, *optimised, SCRIPT, "forged.json", key]
            assert subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.parametrize("writers", [(), (1, 2)])
def test_a_head_of_others_is_no_head_of_a_receipt(shop: Shop, tmp_path: Path, writers: tuple[int, ...]) -> None:
    """Signed by the house as it is: what it lists is not the receipt's batch, or not alone."""
    shop.sell(0, 1)
    signer, entry = witness.Signer(b"s" * 32), shop.entries()[0]
    shop.run("receipt", entry, "--output", "receipt.json")
    receipt = witness.read_receipt((tmp_path / "receipt.json").read_bytes())
    heads = [Head(writer=writer, number=1, chain=b"c" * 32) for writer in writers]
    signed = signer.sign(witness.write_head(signer.key.name, heads, 0))
    with pytest.raises(ProofFailed, match="lists its batch alone"):
        witness.check_receipt(structs.replace(receipt, head=signed), signer.key)


def test_the_script_is_short_and_needs_nothing_of_ours() -> None:
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 60
    assert "tallystick" not in [
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))
    ]


# --- backups


@pytest.fixture
def other_url(database_url: str, make_database: Callable[..., str]) -> str:
    return make_database()


def books(shop: Shop) -> dict[str, list[tuple[object, ...]]]:
    db = shop.database()
    with database.reading(db) as conn:
        found = {
            name: sorted(map(repr, conn.execute(sa.select(table)).all()))
            for name, table in tables.metadata.tables.items()
            if name not in {"writer", "job", "consumer"}  # who works at them now
        }
    db.dispose()
    return found  # type: ignore[return-value]


def test_a_backup_under_load_is_one_instant_and_goes_back_whole(shop: Shop, tmp_path: Path, other_url: str) -> None:
    shop.sell(0, 30)
    stop = threading.Event()
    db = shop.database()

    def work() -> None:
        n = 0
        while not stop.is_set():
            with db.begin() as conn:
                conn.execute(
                    tables.audit.insert().values(id=f"a{n}", tenant="shop", at=n, actor="x", action="y", body="{}")
                )
                conn.execute(
                    tables.audit.insert().values(id=f"b{n}", tenant="shop", at=n, actor="x", action="y", body="{}")
                )
            n += 1

    writer = threading.Thread(target=work)
    writer.start()
    try:
        shop.run("backup", "books.backup")
    finally:
        stop.set()
        writer.join()
    db.dispose()
    shop.run("backup", "books.backup", status=1)  # never over another
    shop.run("restore", "books.backup", status=1)  # nor into books that are there
    before = books(shop)
    shop.use(other_url)
    shop.run("restore", "books.backup")
    after = books(shop)
    noted = {*after.pop("audit")}
    assert noted <= set(before.pop("audit"))
    assert len(noted) % 2 == 0, "half a transaction was copied"
    assert after == before
    shop.sell(30, 3)
    assert shop.read("verify")["findings"] == []


def test_whoever_was_forgotten_after_the_backup_stays_forgotten(shop: Shop, other_url: str) -> None:
    shop.sell(0, 6)
    shop.run("backup", "books.backup")
    shop.run("member", "erase", "ann", "--yes")
    shop.use(other_url)
    assert shop.read("restore", "books.backup")["erasures_done_again"] == 1
    shop.run("member", "show", "ann", status=1)
    shop.run("member", "show", "bob")
    assert shop.read("verify")["findings"] == []


def test_what_is_no_backup_is_not_restored(shop: Shop, tmp_path: Path, other_url: str) -> None:
    (tmp_path / "junk").write_bytes(b"PK\x03\x04 not really")
    shop.use(other_url)
    assert shop.run("restore", "junk", status=1).stderr.startswith("tally: invalid_request: ")
    db = shop.database()
    assert backup.is_empty(db)
    db.dispose()


def test_books_that_a_house_serves_are_not_put_back_under_it(shop: Shop, other_url: str) -> None:
    """Empty or not: it would go on in a file that is nobody's, or among what was put back."""
    shop.sell(0, 3)
    shop.run("backup", "books.backup")
    shop.use(other_url)
    shop.run("db", "upgrade")
    with Desk(Path("tally.toml"), as_json=False).house():
        said = shop.run("restore", "books.backup", status=1).stderr
        assert "a house serves these books: stop it first" in said
        db = shop.database()
        assert backup.is_empty(db)
        db.dispose()
    shop.run("restore", "books.backup")


def test_nobody_holds_what_was_held_when_the_copy_was_made(shop: Shop, other_url: str) -> None:
    shop.sell(0, 3)
    with Desk(Path("tally.toml"), as_json=False).house():
        shop.run("backup", "books.backup")
    shop.use(other_url)
    shop.run("restore", "books.backup")
    shop.run("rebuild", "--yes")


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)  # SQLite looks at its pages itself
def test_a_damaged_backup_goes_back_whole_or_not_at_all(shop: Shop, tmp_path: Path, other_url: str) -> None:
    shop.sell(0, 12)
    shop.run("backup", "books.backup")
    before, whole, chance = books(shop), (tmp_path / "books.backup").read_bytes(), random.Random(5)
    shop.use(other_url)
    shop.run("db", "upgrade")
    db = shop.database()
    for _ in range(60):
        damaged, place = bytearray(whole), chance.randrange(len(whole))
        damaged[place] ^= 1 << chance.randrange(8)
        (tmp_path / "damaged").write_bytes(damaged if chance.random() < 0.8 else whole[:place])
        was_empty = backup.is_empty(db)
        try:
            backup.put_back(db, tmp_path / "damaged")
        except InvalidRequest:
            assert backup.is_empty(db) == was_empty
        else:
            assert books(shop) == before
    db.dispose()


# --- making anew


def test_what_was_lost_is_made_anew_from_the_journal(shop: Shop) -> None:
    shop.sell(0, 12)
    before = books(shop)
    for table in ("balance", "lot", "taken", "order_entry", "claim", "counter"):
        if before[table]:
            shop.change(f"DELETE FROM {table}")
    shop.run("verify", status=1)
    shop.run("rebuild", "--yes")
    assert books(shop) == before


def test_a_damaged_journal_is_not_built_on(shop: Shop) -> None:
    shop.sell(0, 4)
    shop.change("UPDATE transfer SET amount = amount + 1")
    assert shop.run("rebuild", "--yes", status=1).stderr.startswith("tally: proof_failed: ")
    db = shop.database()
    with database.reading(db) as conn:
        assert {finding.code for finding in proofs.verify(conn).findings} <= proofs.JOURNAL
    db.dispose()


# --- speed


def test_the_bench_measures_durable_work_beside_its_yardstick(shop: Shop) -> None:
    found = Desk(shop.folder / "tally.toml", as_json=False)
    with found.house() as built:
        bench = yardstick.Bench(built, "shop", events=40)
        figures = [bench.in_process(20), bench.bulk(), bench.verification()]
        with database.reading(built.db) as conn:
            report = proofs.verify(conn)
    assert report.entries == len(("ann", "bob")) + 2 * 40 * yardstick.ROUNDS
    for figure in figures:
        assert len(figure.rates) == len(figure.yardsticks) == yardstick.ROUNDS
        assert min(*figure.rates, *figure.yardsticks, figure.cpu) > 0
    head, rule, *rows = yardstick.table(figures, "abcdef")
    assert {line.count("|") for line in (head, rule, *rows)} == {7}
