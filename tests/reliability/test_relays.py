"""What follows a commit follows it whatever dies on the way: inside the database once, outside at least once, in order."""

import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.tests.lab import Lab
from tallystick import database, outbox
from tallystick.effects import Grant, Notify
from tallystick.engine import Engine, Receipt
from tallystick.errors import Unavailable
from tallystick.events import Arrival
from tallystick.outbox import Committed

KILLS = int(os.environ.get("TALLY_RELAYS", "15"))
PER_KILL = 12
#: Many: the lots of a member who gets everything are read at every event, and a thousand kills would take hours.
MEMBERS = [f"n{n}" for n in range(50)]


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    lab = Lab(database_url)
    lab.enrol(*MEMBERS)
    lab.puppet.on(
        "earn",
        lambda event, _: [
            Grant(rule="lab.base", unit="points", amount=1),
            Notify(rule="lab.thanks", template="thanks", facts={}, key=event.id),
        ],
    )
    with lab.db.begin() as conn:
        conn.execute(sa.text("CREATE TABLE told (place INTEGER, writer INTEGER, number INTEGER, body VARCHAR(200))"))
    yield lab
    lab.check()
    lab.db.dispose()


def in_a_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a child says what went wrong and ends here, whatever it is
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(1)
    return child


def tell_inside(lab: Lab) -> None:
    """A consumer that writes what it makes of a batch into the same database."""
    mine = Lab(lab.url, fresh=False)

    def take(conn: sa.Connection, batches: Sequence[Committed]) -> None:
        place = conn.scalar(sa.text("SELECT count(*) FROM told")) or 0
        for batch in batches:
            for intent in batch.intents:
                row = {"p": place, "w": batch.writer, "n": batch.number, "b": intent.key}
                conn.execute(sa.text("INSERT INTO told VALUES (:p, :w, :n, :b)"), row)
                place += 1

    while True:
        if not outbox.relay(mine.db, "lab.inside", take, limit=3):
            time.sleep(0.002)


def tell_outside(lab: Lab, file: Path) -> None:
    """A consumer that acts where no transaction reaches."""
    mine = Lab(lab.url, fresh=False)
    while True:
        batches = outbox.unseen(mine.db, "lab.outside", limit=3, channel="notify")
        if not batches:
            time.sleep(0.002)
        with file.open("a") as out:
            for batch in batches:
                out.writelines(f"{batch.writer} {batch.number} {intent.key}\n" for intent in batch.intents)
        outbox.advance(mine.db, "lab.outside", batches)


def send(engine: Engine, arrival: Arrival) -> None:
    """As a till does: a database that is busy is asked again."""
    while isinstance(outcome := engine.record([arrival])[0], Unavailable):
        pass
    assert isinstance(outcome, Receipt), outcome


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_consumer_that_is_killed_misses_nothing(lab: Lab, where: str, tmp_path: Path) -> None:
    """I5: two writers go on meanwhile, and relays of one consumer stand in each other's way."""
    chance = random.Random(11)
    file = tmp_path / "told"
    file.touch()
    work = (lambda: tell_inside(lab)) if where == "inside" else (lambda: tell_outside(lab, file))
    engines = [lab.writer(1), lab.writer(2)]
    sent: list[str] = []
    lab.db.dispose()  # a forked process has no business on our connections
    for _ in range(KILLS):
        child = in_a_child(work)
        killer = threading.Timer(chance.uniform(0.02, 0.15), os.kill, (child, signal.SIGKILL))
        killer.start()
        for _ in range(PER_KILL):
            name = f"n{len(sent)}"
            send(chance.choice(engines), lab.bought(MEMBERS[len(sent) % len(MEMBERS)], 100, name, id=name))
            sent.append(name)
        killer.join()
        os.waitpid(child, 0)
        lab.db.dispose()
    told = finish(lab, where, file)
    assert {key for _, _, key in told} == set(sent)
    if where == "inside":
        assert len(told) == len(sent), "told twice"
    first = list(dict.fromkeys(told))
    for writer in (1, 2):
        numbers = [number for w, number, _ in first if w == writer]
        assert numbers == sorted(numbers), "told out of order"


def behind(lab: Lab, consumer: str) -> int:
    """How much *consumer* has not seen yet: a look that takes no turn from the one who is looked at."""
    with database.reading(lab.db) as conn:
        return outbox.behind(conn, consumer)


def finish(lab: Lab, where: str, file: Path) -> list[tuple[int, int, str]]:
    """Let a last consumer come to the end; what was told, in the order in which it was."""
    work = (lambda: tell_inside(lab)) if where == "inside" else (lambda: tell_outside(lab, file))
    child = in_a_child(work)
    while behind(lab, f"lab.{where}"):
        if os.waitpid(child, os.WNOHANG) != (0, 0):  # the database was too busy for it
            lab.db.dispose()
            child = in_a_child(work)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if where == "inside":
        return [(w, n, b) for w, n, b in lab.rows("SELECT writer, number, body FROM told ORDER BY place")]
    return [(int(w), int(n), key) for w, n, key in map(str.split, file.read_text().splitlines())]
