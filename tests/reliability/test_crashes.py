"""Nothing acknowledged is lost, nothing is doubled and nothing is half done: kill -9, crash at every write, errors of the disk
(I5, I7, I8, I10, S04, S05, S10).
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest
import sqlalchemy as sa

from core.tests.lab import Lab
from tallystick import database, proofs
from tallystick.engine import Outcome, Receipt
from tallystick.errors import TallyError, Unavailable
from tests.reliability import worker

CYCLES = int(os.environ.get("TALLY_CRASHES", "40"))


def prepare(url: str) -> None:
    lab = Lab(url)
    lab.enrol(*worker.MEMBERS)
    for name in worker.MEMBERS:
        lab.gain(name, 1_000)
    lab.db.dispose()


def start(url: str, first: int, count: int) -> tuple[int, BinaryIO]:
    """A writer in a process of its own (forked: it need not import everything again), and what it says."""
    hear, say = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(say, 1)
            worker.main([url, str(first), str(count)])
        except BaseException:  # noqa: BLE001 - a child says what went wrong and ends here, whatever it is
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(1)
    os.close(say)
    return child, os.fdopen(hear, "rb")


def ids(lab: Lab) -> list[str]:
    return [record.id for record in lab.records() if record.id.startswith("n")]


def verify(lab: Lab) -> None:
    lab.check()
    with database.reading(lab.db) as conn:
        report = proofs.verify(conn)
    assert report.findings == ()


# -- kill -9 ----------------------------------------------------------------------------------------------------------


def test_kill_9_loses_and_doubles_nothing(database_url: str) -> None:
    """I5, S04: a writer process is killed at any moment, started anew, and sent what it did not answer."""
    prepare(database_url)
    chance = random.Random(5)
    acknowledged: set[str] = set()
    first = 0
    for cycle in range(CYCLES):
        child, said = start(database_url, first, 100_000)
        with said:
            assert said.readline() == b"ready\n"
            lines: list[str] = []
            # on a busy machine, too, half of them come to something new
            while cycle % 2 and len(set(lines) - acknowledged) < 3:
                lines.append(said.readline().decode().removesuffix("\n"))
            killer = threading.Timer(chance.uniform(0.01, 0.2), os.kill, (child, signal.SIGKILL))
            killer.start()
            lines += said.read().decode().split("\n")[:-1]
        killer.join()
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        acknowledged.update(lines)
        done = [int(name[1:]) for name in acknowledged]
        first = max(0, max(done, default=0) - 10)  # the last ones are sent again, answered or not
    lab = Lab(database_url, fresh=False)
    found = ids(lab)
    assert len(found) == len(set(found)), "an event was recorded twice"
    assert acknowledged <= set(found), "an acknowledged event is gone"
    assert len(acknowledged) > CYCLES
    last = lab.engine.record([worker.event(lab, n) for n in range(first, first + 40)])
    assert not [outcome for outcome in last if isinstance(outcome, TallyError)]
    verify(lab)
    lab.db.dispose()


# -- a crash at every write -------------------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[Lab], list[Outcome]]] = {
    "earn": lambda lab: lab.try_all(lab.bought("ann", 5_000, "new", id="n1")),
    "spend": lambda lab: lab.try_all(lab.arrival("lab.spent", "ann", amount=100, order="A", id="n1")),
    "gift": lambda lab: lab.try_all(lab.arrival("lab.given", "ann", amount=100, to="bob", id="n1")),
    "refund": lambda lab: lab.try_all(lab.returned("A", id="n1")),
    "crowd": lambda lab: lab.engine.record([worker.event(lab, n) for n in range(40)]),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with something in it, to be copied for every crash."""
    file = tmp_path_factory.mktemp("shop") / "shop.db"
    prepare(f"sqlite:///{file}")
    lab = Lab(f"sqlite:///{file}", fresh=False)
    lab.spend("bob", 10, order="A", id="paid")
    lab.buy("ann", 9_999, "A", id="sold")
    database.checkpoint(lab.db, truncate=True)
    lab.db.dispose()
    return file


