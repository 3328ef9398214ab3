"""A plugin is switched off and on over HTTP while tills send events to a server of two processes."""

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from tallystick import config, discovery, tables
from tallystick.house import build_house
from tallystick.switchboard import judge_again, recorded_events
from tests.reliability.served import Nursery, Server, Shop, event, wait_until

TILLS, WORKERS = 4, 2
#: TALLY_TOGGLES=200 is the long form: 10,000 events.
TOGGLES, BETWEEN = int(os.environ.get("TALLY_TOGGLES", "20")), 50
MEMBERS = [f"m-{n}" for n in range(7)]


class Client:
    """A till that sends purchases, one after the other, and remembers each answer and when it asked."""

    def __init__(self, shop: Shop, number: int) -> None:
        self.shop, self.number = shop, number
        self.answers: list[tuple[str, float, float, int, bytes]] = []  #: event, asked at, answered at, status, said

    def work(self, port: int, stop: threading.Event) -> None:
        while not stop.is_set():  # a connection for ten of them: whichever process is free takes the next
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                for _ in range(10):
                    n = len(self.answers)
                    name, member = f"{self.number}-{n}", MEMBERS[(self.number + n) % len(MEMBERS)]
                    body = json.dumps(event("purchase.completed", name, member, lines=100 * (1 + n % 50)))
                    asked = time.monotonic()
                    connection.request("POST", "/v1/events", body, self.shop.headers)
                    answer = connection.getresponse()
                    said = answer.read()
                    self.answers.append((name, asked, time.monotonic(), answer.status, said))


@contextlib.contextmanager
def at_work(clients: list[Client], port: int) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=client.work, args=(port, stop)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(90)


def test_a_plugin_is_switched_over_http_while_two_processes_take_events(database_url: str, tmp_path: Path) -> None:
    """Nothing fails, each event names what judged it and is judged the same again, and "disabled" holds from the answer on."""
    shop = Shop(tmp_path, database_url, MEMBERS)
    nursery = Nursery()
    server = Server(nursery, tmp_path, workers=WORKERS)
    switched: list[tuple[float, float, dict[str, object]]] = []  #: asked at, answered at, said
    try:
        shop.join(server.port)
        clients = [Client(shop, number) for number in range(TILLS)]

        def count() -> int:
            return sum(len(client.answers) for client in clients)

        with at_work(clients, server.port):
            for n in range(TOGGLES):
                enough = count() + BETWEEN
                wait_until(lambda enough=enough: count() >= enough, server.log)  # type: ignore[misc]
                asked = time.monotonic()
                status, said = shop.ask(server.port, "POST", f"/v1/plugins/points/{('disable', 'enable')[n % 2]}")
                assert status == 200, said
                switched.append((asked, time.monotonic(), json.loads(said)))
            enough = count() + BETWEEN
            wait_until(lambda: count() >= enough, server.log)
        server.stop()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        nursery.close()

    answers = [answer for client in clients for answer in client.answers]
    assert len(answers) >= TOGGLES * BETWEEN
    assert [(name, status, said) for name, _, _, status, said in answers if status not in (200, 201, 202)] == []

    records = {record.id: record for record in shop.records()}
    with shop.reading() as conn:
        rows = tables.programme
        ran = {n: json.loads(plugins) for n, plugins in conn.execute(sa.select(rows.c.generation, rows.c.plugins))}
    assert len(ran) == TOGGLES + 1
    assert len(shop.writers()) >= WORKERS
    for name, _, _, _, said in answers:
        assert json.loads(said)["generation"] == records[name].generation
        # one of a moment before the switch is judged by the settings of then and by the plugins of now, and says so
        asked_about = ran[records[name].generation].keys() - {*records[name].off}
        assert bool(records[name].lots) == ("points" in asked_about), name

    # between an answer to the switch and the next turn of it, only one answer is right
    for (_, since, said), until in zip(switched, [*(asked for asked, _, _ in switched[1:]), float("inf")], strict=True):
        between = [records[name] for name, asked, answered, _, _ in answers if since <= asked and answered <= until]
        assert between, "nobody bought anything meanwhile"
        assert {bool(record.lots) for record in between} == {"points" in said["plugins"]}  # type: ignore[operator]

    judged_again(tmp_path / "tally.toml", sorted(ran)[:: max(1, len(ran) // 20)])


def judged_again(file: Path, generations: list[int]) -> None:
    """Any process that reads the generations from the books comes to what was recorded."""
    installed = discovery.discover()
    house = build_house(config.load(file, installed=installed), installed=installed, alone=True)
    try:
        replayed = 0
        house.registry.latest("shop")
        for number in generations:
            whole = house.registry._compile("shop", number)
            running = {part.id for part in whole.pipeline.parts}
            for record, arrival in recorded_events(house, whole, 5, looked=50_000, judged_by=number):
                asked = (
                    house.registry._compile("shop", number, enabled=running - {*record.off}) if record.off else whole
                )
                again = judge_again(house, asked, record, arrival)
                assert (again.generation, again.explanation) == (record.generation, record.explanation)
                replayed += 1
        assert replayed > len(generations)
    finally:
        house.close()
