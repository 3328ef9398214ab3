"""Members: found by what they are called outside, sealed inside, merged, exported, forgotten (I22, S12)."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from core.tests.books import SECRET, START, TENANT, Books
from tallystick import database, people, tables, vault
from tallystick.errors import AliasTaken, InvalidMember, MemberInactive, TallyError, Unavailable, UnknownMember
from tallystick.ledger import instant, leaf_hash, member_name, merkle_root
from tallystick.people import Newcomer, Profile
from tallystick.situation import Birthday

NOW = instant(START)
CANARIES = (
    "Zebulon Quagmire",
    "+15550199837",
    "zebulon@canary.example",
    "1977-03-14",
    "card-canary-40028922",
    "vip-canary",
)
LANGUAGE = "qx-canary77"  # a short one is found in any file: two letters stand in every tenth key or hash
ZEBULON = Profile(name=CANARIES[0], phone=CANARIES[1], email=CANARIES[2], birthday=CANARIES[3])


@pytest.fixture
def make_books(make_database: Callable[[], str]) -> Iterator[Callable[[], Books]]:
    made: list[Books] = []

    def make() -> Books:
        made.append(Books(make_database()))
        return made[-1]

    yield make
    for books in made:
        books.db.dispose()


@pytest.fixture
def books(make_books: Callable[[], Books]) -> Books:
    return make_books()


def find(books: Books, *references: str, tenant: str = TENANT) -> dict[str, int]:
    with database.reading(books.db) as conn:
        return {name: row.number for name, row in people.find(conn, SECRET, tenant, references).items()}


# --- joining and being found


def test_a_member_is_found_by_every_external_id_and_by_number(books: Books) -> None:
    ann, bob = books.enrol("card-1", "ann@example.org"), books.enrol("card-2")
    name = member_name(ann)
    assert find(books, "card-1", "ann@example.org", name, "card-2", "nobody", "m-000000000001") == {
        "card-1": ann, "ann@example.org": ann, name: ann, "card-2": bob,
    }  # fmt: skip


def test_a_thousand_references_are_found_in_one_go(books: Books) -> None:
    with books.db.begin() as conn:
        numbers = people.enrol_many(
            conn, SECRET, TENANT, NOW, [Newcomer(external_ids=(f"c{n}",)) for n in range(1_200)]
        )
    assert find(books, *[f"c{n}" for n in range(1_200)]) == {f"c{n}": number for n, number in enumerate(numbers)}
    assert len(set(numbers)) == 1_200


def test_other_tenants_do_not_exist_here(books: Books) -> None:
    ann = books.enrol("card-1")
    assert find(books, "card-1", member_name(ann), tenant="other") == {}
    with books.db.begin() as conn:
        elsewhere = people.enrol(conn, SECRET, "other", NOW, external_ids=["card-1"])
    assert find(books, "card-1") == {"card-1": ann}
    assert find(books, "card-1", tenant="other") == {"card-1": elsewhere}


def test_the_database_holds_no_external_id_and_no_profile_in_clear(books: Books) -> None:
    books.enrol(CANARIES[4], profile=ZEBULON)
    stored = repr([books.rows(table) for table in tables.metadata.sorted_tables])
    assert [canary for canary in CANARIES[:5] if canary in stored] == []


@pytest.mark.parametrize(
    "external_id",
    ["", " ", "m-123456789012", "M-123456789012", " card", "card ", "a\nb", "a\x00b", "x" * 129, "a\x7fb"],
)
def test_what_cannot_be_an_external_id_is_refused(books: Books, external_id: str) -> None:
    with pytest.raises(InvalidMember) as refused:
        books.enrol("fine", external_id)
    assert refused.value.pointer == "/external_ids/1"
    assert books.rows(tables.member) == []


@pytest.mark.parametrize(
    "external_id", ["m-12345678901", "m-1234567890123", "x", "用户-7", "a b", "x" * 128, "m-１２３４５６７８９０１２"]
)
def test_what_merely_looks_odd_is_accepted(books: Books, external_id: str) -> None:
    assert find(books, external_id) == {}
    number = books.enrol(external_id)
    assert find(books, external_id) == {external_id: number}


def test_an_external_id_belongs_to_one_member(books: Books) -> None:
    ann = books.enrol("card-1")
    with pytest.raises(AliasTaken):
        books.enrol("card-9", "card-1")
    with pytest.raises(AliasTaken), books.db.begin() as conn:
        people.enrol_many(
            conn, SECRET, TENANT, NOW, [Newcomer(external_ids=("same",)), Newcomer(external_ids=("same",))]
        )
    assert find(books, "card-1", "card-9", "same") == {"card-1": ann}
    assert len(books.rows(tables.member)) == 1


def test_a_number_that_is_taken_is_drawn_again(books: Books) -> None:
    first = books.enrol(number=5)
    draws = iter([4, 6, 6, 7])
    with books.db.begin() as conn:
        numbers = people.enrol_many(
            conn, SECRET, TENANT, NOW, [Newcomer(), Newcomer()], draw=lambda _bound: next(draws)
        )
    assert (first, numbers) == (5, [8, 7])  # 5 was taken, and then 7


def test_endless_bad_luck_ends(books: Books) -> None:
    books.enrol(number=1)
    with pytest.raises(Unavailable), books.db.begin() as conn:
        people.enrol_many(conn, SECRET, TENANT, NOW, [Newcomer()], draw=lambda _bound: 0)


def test_numbers_given_by_an_import_are_kept_and_never_doubled(books: Books) -> None:
    assert books.enrol(number=123_456_789_012) == 123_456_789_012
    with pytest.raises(AliasTaken):
        books.enrol(number=123_456_789_012)
    for wrong in (0, -1, 10**12):
        with pytest.raises(InvalidMember):
            books.enrol(number=wrong)


def test_linking_is_idempotent_and_unlinking_ends_it(books: Books) -> None:
    ann, bob = books.enrol("card-1"), books.enrol("card-2")
    with books.db.begin() as conn:
        assert people.link(conn, SECRET, TENANT, ann, "app-7")
        assert not people.link(conn, SECRET, TENANT, ann, "app-7")
    with books.db.begin() as conn, pytest.raises(AliasTaken):
        people.link(conn, SECRET, TENANT, bob, "app-7")
    assert find(books, "app-7") == {"app-7": ann}
    with books.db.begin() as conn:
        assert not people.unlink(conn, SECRET, TENANT, bob, "app-7")
        assert people.unlink(conn, SECRET, TENANT, ann, "app-7")
        assert people.load_profile(conn, TENANT, ann).external_ids == ("card-1",)
        assert people.link(conn, SECRET, TENANT, bob, "app-7")
    assert find(books, "app-7") == {"app-7": bob}


def test_a_profile_changes_by_field_and_is_checked(books: Books) -> None:
    ann = books.enrol("card-1", profile=Profile(name="Ann"))
    with books.db.begin() as conn:
        people.change_profile(conn, TENANT, ann, birthday="05-17")
        found = people.load_profile(conn, TENANT, ann)
        assert (found.name, found.month_and_day, found.external_ids) == ("Ann", Birthday(5, 17), ("card-1",))
        for wrong in ({"birthday": "17.05."}, {"nickname": "x"}, {"name": "x" * 257}):
            with pytest.raises(msgspec.ValidationError):
                people.change_profile(conn, TENANT, ann, **wrong)


def test_a_blocked_member_can_be_unblocked(books: Books) -> None:
    ann = books.enrol("card-1")
    with books.db.begin() as conn:
        people.change_member(conn, TENANT, ann, blocked=True, tags=["staff"], language="zh-CN")
        row = people.load(conn, SECRET, TENANT, "card-1")
        assert (row.status, row.tags, row.language) == ("blocked", ("staff",), "zh-CN")
        people.change_member(conn, TENANT, ann, blocked=False)
        assert people.load(conn, SECRET, TENANT, "card-1").status == "active"
        with pytest.raises(UnknownMember):
            people.load(conn, SECRET, TENANT, "nobody")


# --- being forgotten


def history(books: Books) -> int:
    """A member with a past: purchases, a gift, a message, an own row, two cards, one of them from a merged member."""
    number = books.enrol(CANARIES[4], profile=ZEBULON, tags=[CANARIES[5]], language=LANGUAGE)
    books.enrol("friend")
    books.buy(CANARIES[4], 5_000, "o1")
    books.give(CANARIES[4], "friend", 20)
    books.give("friend", CANARIES[4], 5)
    books.spend(CANARIES[4], 7)
    return number


def test_an_export_is_complete(books: Books) -> None:
    number = history(books)
    with database.reading(books.db) as conn:
        document = people.export(conn, TENANT, number, [("kiosk", lambda n: {"scans": n})])
    (member,) = document["members"]
    told = msgspec.json.encode(document).decode()
    assert [canary for canary in CANARIES if canary not in told] == []
    assert [entry["kind"] for entry in member["entries"]] == ["purchase.completed", "shop.given", "shop.spent"]
    assert member["entries"][0]["facts"]["data"]["order"] == "o1"
    assert [(other["amount"], other["with"]) for other in member["entries_of_others"]] == [(5, "another member")]
    assert member["balances"] == [{"unit": "points", "posted": 28, "deficit": 0}]
    assert member["plugins"] == {"kiosk": {"scans": number}}
    assert {row["name"] for row in member["own"]} >= {"last"}
    assert member["counters"] != []


def chain_holds(books: Books) -> bool:
    """Every batch's root is the root of its records as they are stored now."""
    bodies: dict[int, list[bytes]] = {}
    for row in sorted(books.rows(tables.record), key=lambda row: row.entry):
        bodies.setdefault(row.entry >> 12, []).append(leaf_hash(bytes(row.body)))
    roots = {(row.writer << 39) | row.number: bytes(row.root) for row in books.rows(tables.batch)}
    return {key: merkle_root(leaves) for key, leaves in bodies.items()} == roots