def in_a_child(file: Path, operation: str, strace: Sequence[str]) -> tuple[int, bytes]:
    """Run *operation* in a forked process under strace; how it ended (negative: by which signal), and what it said."""
    wait, go = os.pipe()
    hear, say = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            lab = Lab(f"sqlite:///{file}", fresh=False)
            os.write(say, b"ready")
            os.read(wait, 1)
            for outcome in OPERATIONS[operation](lab):
                os.write(say, b"R" if isinstance(outcome, Receipt) else b"-")
            code = 0
        except BaseException:  # noqa: BLE001 - a child says what went wrong and ends here, whatever it is
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    os.close(say)
    os.close(wait)
    os.read(hear, 5)
    with subprocess.Popen([*strace, "-p", str(child)], stderr=subprocess.PIPE) as tracer, os.fdopen(hear, "rb") as said:
        assert tracer.stderr is not None
        attached = tracer.stderr.readline()
        os.write(go, b"x")
        os.close(go)
        _, status = os.waitpid(child, 0)
        heard = said.read()
        assert b"attached" in attached, attached
    return os.waitstatus_to_exitcode(status), heard


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_a_crash_between_any_two_writes_leaves_all_or_nothing(
    operation: str, call: str, shop: Path, tmp_path: Path, debian_tool: Callable[[str, str], str]
) -> None:
    """I7: the n-th write of the operation kills it, for every n there is."""
    strace = debian_tool("strace", "strace")
    step = 7 if operation == "crowd" else 1
    for n in range(1, 400, step):
        file = tmp_path / f"{n}.db"
        shutil.copy(shop, file)
        code, heard = in_a_child(
            file,
            operation,
            [strace, "-f", "-o", "/dev/null", f"-einject={call}:signal=KILL:when={n}", f"-etrace={call}"],
        )
        lab = Lab(f"sqlite:///{file}", fresh=False)
        before = ids(lab)
        assert len(before) in (0, 40 if operation == "crowd" else 1), "half of a batch"
        assert len(before) >= heard.count(b"R"), "an acknowledged event is gone"
        again = OPERATIONS[operation](lab)
        assert all(isinstance(outcome, Receipt) and outcome.repeated == bool(before) for outcome in again)
        verify(lab)
        lab.db.dispose()
        if code == 0:
            assert n > 1, "nothing was ever written"
            return
        assert code == -signal.SIGKILL
    raise AssertionError("the writes never end")


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call, when", [("pwrite64", "30+97"), ("fdatasync", "3+9")])
def test_errors_of_the_disk_are_refusals_and_nothing_refused_is_there(
    call: str, when: str, error: str, shop: Path, tmp_path: Path, debian_tool: Callable[[str, str], str]
) -> None:
    """I8, S10: now and then a write fails.  What was acknowledged is there, exactly that, and it goes on without a restart."""
    strace = debian_tool("strace", "strace")
    file = tmp_path / "house.db"
    shutil.copy(shop, file)
    OPERATIONS["alone"] = lambda lab: [lab.engine.record([worker.event(lab, n)])[0] for n in range(40)]
    code, heard = in_a_child(
        file,
        "alone",
        [strace, "-f", "-o", "/dev/null", f"-einject={call}:error={error}:when={when}", f"-etrace={call}"],
    )
    assert code == 0
    assert 0 < heard.count(b"R") < 40
    lab = Lab(f"sqlite:///{file}", fresh=False)
    assert sorted(ids(lab)) == sorted(f"n{n}" for n in range(40) if heard[n : n + 1] == b"R")
    verify(lab)
    lab.db.dispose()


