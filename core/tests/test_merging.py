"""Two members who are one person (Semantics 70), in the real house."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from core.tests.books import SECRET, TENANT, Books
from core.tests.lab import Lab, Puppet
from tallystick import database, people, proofs, queries, tables
from tallystick.effects import Effect, Put, SetTier
from tallystick.errors import NotFound, TallyError
from tallystick.events import Event
from tallystick.hookspecs import hookimpl
from tallystick.ledger import instant, member_name
from tallystick.queries import Balance
from tallystick.situation import Needs, Situation


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    books = Books(database_url)
    for name in ("ann", "annie", "bob"):
        books.enrol(name)
    yield books
    with database.reading(books.db) as conn:
        assert proofs.verify(conn).findings == ()
    books.db.dispose()


def number(books: Books, name: str) -> int:
    """Whoever has the card, merged or not."""
    alias = tables.alias
    from tallystick.vault import fingerprint

    with database.reading(books.db) as conn:
        found = conn.scalar(sa.select(alias.c.member).where(alias.c.fingerprint == fingerprint(SECRET, TENANT, name)))
    assert found is not None
    return found


def balance(books: Books, name: str) -> Balance:
    with database.reading(books.db) as conn:
        found = queries.balances(conn, TENANT, number(books, name), instant(books.now))
    return found.get("points", Balance(unit="points", posted=0, usable=0, pending=0, due=0, deficit=0))


def merge(books: Books, source: str, into: str) -> str:
    return books.record("member.merged", source, into=into).record.entry


def unmerge(books: Books, entry: str) -> None:
    books.record("member.unmerged", "", entry=entry)


def lots(books: Books, name: str) -> list[tuple[int, int | None]]:
    with database.reading(books.db) as conn:
        found = queries.lots(conn, TENANT, number(books, name), instant(books.now))
    return [(lot.left, lot.expires_at) for lot in found]


def test_three_cards_of_ten_twenty_and_thirty_become_one_of_sixty(books: Books) -> None:
    books.top_up("ann", 10)
    books.top_up("annie", 20, days=7)
    books.top_up("bob", 30, pending=3)
    expires = {*lots(books, "annie"), *lots(books, "ann"), *lots(books, "bob")}
    merge(books, "annie", "ann")
    merge(books, "bob", "ann")
    assert set(lots(books, "ann")) == expires
    found = balance(books, "ann")
    assert (found.posted, found.usable, found.pending) == (60, 30, 30)
    assert balance(books, "annie").posted == balance(books, "bob").posted == 0


def test_merging_again_changes_nothing(books: Books) -> None:
    books.top_up("annie", 20)
    merge(books, "annie", "ann")
    again = books.record("member.merged", "annie", into="ann").record
    assert again.transfers == ()
    assert balance(books, "ann").posted == 20
    books.top_up("annie", 5)  # the old card now fills the one account
    assert balance(books, "ann").posted == 25


def test_a_merge_undone_restores_points_and_own_rows_and_counters(books: Books) -> None:
    books.buy("annie", 2_000)
    books.top_up("annie", 20, days=7)
    before = lots(books, "annie")
    rows = {
        table: sorted(tuple(row) for row in books.rows(table) if row.member == number(books, "annie"))
        for table in (tables.own, tables.counter)
    }
    entry = merge(books, "annie", "ann")
    assert {row.name for row in books.rows(tables.own) if row.member == number(books, "ann")} == {"last"}
    visits = {row.member: row.value for row in books.rows(tables.counter) if row.name == "shop.visits"}
    assert visits[number(books, "ann")] == 1
    unmerge(books, entry)
    assert lots(books, "annie") == before
    assert balance(books, "ann").posted == 0
    assert {
        table: sorted(tuple(row) for row in books.rows(table) if row.member == number(books, "annie")) for table in rows
    } == rows
    assert not [row for row in books.rows(tables.own) if row.member == number(books, "ann")]
    assert {row.value for row in books.rows(tables.counter) if row.member == number(books, "ann")} == {0}


def test_what_was_spent_meanwhile_stays_spent(books: Books) -> None:
    books.top_up("ann", 10)
    books.top_up("annie", 20, days=7)
    entry = merge(books, "annie", "ann")
    books.spend("ann", 25)  # the expiring lot first: annie's
    unmerge(books, entry)
    assert (balance(books, "ann").posted, balance(books, "annie").posted) == (5, 0)


def test_members_part_once(books: Books) -> None:
    entry = merge(books, "annie", "ann")
    unmerge(books, entry)
    with pytest.raises(NotFound):
        unmerge(books, entry)
    with pytest.raises(TallyError):
        unmerge(books, books.top_up("ann", 1).record.entry)
    with pytest.raises(TallyError):
        unmerge(books, "1-99-0")


def test_debts_go_over_too_and_come_back(books: Books) -> None:
    books.top_up("ann", 30)
    books.buy("annie", 5_000, "o1")
    books.spend("annie", 50)
    books.refund("annie", "o1")
    assert balance(books, "annie").deficit == 50
    entry = merge(books, "annie", "ann")
    assert (balance(books, "ann").posted, balance(books, "annie").posted) == (-20, 0)
    unmerge(books, entry)
    assert (balance(books, "ann").posted, balance(books, "annie").posted) == (30, -50)


def test_a_return_of_what_was_bought_before_the_merge_takes_from_the_one_account(books: Books) -> None:
    books.buy("annie", 5_000, "o1")
    books.top_up("ann", 10)
    merge(books, "annie", "ann")
    books.refund("annie", "o1")
    assert (balance(books, "ann").posted, balance(books, "annie").posted) == (10, 0)


def test_points_that_come_back_to_a_merged_member_go_on_to_the_other(books: Books) -> None:
    books.top_up("annie", 100)
    books.buy("annie", 5_000, "o1")
    books.record("shop.spent", "annie", amount=100, order="o1")
    merge(books, "annie", "ann")
    books.refund("ann", "o1")
    assert (balance(books, "ann").posted, balance(books, "annie").posted) == (100, 0)


def test_a_statement_tells_of_the_merge_on_both_sides(books: Books) -> None:
    books.top_up("annie", 20)
    entry = merge(books, "annie", "ann")
    with database.reading(books.db) as conn:
        for name, changed in (("annie", -20), ("ann", 20)):
            line = queries.statement(conn, TENANT, number(books, name)).lines[0]
            assert (line.entry, line.changes) == (entry, {"points": changed})


def test_merged_members_answer_as_one_from_that_commit_on(books: Books) -> None:
    books.top_up("annie", 20)
    books.engine.record(
        [books.arrival("member.merged", "annie", {"into": "ann"}), books.arrival("shop.topped", "annie", {"amount": 7})]
    )
    assert (balance(books, "ann").posted, balance(books, "annie").posted) == (27, 0)
    with database.reading(books.db) as conn:
        row = people.load(conn, SECRET, TENANT, "annie")
    assert row.name == member_name(number(books, "ann"))


class Stamps(Puppet):
    """Counts visits in an own row; of two cards the stamps are added up."""

    broken = False

    def __init__(self) -> None:
        super().__init__()
        self.wants = Needs(own={"{member}": frozenset({"stamps"})})

    @hookimpl
    def earn(self, event: Event, situation: Situation) -> Sequence[Effect]:
        had = situation.own["{member}"].get("stamps", 0)
        return [Put(rule="lab.stamps", name="stamps", value=had + 1)] if event.kind == "purchase.completed" else []

    @hookimpl
    def join(self, source: Mapping[str, Any], into: Mapping[str, Any]) -> Sequence[Effect]:
        if self.broken:
            raise RuntimeError("spilled ink")
        stamps = source.get("stamps", 0) + into.get("stamps", 0)
        return [
            Put(rule="lab.stamps", name="stamps", value=stamps),
            SetTier(rule="lab.club", ladder="club", tier="high" if stamps > 2 else "low", reason="joined"),
        ]


def stamps(lab: Lab, name: str) -> dict[str, Any]:
    with database.reading(lab.db) as conn:
        found = conn.execute(
            sa.select(tables.own).where(tables.own.c.member == lab.names[name], tables.own.c.name != "")
        )
        return {row.name: msgspec.json.decode(row.value) for row in found}


@pytest.mark.parametrize("before, after", [(0, 2), (2, 4)])
def test_a_plugin_says_what_becomes_of_its_own_rows_and_they_part_again(
    database_url: str, before: int, after: int
) -> None:
    lab = Lab(database_url, puppet=Stamps())
    lab.enrol("ann")
    lab.enrol("annie")
    for n in range(before):
        lab.buy("ann", 100, f"A{n}")
    for n in range(2):
        lab.buy("annie", 100, f"B{n}")
    was = stamps(lab, "ann"), stamps(lab, "annie")
    merged = lab.do("member.merged", "annie", into="ann")
    assert stamps(lab, "ann")["stamps"] == after
    assert stamps(lab, "ann")["tier:club"]["tier"] == ("high" if after > 2 else "low")
    lab.do("member.unmerged", "", entry=merged.entry)
    assert (stamps(lab, "ann"), stamps(lab, "annie")) == was
    lab.db.dispose()


def test_what_changed_since_a_merge_stays_as_it_is(database_url: str) -> None:
    lab = Lab(database_url, puppet=Stamps())
    lab.enrol("ann")
    lab.enrol("annie")
    lab.buy("ann", 100, "A")
    lab.buy("annie", 100, "B")
    merged = lab.do("member.merged", "annie", into="ann")
    lab.buy("ann", 100, "C")
    lab.do("member.unmerged", "", entry=merged.entry)
    assert (stamps(lab, "ann")["stamps"], stamps(lab, "annie")["stamps"]) == (3, 1)
    lab.db.dispose()


def test_a_plugin_that_fails_at_a_merge_does_not_hold_it_up_and_the_record_says_so(database_url: str) -> None:
    puppet = Stamps()
    lab = Lab(database_url, puppet=puppet)
    lab.enrol("ann")
    lab.enrol("annie")
    lab.buy("annie", 100, "B")
    puppet.broken = True
    merged = lab.do("member.merged", "annie", into="ann")
    assert stamps(lab, "ann") == {"stamps": 1}
    assert (merged.more or {})["merged"]["failed"] == ["lab"]
    lab.db.dispose()
