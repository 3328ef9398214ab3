"""Five devices in processes of their own, cut off for real, that give more than they may: the house's loss has its bound."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from plugins.vr_kiosk.tests.conftest import Shop
from tallystick.web import build_app

SCRIPT = Path(__file__).with_name("lone_device.py")
COFFEE = 50


class Proxy:
    """A network of one device: it can be cut, and then also the answers that were on their way are lost."""

    def __init__(self, port: int) -> None:
        self._port, self._cut = port, threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._chance = random.Random(port)
        threading.Thread(target=self._run, daemon=True).start()

    def cut(self) -> None:
        self._cut.set()

    def mend(self) -> None:
        self._cut.clear()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _run(self) -> None:
        while True:
            try:
                device, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(device,), daemon=True).start()

    def _pass(self, device: socket.socket) -> None:
        """One request and its answer; while the network is cut, half of the requests come through and no answer does."""
        with device, suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as house:
            device.settimeout(5)
            house.settimeout(5)
            request = whole(device)
            if self._cut.is_set() and self._chance.random() < 0.5:
                return
            house.sendall(request)
            answer = whole(house)
            if not self._cut.is_set():
                device.sendall(answer)


def whole(connection: socket.socket) -> bytes:
    """One message of HTTP/1.1, as far as it comes."""
    found = b""
    while b"\r\n\r\n" not in found and (more := connection.recv(65_536)):
        found += more
    head, _, body = found.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
    while len(body) < length and (more := connection.recv(65_536)):
        body += more
    return head + b"\r\n\r\n" + body


class Namespace:
    """A network of one device in a namespace of its own: its cable can be pulled."""

    def __init__(self, number: int, port: int) -> None:
        self.name = f"tally{os.getpid() % 10_000}-{number}"
        self._cable = f"tk{os.getpid() % 10_000}x{number}"
        net = f"10.231.{number + 1}"
        self.address = f"{net}.1:{port}"
        ip("netns", "add", self.name)
        ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("addr", "add", f"{net}.1/30", "dev", self._cable)
        ip("link", "set", self._cable, "up")
        ip("-n", self.name, "addr", "add", f"{net}.2/30", "dev", "eth0")
        ip("-n", self.name, "link", "set", "eth0", "up")

    def cut(self) -> None:
        ip("link", "set", self._cable, "down")

    def mend(self) -> None:
        ip("link", "set", self._cable, "up")

    def close(self) -> None:
        ip("netns", "del", self.name)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def namespaces_or_skip() -> None:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and ip")
    name = f"tally{os.getpid() % 10_000}-try"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here")
    ip("netns", "del", name)


@contextmanager
def served(shop: Shop) -> Iterator[int]:
    """The shop's house on a port of all addresses."""
    with socket.create_server(("0.0.0.0", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(build_app(shop.house), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


class Lone:
    """One device's process."""

    def __init__(self, net: Any, order: dict[str, Any]) -> None:
        self.net = net
        into = ["ip", "netns", "exec", net.name] if isinstance(net, Namespace) else []
        self.process = subprocess.Popen(
            [*into, sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order))
        self.process.stdin.close()

    def heard(self) -> str:
        """The next thing that the device says of itself."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.net.close()


@pytest.mark.parametrize("how", ["proxy", "namespaces"])
def test_devices_that_are_cut_off_never_give_more_than_their_allowances(shop: Shop, how: str) -> None:
    """Two are honest and give what they may; three lie.  Whoever gave too much is set aside, and the others go on."""
    if how == "namespaces":
        namespaces_or_skip()
    gives = [2, 1, 4, 6, 3]
    allowed = [100, 60, 100, 260, 100]
    shop.buys("ann", 600)  # not enough for all that is given: the merchant bears the rest, up to the allowances
    devices = [shop.pair(f"kiosk {n}") for n in range(5)]
    with served(shop) as port, ExitStack() as stack:
        lone = []
        for n, device in enumerate(devices):
            net = Proxy(port) if how == "proxy" else Namespace(n, port)
            word = shop.house.pass_for("shop", "vr_kiosk.line", device.pen.device)
            shop.goes_by(seconds=31)
            order = {
                "url": f"http://{net.address}/v1/vr_kiosk/{word}/line", "device": device.pen.device,
                "key": device.pen.key.private_bytes_raw().hex(), "code": shop.code("ann"), "at": shop.stage.now.isoformat(),
                "grant": shop.grant(device, allowed[n]), "gives": gives[n], "seed": n,
            }  # fmt: skip
            lone.append(Lone(net, order))
            stack.callback(lone[-1].end)
            assert lone[-1].heard() == "identified"
        for each in lone:
            each.net.cut()
        assert [each.heard() for each in lone] == ["alone"] * 5
        assert [each.heard() for each in lone] == ["gave"] * 5
        time.sleep(0.2)  # they try in vain
        for each in reversed(lone):
            each.net.mend()
        ended = [each.heard() for each in lone]
    given = dict.fromkeys((device.pen.device for device in devices), 0)
    for record in shop.stage.records("ann"):
        if record.kind == "vr_kiosk.redeemed":
            given[record.source.partition("/")[2]] += COFFEE
    # as many whole coffees as the allowance is good for, and never one more
    assert [*given.values()] == [
        min(n * COFFEE, most // COFFEE * COFFEE) for n, most in zip(gives, allowed, strict=True)
    ]
    lied = [n * COFFEE > most for n, most in zip(gives, allowed, strict=True)]
    assert [each != "ended done" for each in ended] == lied
    assert shop.alarms() == ["vr_kiosk_allowance_spent"] * sum(lied)
    [(left,)] = shop.stage.rows("SELECT sum(remaining) FROM stock WHERE key LIKE 'vr_kiosk:allowance/%'")
    assert int(left) == sum(allowed) - sum(given.values())