def test_a_full_disk_refuses_and_an_emptied_one_goes_on(shop: Path, tmp_path: Path) -> None:
    """S10: readable all the while, and no restart."""
    file = tmp_path / "house.db"
    shutil.copy(shop, file)
    lab = Lab(f"sqlite:///{file}", fresh=False)
    full = [True]

    def limit(driver: sa.engine.interfaces.DBAPIConnection, *_: object) -> None:
        pages = driver.execute("PRAGMA page_count").fetchone()[0]
        driver.execute(f"PRAGMA max_page_count = {pages if full[0] else 1 << 30}").fetchone()

    sa.event.listen(lab.db, "checkout", limit)
    outcomes = [lab.engine.record([worker.event(lab, n)])[0] for n in range(60)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert refused
    assert all(outcome.retry_after for outcome in refused)
    assert len(ids(lab)) == len(outcomes) - len(refused)
    full[0] = False
    again = [lab.engine.record([worker.event(lab, n)])[0] for n in range(60)]
    assert all(isinstance(outcome, Receipt) for outcome in again)
    verify(lab)
    lab.db.dispose()


# -- the lost answer --------------------------------------------------------------------------------------------------


class Proxy:
    """Stands between the house and PostgreSQL and cuts connections around COMMIT: before it was passed on, or after."""

    def __init__(self, target: str, folder: Path, seed: int) -> None:
        self.target, self.chance = target, random.Random(seed)
        self.cuts = {"before": 0, "after": 0}
        self.rate = 0.1
        folder.mkdir()
        self.door = socket.socket(socket.AF_UNIX)
        self.door.bind(str(folder / ".s.PGSQL.5432"))
        self.door.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.door.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.target)
            threading.Thread(target=self._back, args=(server, client), daemon=True).start()
            threading.Thread(target=self._forth, args=(client, server), daemon=True).start()

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65_536):
                client.sendall(data)
        except OSError:
            pass
        finally:
            self._shut(client)
            server.close()

    def _forth(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65_536):
                if b"COMMIT" in data and self.chance.random() < 2 * self.rate:
                    if self.chance.random() < 0.5:
                        self.cuts["before"] += 1
                        break
                    self.cuts["after"] += 1
                    self._shut(client)  # the answer will find nobody
                    server.sendall(data)
                    break
                server.sendall(data)
        except OSError:
            pass
        finally:
            self._shut(client)
            self._shut(server, socket.SHUT_WR)
            client.close()

    @staticmethod
    def _shut(one: socket.socket, how: int = socket.SHUT_RDWR) -> None:
        with contextlib.suppress(OSError):
            one.shutdown(how)

    def close(self) -> None:
        self.door.close()


@pytest.fixture
def cut(
    request: pytest.FixtureRequest, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Proxy, str]]:
    url = sa.make_url(database_url)
    if url.get_backend_name() != "postgresql":
        pytest.skip("a SQLite file has no connection to be cut")
    folder = Path(str(url.query["host"]))
    found = next(folder.glob(".s.PGSQL.*[0-9]"), None)
    assert found is not None
    between = Path(f"/tmp/cut-{os.getpid()}-{random.randrange(10**6)}")
    proxy = Proxy(str(found), between, 11)
    yield url.set(query={"host": str(between)}).render_as_string(hide_password=False), proxy, database_url
    proxy.close()
    shutil.rmtree(between)


def test_an_answer_that_is_lost_around_the_commit_loses_and_doubles_nothing(cut: tuple[str, Proxy, str]) -> None:
    """I10, S05: the client sees a receipt or a refusal it may repeat; each event is there exactly once."""
    through, proxy, straight = cut
    prepare(straight)
    proxy.rate = 0
    lab = Lab(through, fresh=False)
    proxy.rate = 0.1
    waiting = list(range(300))
    for _ in range(20):
        outcomes = [(n, lab.engine.record([worker.event(lab, n)])[0]) for n in waiting]
        assert all(isinstance(outcome, Receipt | Unavailable) for _, outcome in outcomes), "only what may be repeated"
        waiting = [n for n, outcome in outcomes if isinstance(outcome, TallyError)]
        if not waiting:
            break
    assert min(proxy.cuts.values()) >= 10, proxy.cuts
    lab.db.dispose()
    lab = Lab(straight, fresh=False)
    assert sorted(ids(lab)) == sorted(f"n{n}" for n in range(300))
    verify(lab)
    lab.db.dispose()