def in_files(books: Books, wanted: dict[str, bytes]) -> list[str]:
    """Which of the *wanted* byte strings stand in the SQLite file, its log or its index."""
    file = database.database_file(books.db)
    assert file is not None
    files = [path for suffix in ("", "-wal", "-shm") if (path := Path(f"{file}{suffix}")).exists()]
    assert files
    return [name for name, value in wanted.items() for path in files if value in path.read_bytes()]


def in_tables(books: Books, wanted: dict[str, bytes]) -> list[str]:
    """Which of the *wanted* byte strings stand in any row."""
    stored = [
        bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
        for table in tables.metadata.sorted_tables
        for row in books.rows(table)
        for value in row
    ]
    return [name for name, value in wanted.items() if any(value in one for one in stored)]


def test_forget_me(books: Books) -> None:
    """S12: export, erase, verify, look for every trace, earn again for the id."""
    number = history(books)
    secret = next(bytes(row.secret) for row in books.rows(tables.member) if row.number == number)
    body = next(bytes(row.body) for row in books.rows(tables.person) if row.member == number)
    traces = {canary: canary.encode() for canary in CANARIES[5:]} | {
        "the key": secret,
        "the sealed profile": body,
        "the fingerprint": vault.fingerprint(SECRET, TENANT, CANARIES[4]).encode(),
        "the language": LANGUAGE.encode(),
    }
    look = in_tables if books.db.dialect.name == "postgresql" else in_files
    found_before = look(books, traces)
    before = {
        table.name: books.rows(table)
        for table in (tables.record, tables.transfer, tables.lot, tables.balance, tables.batch)
    }
    asked: list[int] = []

    with books.db.begin() as conn:
        receipt = people.erase(conn, TENANT, number, NOW, plugins=[("kiosk", lambda n: asked.append(n) or True)])
    people.scrub(books.db)

    assert {"the key", "the sealed profile", "the fingerprint", "the language", "vip-canary"} <= set(
        found_before
    )  # the search can find
    assert look(books, traces) == []
    assert in_tables(books, {canary: canary.encode() for canary in CANARIES}) == []
    assert {name: books.rows(tables.metadata.tables[name]) for name in before} == before
    assert chain_holds(books)
    assert receipt.complete
    assert asked == [number]
    assert receipt.removed["alias"] == 1
    told = msgspec.json.encode(receipt).decode()
    assert [canary for canary in CANARIES if canary in told] == []

    for reference in (CANARIES[4], member_name(number)):
        with pytest.raises(TallyError):
            books.buy(reference, 1_000)
    with database.reading(books.db) as conn:
        (member,) = people.export(conn, TENANT, number)["members"]
    assert member["profile"] == {}
    assert {entry["facts"] for entry in member["entries"]} == {None}


