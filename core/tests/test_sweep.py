"""Expiry by the range: what it does is what each account would have done alone, and every lot ends once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.tests.lab import START, TENANT, Lab, verdict
from tallystick import database, proofs, queries, sweep, tables
from tallystick.effects import Grant
from tallystick.ledger import Account, Lot, entry_name, instant, member_name
from tallystick.sweep import Piece


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    lab = Lab(database_url)
    lab.enrol("ann", "bob", "cat", "dan", "eve")
    yield lab
    lab.check()
    with database.reading(lab.db) as conn:
        assert proofs.verify(conn).findings == ()
    lab.db.dispose()


def accounts(lab: Lab) -> dict[tuple[int, str], Account]:
    """Every account as it stands, with all its lots."""
    found = {}
    for member, unit, posted, deficit in lab.rows("SELECT member, unit, posted, deficit FROM balance"):
        found[member, unit] = Account(member, unit, posted, deficit, stored=True)
    for m, u, entry, part, amount, left, usable_from, expires_at, sliding, waits in lab.rows(
        "SELECT member, unit, entry, part, amount, remaining, usable_from, expires_at, sliding, waits FROM lot"
    ):
        lot = Lot(entry, part, amount, left, usable_from, expires_at, bool(sliding), waits)
        found[m, u].lots[lot.key] = lot
    return found


def seen(found: dict[tuple[int, str], Account]) -> object:
    return {
        key: (account.posted, account.deficit, {name: lot.left for name, lot in account.lots.items()})
        for key, account in found.items()
    }


def live(lab: Lab, chance: random.Random) -> None:
    """Some weeks of a small shop: gains with and without an end, pending and held ones, gifts, debts, in two units."""

    def gain(event, _):  # type: ignore[no-untyped-def]
        facts = event.facts
        if event.kind == "purchase.completed":
            return [Grant(rule="lab.base", unit="points", amount=facts.total // 100)]
        return [
            Grant(
                rule="lab.gain", unit=unit, amount=facts.amount, sliding=chance.random() < 0.2,
                expires_at=event.received + timedelta(days=facts.days) if facts.days else None,
                usable_from=event.received + timedelta(days=chance.choice([1, 40])) if chance.random() < 0.2 else None,
            )
            for unit in chance.choice([["points"], ["points", "stamps"]])
        ]  # fmt: skip

    lab.puppet.on("earn", gain)
    for n in range(40):
        who, to = chance.sample(["ann", "bob", "cat", "dan", "eve"], 2)
        what = chance.randrange(10)
        lab.puppet.scripts.pop("review", None)
        if what < 6:
            if what == 5:
                lab.puppet.on("review", verdict("hold"))
            lab.engine.record(
                [lab.arrival("lab.did", who, amount=chance.randrange(1, 90), days=chance.choice([0, 1, 2, 9]))]
            )
        elif what < 7:
            lab.engine.record([lab.arrival("lab.given", who, amount=chance.randrange(1, 40), to=to)])
        elif what < 8:
            lab.engine.record([lab.arrival("lab.spent", who, amount=chance.randrange(1, 40))])
        else:
            lab.engine.record([lab.bought(who, 2_000, f"R{n}")])
            lab.engine.record([lab.arrival("lab.spent", who, amount=15), lab.returned(f"R{n}")])
        lab.wait(hours=chance.randrange(30))


@pytest.mark.parametrize("seed", range(8))
def test_a_sweep_of_everybody_is_what_each_account_would_have_done_alone(
    database_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    lab = Lab(database_url, units={"stamps": {}}, shortfall="negative")
    lab.enrol("ann", "bob", "cat", "dan", "eve")
    live(lab, chance)
    at = instant(lab.now)
    wanted, taken = accounts(lab), {}
    for account in wanted.values():
        for lot, amount in account.expire(at):
            taken[f"{entry_name(lot.entry)}.{lot.part}"] = amount
    # in one piece, or in many of a few lots
    monkeypatch.setattr(sweep, "AT_ONCE", chance.choice([1, 3, 20_000]))
    monkeypatch.setattr(sweep, "PER_PAGE", chance.choice([1, 2, 100]))
    members = lab.sweep()
    assert seen(accounts(lab)) == seen(wanted)
    assert dict(lab.rows("SELECT lot, amount FROM transfer t JOIN record r ON r.entry = t.entry WHERE r.member = 0 AND rule = 'core.expire'")) == taken  # fmt: skip
    assert members == len({account.member for account in wanted.values() for lot in account.lots.values() if f"{entry_name(lot.entry)}.{lot.part}" in taken})  # fmt: skip
    assert lab.sweep() == 0
    lab.check()
    with lab.db.begin() as conn:
        assert proofs.verify(conn).findings == ()
        proofs.rebuild(conn, TENANT)
        assert proofs.verify(conn).findings == ()
    assert seen(accounts(lab)) == seen(wanted)
    lab.db.dispose()


def test_a_page_of_many_is_one_line_in_each_members_statement(lab: Lab) -> None:
    for name, amount in (("ann", 10), ("bob", 20), ("cat", 30)):
        lab.gain(name, amount, days=10)
        lab.gain(name, 1, days=0)
    lab.wait(days=11)
    assert lab.sweep() == 3
    with database.reading(lab.db) as conn:
        line = queries.statement(conn, TENANT, lab.names["bob"]).lines[0]
        assert (line.kind, line.own, line.changes) == ("lots.expired", False, {"points": -20})
        assert [each.debit for each in line.transfers] == [member_name(lab.names["bob"])], "nobody else's"
        told = queries.explain(conn, TENANT, (1 << 51) | (7 << 12))
        assert told.record.entry == line.entry
        assert [(step.rule, step.data) for step in told.steps] == [
            ("core.expire", {"due": instant(lab.now), "lots": 3})
        ]
        at = queries.balances_at(conn, TENANT, lab.names["bob"], instant(lab.now) - 1)["points"]
        assert (at.usable, at.due) == (1, 20), "until then it was only due"


def test_what_is_held_does_not_expire_and_ends_the_search_for_what_is_due(lab: Lab) -> None:
    lab.puppet.on("review", verdict("hold"))
    lab.engine.record([lab.arrival("lab.did", "ann", amount=10, days=1)])
    lab.wait(days=2)
    assert (lab.engine.due(TENANT, instant(lab.now)), lab.sweep()) == ([], 0)


def test_a_clock_that_is_set_back_between_the_question_and_the_sweep_expires_nothing_early(lab: Lab) -> None:
    """The job asked what is due while the clock was ten days ahead; by the time it sweeps somebody has put that right."""
    lab.gain("ann", 10, days=5)
    lab.wait(days=10)
    asked = instant(lab.now)
    pieces = lab.engine.due(TENANT, asked)
    lab.wait(days=-9)
    assert [lab.engine.sweep(TENANT, piece, asked) for piece in pieces] == [0]
    assert lab.usable("ann") == 10
    lab.wait(days=9)
    assert lab.sweep() == 1


def test_a_piece_with_too_much_is_halved(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ann", "bob", "cat", "dan", "eve"):
        lab.gain(name, 10, days=1)
    lab.wait(days=2)
    monkeypatch.setattr(sweep, "PER_PAGE", 1)
    monkeypatch.setattr(sweep, "MAX_BATCH", 2)
    assert lab.engine.sweep(TENANT, Piece(), instant(lab.now)) == 5
    assert lab.accounts() == {"issued": -50, "expired": 50}


def test_each_lot_expires_once_though_several_sweep_while_members_spend(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I19: writers over the same members in small pieces, and members who spend meanwhile."""
    monkeypatch.setattr(sweep, "AT_ONCE", 7)
    names = [f"member-{n}" for n in range(60)]
    lab.enrol(*names)
    for days in (10, 0):
        lab.engine.record([lab.arrival("lab.did", name, amount=10, days=days) for name in names])
    lab.wait(days=11)
    start = threading.Barrier(4)
    engines = [lab.writer(number) for number in (2, 3, 4)]
    spends = [lab.arrival("lab.spent", name, amount=3) for name in names]

    def expire(number: int) -> None:
        start.wait()
        engines[number].expire(TENANT)

    def spend() -> None:
        start.wait()
        for n in range(0, 60, 5):
            for outcome in lab.engine.record(spends[n : n + 5]):
                assert not isinstance(outcome, Exception), outcome

    threads = [threading.Thread(target=expire, args=(n,)) for n in range(3)] + [threading.Thread(target=spend)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lab.engine.due(TENANT, instant(lab.now)) == []
    assert lab.accounts()["expired"] == 600
    assert lab.rows(
        "SELECT max(n), count(*) FROM (SELECT count(*) AS n FROM transfer WHERE credit = 'expired' GROUP BY lot) AS t"
    ) == [(1, 60)]


SCHEDULER = """
import sys
from datetime import timedelta
from core.tests.lab import START, TENANT, Lab
from tallystick import engine, sweep
sweep.AT_ONCE, engine.PATIENCE = 20, 120.0
lab = Lab(sys.argv[1], fresh=False)
lab.now = START + timedelta(days=11)
mine = lab.writer(int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
mine.expire(TENANT)
"""


def test_two_schedulers_of_which_one_is_killed_in_the_middle_expire_each_lot_once(lab: Lab) -> None:
    count = 2_000
    names = [f"member-{n}" for n in range(count)]
    lab.enrol(*names)
    lab.engine.record([lab.arrival("lab.did", name, amount=10, days=10) for name in names])
    root = Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "core"), *sys.path])}
    schedulers = [
        subprocess.Popen(
            [sys.executable, "-c", SCHEDULER, lab.url, str(number)], env=environ, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for number in (2, 3)
    ]  # fmt: skip
    for scheduler in schedulers:
        assert scheduler.stdout is not None and scheduler.stdout.readline() == "ready\n"
    for scheduler in schedulers:
        assert scheduler.stdin is not None
        scheduler.stdin.write("go\n")
        scheduler.stdin.flush()
    while not lab.rows("SELECT 1 FROM transfer WHERE credit = 'expired' AND entry >= :e LIMIT 1", e=2 << 51):
        time.sleep(0.002)
    schedulers[0].send_signal(signal.SIGKILL)
    for scheduler in reversed(schedulers):
        scheduler.communicate(timeout=300)
    assert schedulers[1].returncode == 0
    lab.now = START + timedelta(days=11)
    lab.sweep()  # what the killed one left, the next turn does
    assert lab.rows("SELECT count(*), count(DISTINCT lot), sum(amount) FROM transfer WHERE credit = 'expired'") == [
        (count, count, 10 * count)
    ]
    with lab.db.begin() as conn:
        assert conn.scalar(sa.select(sa.func.sum(tables.balance.c.posted))) == 0
