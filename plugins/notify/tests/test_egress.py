"""The way out: what an address may lead to, what is read, and what a strange server can do to us."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from plugins.notify.tests.conftest import Receiver, hook
from tallystick.errors import TooLarge
from tallystick_notify import egress, sending
from tallystick_notify.errors import AddressRefused

HERE = ("127.0.0.1",)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    egress._kept().clear()
    yield
    for line in egress._kept().values():
        line.close()
    egress._kept().clear()


def names(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """The resolver is the world's; what it says, question by question, is given here."""
    asked: list[str] = []

    def say(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host[0].isdigit():
            found = [host]
        else:
            asked.append(host)
            found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", say)
    return asked


def test_a_name_that_turns_private_after_it_was_looked_at_is_not_followed_there(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    """DNS rebinding: the connection goes to the address that was looked at, and the name is asked once for it."""
    real = socket.create_connection
    went: list[str] = []
    monkeypatch.setattr(socket, "create_connection", lambda to, *more: (went.append(to[0]), real(to, *more))[1])
    asked = names(monkeypatch, ["127.0.0.1"], ["10.0.0.7"])
    url = f"http://rebinding.example:{receiver.server_address[1]}/"
    allow = ("127.0.0.1", "rebinding.example")
    assert egress.post(url, b"{}", {}, allow).status == 204
    assert (asked, went) == (["rebinding.example"], ["127.0.0.1"])
    assert egress.post(url, b"{}", {}, allow).status == 204, "over the same connection, to the same machine"
    egress._kept().clear()
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.7"):
        egress.post(url, b"{}", {}, allow)
    assert (len(asked), set(went)) == (2, {"127.0.0.1"})


def test_what_is_sent_has_a_bound_and_what_is_read_too(receiver: Receiver) -> None:
    with pytest.raises(TooLarge):
        egress.post(receiver.url, b"x" * (egress.LARGEST + 1), {}, HERE)
    assert receiver.got == []
    receiver.usual = (200, b"y" * (egress.LONGEST_ANSWER * 4))
    assert len(egress.post(receiver.url, b"{}", {}, HERE).body) == egress.LONGEST_ANSWER


def test_a_message_that_is_too_large_is_refused_by_name_and_nothing_is_sent(small_shop, receiver: Receiver) -> None:
    shop = small_shop(hook(receiver.url))
    shop.tells(shop.joins("ann"), order="x" * egress.LARGEST)
    shop.works()
    assert shop.deliveries() == [("crm", "dead", "too_large")]
    assert receiver.got == []


def test_connections_are_used_again_and_one_that_was_closed_is_opened_anew(receiver: Receiver) -> None:
    for _ in range(3):
        assert egress.post(receiver.url, b"{}", {}, HERE).status == 204
    (line,) = egress._kept().values()
    line.sock.shutdown(socket.SHUT_RDWR)
    assert egress.post(receiver.url, b"{}", {}, HERE).status == 204
    assert len(receiver.got) == 4


def serve(answer: bytes) -> Iterator[int]:
    class Strange(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Strange) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=lambda answer: answer[:24].decode(),
)  # fmt: skip
def test_an_answer_that_is_none_is_no_answer(answer: bytes) -> None:
    for port in serve(answer):
        with pytest.raises(egress.Unanswered):
            egress.post(f"http://127.0.0.1:{port}/", b"{}", {}, HERE)


def test_who_does_not_answer_is_given_up(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "TIMEOUT", 0.1)
    receiver.hold.clear()
    with pytest.raises(egress.Unanswered, match="TimeoutError"):
        egress.post(receiver.url, b"{}", {}, HERE)
    assert egress._kept() == {}


def test_a_receiver_that_takes_a_minute_delays_no_other_channel_and_no_event(small_shop, receiver: Receiver) -> None:
    """Forty messages wait for one receiver; the other has all of its forty meanwhile, and events are recorded."""
    other = Receiver()
    threading.Thread(target=other.serve_forever, args=(0.05,), daemon=True).start()
    shop = small_shop(hook(receiver.url) + hook(other.url).replace("crm", "erp"))
    receiver.hold.clear()
    for n in range(40):
        shop.tells(shop.joins(f"m{n}"))
    for _ in range(100):
        shop.stage.house.run_jobs(force=True, only="notify.deliver")
        if len(other.got) == 40:
            break
    assert (len(other.got), receiver.got) == (40, [])
    lines = [{"sku": "S", "amount": 100}]
    shop.stage.send("purchase.completed", {"order": "R-1", "currency": "USD", "lines": lines}, member="m1")
    receiver.hold.set()
    sending.wait_for_all()
    shop.works()
    assert {(name, state) for name, state, _ in shop.deliveries()} == {("crm", "sent"), ("erp", "sent")}
    other.shutdown()
    other.server_close()