def test_nothing_of_many_forgotten_members_stays_in_the_file(sqlite_url: str) -> None:
    """Pages split, fill up and are packed again as rows come and go: no copy may stay in the gaps."""
    books = Books(sqlite_url)
    chance = random.Random(7)
    with books.db.begin() as conn:
        newcomers = [
            Newcomer(external_ids=(f"c{n}",), profile=Profile(name="x" * chance.randrange(200))) for n in range(600)
        ]
        numbers = people.enrol_many(conn, SECRET, TENANT, NOW, newcomers)
    gone = chance.sample(numbers, 200)
    traces = {f"{row.number} key": bytes(row.secret) for row in books.rows(tables.member) if row.number in gone}
    traces |= {f"{row.member} body": bytes(row.body) for row in books.rows(tables.person) if row.member in gone}
    for number in chance.sample(sorted({*numbers} - {*gone}), 200):
        with books.db.begin() as conn:
            people.change_profile(conn, TENANT, number, address="y" * chance.randrange(400))
    assert len(in_files(books, traces)) >= 400
    for number in gone:
        with books.db.begin() as conn:
            people.erase(conn, TENANT, number, NOW)
    people.scrub(books.db)
    assert in_files(books, traces) == []
    books.db.dispose()


def test_the_id_of_a_forgotten_member_is_free_for_a_new_one(books: Books) -> None:
    number = history(books)
    with books.db.begin() as conn:
        people.erase(conn, TENANT, number, NOW)
    again = books.enrol(CANARIES[4])
    assert again != number
    assert books.buy(CANARIES[4], 300).record.balances == {"points": 3}


