"""The server itself, over HTTP, with two workers: killed at any moment, robbed of its leases, asked by twenty tills at once
(I4, I5, I9, S01, S02, S04).
"""

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick import database, house
from tests.reliability.served import (
    Nursery,
    Server,
    Shop,
    Till,
    all_at_once,
    at_work,
    drain,
    event,
    settled,
    spelled,
    wait_until,
)

CYCLES = int(os.environ.get("TALLY_CRASHES", "40"))
TILLS = 8


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def shop(database_url: str, tmp_path: Path) -> Shop:
    return Shop(tmp_path, database_url, [f"m{n}" for n in range(6)])


def test_a_server_that_is_killed_loses_and_doubles_nothing(nursery: Nursery, shop: Shop) -> None:
    """I5, S04: whoever was told of an event finds it, once, with the same answer; whoever was not sends it again."""
    chance = random.Random(7)
    tills = [Till(shop, number) for number in range(TILLS)]
    server = Server(nursery, shop.folder, workers=2)
    shop.join(server.port)
    for _ in range(CYCLES):
        before = sum(len(till.answered) for till in tills)
        with at_work(tills, server.port):
            wait_until(lambda before=before: sum(len(till.answered) for till in tills) > before, server.log)  # type: ignore[misc]
            time.sleep(chance.uniform(0.02, 0.3))
            server.kill()
        server = Server(nursery, shop.folder, workers=2)
    drain(tills, server.port)
    for till in tills:  # and whatever was said once is said again, to the byte
        for name in till.chance.sample(sorted(till.answered), min(20, len(till.answered))):
            till.waiting.append((name, till.answered[name][0]))
    drain(tills, server.port)
    server.stop()
    assert settled(shop, tills) > CYCLES


def test_servers_that_are_robbed_of_their_leases_go_on_under_others(nursery: Nursery, shop: Shop) -> None:
    """A process whose clock is ahead takes every writer's row.  Nobody writes into a chain that is another's, and nobody stops."""
    tills = [Till(shop, number) for number in range(TILLS)]
    servers = [Server(nursery, shop.folder, workers=1) for _ in range(2)]
    shop.join(servers[0].port)
    db = database.connect(shop.url)
    with at_work(tills[::2], servers[0].port), at_work(tills[1::2], servers[1].port):
        for turn in range(3):
            heard = [len(till.answered) for till in tills]
            stolen = [house.lease_writer(db, house.now() + 10 * house.LEASE * 1_000_000)[0] for _ in shop.writers()]
            assert {number for number, _ in shop.writers()} >= set(stolen)
            wait_until(lambda heard=heard: all(len(t.answered) > n + 3 for t, n in zip(tills, heard, strict=True)))  # type: ignore[misc]
            assert len(shop.writers()) >= 2 * (turn + 2)
    db.dispose()
    drain(tills, servers[0].port)
    for server in servers:
        server.stop()
    settled(shop, tills)


def test_twenty_tills_and_two_workers_spend_the_last_points_once(nursery: Nursery, shop: Shop) -> None:
    """I9, S01: the last bytes of twenty requests leave together."""
    server = Server(nursery, shop.folder, workers=2)
    shop.join(server.port)
    for name in shop.members:
        asked = [event("points.redeemed", f"{name}-{till}", name, reward="cup") for till in range(20)]
        answers = all_at_once(server.port, [spelled(shop, one) for one in asked])
        assert sorted(status for status, _ in answers) == [200] + [422] * 19
        refused = [json.loads(said) for status, said in answers if status == 422]
        assert {(one["code"], one["details"]["usable"]) for one in refused} == {("insufficient_balance", 0)}
    server.stop()
    assert len(shop.records()) == 2 * len(shop.members)


def test_the_same_request_fifty_times_at_once_and_after_a_restart(nursery: Nursery, shop: Shop) -> None:
    """I4, S02: one effect, and one answer to the byte, from whichever process, for ever."""
    server = Server(nursery, shop.folder, workers=2)
    shop.join(server.port)
    asked = event("points.redeemed", "same", "m0", points=10)
    first = {answer for answer in all_at_once(server.port, [spelled(shop, asked)] * 50) if answer[0] != 503}
    server.kill()
    server = Server(nursery, shop.folder, workers=2)
    assert first == {shop.ask(server.port, "POST", "/v1/events", json.dumps(asked).encode())}
    server.stop()
    assert len([record for record in shop.records() if record.id == "same"]) == 1
