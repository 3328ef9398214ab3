"""A house that serves for long: its memory, files and threads stay what they are, and nothing secret is said anywhere (I24, I25,
I28).
"""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.reliability.served import Nursery, Server, Shop, Till, at_work, drain, event, settled, wait_until

#: Events after which memory is looked at again.
SOAK = int(os.environ.get("TALLY_SOAK", "500"))
#: Seconds for so many: ten a second, on whatever machine.
WITHIN = 60 + SOAK / 10
#: Growth that is nobody's leak: caches that are still filling, and what an allocator keeps.
MIB = 1 << 20


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def shop(database_url: str, tmp_path: Path) -> Shop:
    return Shop(tmp_path, database_url, [f"m{n}" for n in range(6)])


def answered(tills: list[Till]) -> int:
    return sum(len(till.answered) for till in tills)


def test_a_house_at_work_grows_no_files_no_threads_and_hardly_memory(nursery: Nursery, shop: Shop) -> None:
    """I24."""
    server = Server(nursery, shop.folder, workers=1)
    shop.join(server.port)
    tills = [Till(shop, number) for number in range(8)]
    process = psutil.Process(server.pid)
    with at_work(tills, server.port):
        wait_until(lambda: answered(tills) >= SOAK, server.log, within=WITHIN)
        before = process.memory_info().rss, process.num_fds(), process.num_threads()
        wait_until(lambda: answered(tills) >= 2 * SOAK, server.log, within=WITHIN)
        after = process.memory_info().rss, process.num_fds(), process.num_threads()
    drain(tills, server.port)
    server.stop()
    settled(shop, tills)
    # sqlite keeps one connection per thread that ever asked, up to the pool's size
    assert after[1] - before[1] <= 24 and after[2] - before[2] <= 40, (before, after)
    assert after[0] - before[0] < 12 * MIB, f"{(after[0] - before[0]) / MIB:.1f} MiB for {SOAK} events"


def test_more_than_it_can_do_is_refused_at_once_and_it_goes_on(nursery: Nursery, shop: Shop) -> None:
    """I25: a hundred tills that do not wait.  Everybody is answered, with a receipt or with when to come back."""
    server = Server(nursery, shop.folder, workers=1)
    shop.join(server.port)
    said: list[int] = []

    def storm(number: int) -> None:
        for n in range(4):
            document = [event("purchase.completed", f"{number}-{n}-{k}", f"m{k % 6}", lines=100) for k in range(40)]
            status, _ = shop.ask(server.port, "POST", "/v1/events", json.dumps(document).encode())
            said.append(status)

    threads = [threading.Thread(target=storm, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive(), "somebody waits for ever"
    assert len(said) == 160
    assert set(said) <= {200, 207, 429, 503}
    wait_until(lambda: shop.ask(server.port, "GET", "/readyz")[0] == 200)
    assert (
        shop.ask(
            server.port, "POST", "/v1/events", json.dumps(event("points.redeemed", "after", "m0", points=1)).encode()
        )[0]
        == 200
    )
    server.stop()
    assert len(shop.records()) >= 6 + 40 * said.count(200)


def test_nothing_secret_is_said_in_logs_answers_or_files(nursery: Nursery, shop: Shop) -> None:
    """I28: canaries in every place where something secret goes in; the house is made to complain of each."""
    server = Server(nursery, shop.folder, workers=2)
    canaries = {
        name: f"canary{n}kiwi{name}" for n, name in enumerate(("name", "phone", "email", "id", "event", "path"))
    }
    person = {"name": canaries["name"], "phone": canaries["phone"][:30], "email": f"{canaries['email']}@example.com"}
    shop.post(server.port, "/v1/members", {"external_ids": [canaries["id"]], "profile": person})
    wrong = shop.key[:-6] + "canary"
    bodies = [b"{", b'{"id": "' + canaries["event"].encode() + b'"', json.dumps({"a": canaries["event"]}).encode()]
    bodies.append(json.dumps(event("purchase.completed", "x", canaries["id"], lines=5)).encode())
    heard = [shop.ask(server.port, "POST", "/v1/events", body) for body in bodies]
    heard.append(shop.ask(server.port, "GET", f"/v1/members/{canaries['path']}"))
    heard += [shop.ask(server.port, "GET", path) for path in ("/readyz", "/healthz", "/metrics", "/openapi.json")]
    good, shop.headers["authorization"] = shop.headers["authorization"], f"Bearer {wrong}"
    heard.append(shop.ask(server.port, "GET", "/v1/members/x"))
    shop.headers["authorization"] = good
    server.stop()
    secrets = [shop.key.split("_", 2)[2], wrong.split("_", 2)[2], (shop.folder / "tally.secret").read_text().strip()]
    logs = "".join(file.read_text() for file in shop.folder.glob("*.log"))
    told = b"".join(said for _, said in heard).decode()
    assert [word for word in (*canaries.values(), *secrets) if word[:30] in logs] == []
    assert [word for word in secrets if word in told] == []
    kept = b"".join(file.read_bytes() for file in shop.folder.iterdir() if "db" in file.name)
    assert [word for word in (*secrets, *canaries.values()) if word.encode() in kept] == []