def test_an_erasure_is_incomplete_until_every_plugin_answers(books: Books) -> None:
    number = history(books)
    with books.db.begin() as conn:
        receipt = people.erase(conn, TENANT, number, NOW, plugins=[("a", lambda _n: True), ("b", lambda _n: None)])
        assert receipt.plugins == {"a": True, "b": False}
        assert not receipt.complete
        assert people.erase(conn, TENANT, number, NOW, plugins=[("b", lambda _n: True)]).complete


def test_erasures_are_replayed_after_a_restore(make_books: Callable[[], Books]) -> None:
    """Two equal books: in one the member is erased; the other is the backup that still remembers."""
    erased, restored = make_books(), make_books()
    for books in (erased, restored):
        for name, number in (("card-1", 41), ("card-2", 42)):
            books.enrol(name, number=number, profile=ZEBULON)
    with erased.db.begin() as conn:
        people.erase(conn, TENANT, 41, NOW)
        kept = people.erasures(conn)
    stored = msgspec.json.decode(msgspec.json.encode(kept), type=list[people.Erasure])

    for times in (1, 0):
        with restored.db.begin() as conn:
            assert people.replay_erasures(conn, stored) == times
    assert find(restored, "card-1", "card-2") == {"card-2": 42}
    with database.reading(restored.db) as conn:
        assert people.load_profile(conn, TENANT, 41) == Profile()
        assert people.erasures(conn) == kept
        assert people.erasures(conn, since=NOW + 1) == []


