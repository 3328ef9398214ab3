"""What may be asked of the books, on both databases, of books that the real engine keeps."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from core.tests.books import SECRET, START, TENANT, Books
from tallystick import database, people, queries, tables
from tallystick.errors import UnknownEntry
from tallystick.ledger import instant, member_name, parse_entry
from tallystick.queries import Balance, Expiring, Leader, RuleUse

DAY = 86_400_000_000


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    books = Books(database_url)
    yield books
    books.db.dispose()


@pytest.fixture
def ann(books: Books) -> int:
    return books.enrol("ann")


@pytest.fixture
def bob(books: Books) -> int:
    return books.enrol("bob")


def balance(books: Books, member: int) -> Balance:
    with database.reading(books.db) as conn:
        return queries.balances(conn, TENANT, member, instant(books.now))["points"]


def balance_at(books: Books, member: int, at: int) -> Balance | None:
    with database.reading(books.db) as conn:
        return queries.balances_at(conn, TENANT, member, at).get("points")


def parts(balance: Balance) -> dict[str, int]:
    return {name: getattr(balance, name) for name in ("posted", "usable", "pending", "due", "deficit")}


# --- balances


def test_points_past_their_expiry_are_not_usable_though_nothing_swept_them(books: Books, ann: int) -> None:
    """Semantics 32."""
    books.top_up("ann", 100, days=10)
    books.top_up("ann", 50)
    books.top_up("ann", 7, pending=3)
    assert parts(balance(books, ann)) == {"posted": 157, "usable": 150, "pending": 7, "due": 0, "deficit": 0}
    books.wait(days=3)
    assert parts(balance(books, ann)) == {"posted": 157, "usable": 157, "pending": 0, "due": 0, "deficit": 0}
    books.wait(days=7)
    assert parts(balance(books, ann)) == {"posted": 157, "usable": 57, "pending": 0, "due": 100, "deficit": 0}
    books.engine.expire(TENANT)
    assert parts(balance(books, ann)) == {"posted": 57, "usable": 57, "pending": 0, "due": 0, "deficit": 0}


def test_a_deficit_lowers_what_is_usable(books: Books, ann: int) -> None:
    books.buy("ann", 10_000, "o1")
    books.spend("ann", 60)
    books.refund("ann", "o1")
    assert parts(balance(books, ann)) == {"posted": -60, "usable": -60, "pending": 0, "due": 0, "deficit": 60}
    books.top_up("ann", 100)
    assert parts(balance(books, ann)) == {"posted": 40, "usable": 40, "pending": 0, "due": 0, "deficit": 0}


def test_nothing_is_known_of_a_member_without_entries_or_of_another_tenants(books: Books, ann: int, bob: int) -> None:
    books.buy("ann", 10_000)
    with database.reading(books.db) as conn:
        assert queries.balances(conn, TENANT, bob, 0) == {}
        assert queries.balances(conn, "other", ann, 0) == {}
        both = queries.balances_of(conn, TENANT, {ann, bob}, 0)
        assert both == {ann: queries.balances(conn, TENANT, ann, 0)} and queries.balances_of(conn, TENANT, (), 0) == {}
        assert queries.balances_at(conn, "other", ann, 1 << 60) == {}
        assert queries.lots(conn, "other", ann, 0) == []
        assert queries.statement(conn, "other", ann).lines == ()
        assert queries.sums(conn, "other", 0) == {}


@pytest.mark.parametrize("seed", range(2))
def test_a_past_balance_is_what_was_usable_then(books: Books, ann: int, bob: int, seed: int) -> None:
    """Semantics 33, over two months of everything that can happen to a lot, two writers and a late sweep among it."""
    seen: list[tuple[int, int, Balance]] = []

    def look() -> None:
        with database.reading(books.db) as conn:
            now = instant(books.now)
            for number in (ann, bob):
                found = queries.balances(conn, TENANT, number, now)
                seen.extend((now, number, balance) for balance in found.values())

    books.wander(seed, 70, look)
    assert len(seen) > 100
    for at, number, then in seen:
        assert balance_at(books, number, at) == then
    assert balance_at(books, ann, instant(START) - 1) is None


def test_points_given_back_into_an_expired_lot_stay_usable_for_the_grace_days(database_url: str) -> None:
    books = Books(database_url, grace_days=5)
    ann = books.enrol("ann")
    books.buy("ann", 1_000, "o1")
    books.top_up("ann", 100, days=10)
    books.record("shop.spent", "ann", amount=100, order="o1")
    books.wait(days=20)
    before = instant(books.now)
    books.wait(hours=1)
    books.refund("ann", "o1", amount=500)
    after, then = instant(books.now), balance(books, ann)
    books.wait(days=6)
    assert then.usable == 10 - 5 + 50
    assert balance_at(books, ann, after) == then
    past = balance_at(books, ann, before)
    assert past is not None
    assert parts(past) == {"posted": 10, "usable": 10, "pending": 0, "due": 0, "deficit": 0}
    assert balance(books, ann).due == 50
    books.db.dispose()


def test_what_has_expired_does_not_come_back_with_an_extension(books: Books, ann: int) -> None:
    books.top_up("ann", 10, days=5, sliding=True)
    books.wait(days=4)
    books.top_up("ann", 20, days=5, sliding=True)
    books.wait(days=2)
    books.record("shop.extended", "ann", days=30)
    books.wait(days=20)
    assert parts(balance(books, ann)) == {"posted": 30, "usable": 20, "pending": 0, "due": 10, "deficit": 0}


# --- lots


def test_lots_stand_in_the_order_in_which_they_are_spent(books: Books, ann: int) -> None:
    books.top_up("ann", 1)
    books.top_up("ann", 2, days=20)
    books.top_up("ann", 3, days=10)
    books.top_up("ann", 4, days=10, pending=5)
    books.spend("ann", 3)
    books.wait(days=2)
    with database.reading(books.db) as conn:
        found = queries.lots(conn, TENANT, ann, instant(books.now))
        everything = queries.lots(conn, TENANT, ann, instant(books.now), spent=True)
    assert [(lot.amount, lot.state, lot.expires_at is None) for lot in found] == [
        (4, "pending", False), (2, "usable", False), (1, "usable", True),
    ]  # fmt: skip
    assert (everything[0].amount, everything[0].left, everything[0].state) == (3, 0, "spent")


def test_every_batch_that_expires_soon_is_listed(books: Books, ann: int, bob: int) -> None:
    """Semantics 38: 100 in February, 200 in June, 50 never: by 1 March 100, by 1 July 300."""

    def day(month: int, day: int) -> int:
        return instant(datetime(2025, month, day, tzinfo=UTC))

    books.top_up("ann", 100, days=45)
    books.top_up("ann", 120, days=160)
    books.top_up("ann", 80, days=160)
    books.top_up("ann", 50)
    books.top_up("bob", 5, days=3)
    now = instant(books.now)
    february, june = now + 45 * DAY, now + 160 * DAY
    with database.reading(books.db) as conn:
        by_march = queries.expiring(conn, TENANT, ann, now, day(3, 1))
        by_july = queries.expiring(conn, TENANT, ann, now, day(7, 1))
        assert queries.expiring(conn, TENANT, ann, now + 400 * DAY, now + 500 * DAY) == []
        soon = queries.members_expiring(conn, TENANT, "points", now, day(7, 1))
        second = queries.members_expiring(conn, TENANT, "points", now, day(7, 1), after=min(ann, bob))
    first = Expiring(unit="points", expires_at=february, amount=100, total=100)
    assert by_march == [first]
    assert by_july == [first, Expiring(unit="points", expires_at=june, amount=200, total=300)]
    assert soon == sorted([(ann, february, 300), (bob, now + 3 * DAY, 5)])
    assert second == soon[1:]


# --- the journal


def test_a_statement_pages_backwards_without_gaps_or_repeats(books: Books, ann: int, bob: int) -> None:
    second = books.writer(2)
    for n in range(7):
        books.record("shop.topped", "ann", amount=n + 1, engine=second if n % 2 else None)
        if n % 3:
            books.wait(minutes=1)
    books.give("ann", "bob", 3)
    books.give("bob", "ann", 1)
    found, after = [], None
    with database.reading(books.db) as conn:
        while True:
            page = queries.statement(conn, TENANT, ann, after=after, limit=2)
            assert len(page.lines) <= 2
            found += page.lines
            if page.next is None:
                break
            after = page.next
        whole = queries.statement(conn, TENANT, ann, limit=500)
    assert tuple(found) == whole.lines
    assert [line.changes["points"] for line in found][:2] == [1, -3]
    assert sorted(line.changes["points"] for line in found) == [-3, 1, 1, 2, 3, 4, 5, 6, 7]
    assert [line.own for line in found] == [False, *[True] * 8]
    assert [line.received for line in found] == sorted([line.received for line in found], reverse=True)


@pytest.mark.parametrize("after", ["", "x", "1", "-", "1-x", "9" * 30 + "-1", "1-" + "9" * 30, "²-1"])
def test_nonsense_as_a_place_in_a_statement_is_refused(books: Books, ann: int, after: str) -> None:
    with database.reading(books.db) as conn, pytest.raises(UnknownEntry):
        queries.statement(conn, TENANT, ann, after=after)


def test_a_statement_tells_of_anothers_entry_only_what_moved_the_own_points(books: Books, ann: int, bob: int) -> None:
    books.buy("ann", 5_000, "secret-order")
    books.give("ann", "bob", 20)
    with database.reading(books.db) as conn:
        (line,) = queries.statement(conn, TENANT, bob).lines
    assert (line.own, line.changes, line.order) == (False, {"points": 20}, "")
    assert [transfer.credit for transfer in line.transfers] == [member_name(bob)]


def test_an_explanation_names_rule_version_numbers_and_what_was_taken_back(books: Books, ann: int) -> None:
    sale = books.buy("ann", 10_000, "o1")
    refund = books.refund("ann", "o1", amount=2_500)
    entry = parse_entry(sale.record.entry)
    assert entry is not None
    with database.reading(books.db) as conn:
        found = queries.explain(conn, TENANT, entry)
        facts = queries.load_facts(conn, SECRET, TENANT, entry)
    (step,) = found.steps
    assert (step.rule, step.version, step.amount) == ("shop.purchase", "1.0", 100)
    assert found.taken_back == (25,)
    assert found.related == (refund.record.entry,)
    assert facts["data"]["order"] == "o1"


def test_an_entry_of_another_tenant_is_as_unknown_as_none(books: Books, ann: int) -> None:
    entry = parse_entry(books.buy("ann", 100).record.entry)
    assert entry is not None
    with database.reading(books.db) as conn:
        for ask in (queries.load_record, queries.explain):
            with pytest.raises(UnknownEntry):
                ask(conn, "other", entry)
            with pytest.raises(UnknownEntry):
                ask(conn, TENANT, entry + 1)
        with pytest.raises(UnknownEntry):
            queries.load_facts(conn, SECRET, "other", entry)


def test_facts_of_a_guest_open_with_the_house_and_of_a_forgotten_member_never(books: Books, ann: int) -> None:
    guest = parse_entry(books.buy("", 100, "g1").record.entry)
    sale = parse_entry(books.buy("ann", 100, "o1").record.entry)
    assert guest is not None
    assert sale is not None
    with books.db.begin() as conn:
        people.erase(conn, TENANT, ann, 0)
        assert queries.load_facts(conn, SECRET, TENANT, guest)["data"]["order"] == "g1"
        assert queries.load_facts(conn, SECRET, TENANT, sale) is None


# --- the whole in numbers


def test_all_that_was_issued_is_somewhere(books: Books, ann: int, bob: int) -> None:
    """I3."""
    books.buy("ann", 10_000, "o1")
    books.buy("bob", 4_000, "o2")
    books.top_up("ann", 30, days=2)
    books.top_up("ann", 9, pending=90)
    books.spend("bob", 15)
    books.give("ann", "bob", 5)
    books.refund("bob", "o2")
    books.wait(days=40)
    books.top_up("bob", 1)
    with database.reading(books.db) as conn:
        found = queries.sums(conn, TENANT, instant(books.now))["points"]
    assert found.issued == 100 + 40 + 30 + 9 + 1
    assert (
        found.issued
        == found.redeemed + found.expired + found.reversed + found.held + found.elsewhere + found.outstanding
    )
    assert found.outstanding == found.usable + found.pending + found.due - found.deficit
    assert (found.redeemed, found.reversed, found.pending) == (15, 40, 9)


def test_leaders_are_who_can_spend_most_now(books: Books, ann: int, bob: int) -> None:
    books.top_up("ann", 100, days=5)
    books.top_up("ann", 10)
    books.top_up("bob", 50)
    with database.reading(books.db) as conn:
        early = queries.leaders(conn, TENANT, "points", instant(books.now))
        late = queries.leaders(conn, TENANT, "points", instant(books.now) + 6 * DAY)
        best = queries.best_members(conn, TENANT, "points", limit=1)
    a, b = member_name(ann), member_name(bob)
    assert early == [Leader(member=a, amount=110), Leader(member=b, amount=50)]
    assert late == [Leader(member=b, amount=50), Leader(member=a, amount=10)]
    assert best == [Leader(member=a, amount=110)]


def test_the_busiest_rules_and_days_add_up(books: Books, ann: int) -> None:
    books.buy("ann", 1_000)
    books.top_up("ann", 5)
    books.wait(days=1)
    books.buy("ann", 2_000)
    books.spend("ann", 8)
    with database.reading(books.db) as conn:
        rules = queries.busiest_rules(conn, TENANT)
        days = queries.days(conn, TENANT, "points", 0, 1 << 62)
        assert queries.days(conn, TENANT, "points", 0, instant(START)) == []
    assert rules == [
        RuleUse(rule="shop.purchase", unit="points", times=2, amount=30),
        RuleUse(rule="shop.top_up", unit="points", times=1, amount=5),
    ]
    assert [(day.issued, day.redeemed) for day in days] == [(15, 0), (20, 8)]
    assert days[1].day == days[0].day + 1


def test_versions_of_the_programme_are_kept_in_order(books: Books) -> None:
    rows = [
        {
            "tenant": TENANT,
            "generation": n,
            "hash": f"h{n}",
            "document": f'{{"n":{n}}}',
            "plugins": '{"shop":"1.0"}',
            "since": n * 10,
        }
        for n in (2, 1)
    ]
    with books.db.begin() as conn:
        conn.execute(sa.insert(tables.programme), rows)
        found = queries.programmes(conn, TENANT)
        assert queries.find_programme(conn, TENANT, 3) is None
    assert [(each.generation, each.hash, each.document, each.plugins) for each in found] == [
        (1, "h1", {"n": 1}, {"shop": "1.0"}),
        (2, "h2", {"n": 2}, {"shop": "1.0"}),
    ]


def test_members_who_left_are_not_counted(books: Books, ann: int, bob: int) -> None:
    with books.db.begin() as conn:
        people.erase(conn, TENANT, bob, 0)
        assert queries.count_members(conn, TENANT) == 1