# --- two members who are one person: the personal part


def test_a_merged_member_answers_as_the_other_until_they_part(books: Books) -> None:
    ann, annie, anna = (books.enrol(name) for name in ("ann", "annie", "anna"))
    with books.db.begin() as conn:
        assert people.merge(conn, TENANT, annie, ann, 1, NOW)
        assert not people.merge(conn, TENANT, annie, ann, 2, NOW)
        assert not people.merge(conn, TENANT, ann, ann, 3, NOW)
        assert people.merge(conn, TENANT, ann, anna, 4, NOW)
        with pytest.raises(MemberInactive):
            people.merge(conn, TENANT, annie, anna, 5, NOW)
        assert people.merged_into(conn, TENANT, anna) == [anna, ann, annie]
    assert find(books, "annie", "ann", member_name(annie)) == {"annie": anna, "ann": anna, member_name(annie): anna}
    with books.db.begin() as conn:
        assert people.unmerge(conn, TENANT, ann, 6, NOW)
        assert not people.unmerge(conn, TENANT, ann, 7, NOW)
    assert find(books, "annie", "ann", "anna") == {"annie": ann, "ann": ann, "anna": anna}


def test_a_blocked_member_is_blocked_again_after_parting(books: Books) -> None:
    ann, annie = books.enrol("ann"), books.enrol("annie")
    with books.db.begin() as conn:
        people.change_member(conn, TENANT, annie, blocked=True)
        people.merge(conn, TENANT, annie, ann, 1, NOW)
        people.unmerge(conn, TENANT, annie, 2, NOW)
        assert people.load(conn, SECRET, TENANT, "annie").status == "blocked"


def test_who_was_merged_is_exported_and_forgotten_together(books: Books) -> None:
    ann, annie = books.enrol("ann", profile=Profile(name="Ann")), books.enrol("annie", profile=Profile(name="Annie"))
    with books.db.begin() as conn:
        people.merge(conn, TENANT, annie, ann, 1, NOW)
        exported = people.export(conn, TENANT, ann)
        assert [member["profile"]["name"] for member in exported["members"]] == ["Ann", "Annie"]
        with pytest.raises(MemberInactive, match="erase that one"):
            people.erase(conn, TENANT, annie, NOW)
        receipt = people.erase(conn, TENANT, ann, NOW)
    assert receipt.erasure.members == (ann, annie)
    assert find(books, "ann", "annie") == {}
    assert {row.secret for row in books.rows(tables.member)} == {None}


def test_nothing_can_be_changed_of_who_is_gone(books: Books) -> None:
    ann, annie = books.enrol("ann"), books.enrol("annie")
    with books.db.begin() as conn:
        people.merge(conn, TENANT, annie, ann, 1, NOW)
        for act in (
            lambda: people.change_profile(conn, TENANT, annie, name="x"),
            lambda: people.link(conn, SECRET, TENANT, annie, "new"),
            lambda: people.change_member(conn, TENANT, annie, blocked=True),
        ):
            with pytest.raises(MemberInactive):
                act()


def test_scrubbing_says_so_when_a_reader_holds_the_log(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_PRAGMAS", (*database._PRAGMAS, "PRAGMA busy_timeout = 10"))
    books = Books(sqlite_url)
    number = history(books)
    with database.reading(books.db) as reader:
        assert reader.scalar(sa.text("SELECT count(*) FROM member")) == 2
        with books.db.begin() as conn:
            people.erase(conn, TENANT, number, NOW)
        with pytest.raises(Unavailable, match="reader"):
            people.scrub(books.db)
    people.scrub(books.db)
    books.db.dispose()
