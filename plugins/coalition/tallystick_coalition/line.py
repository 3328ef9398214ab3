"""The line to a partner in another deployment: signed messages over HTTP, and nothing that is not signed is an answer."""

from __future__ import annotations

import base64
import hmac
import http.client
import logging
import secrets
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

import attrs
import msgspec

from tallystick import errands
from tallystick.ledger import instant

from . import agreement, calls, signing
from .errors import NotHeard
from .exchange import Answer, Message, Unreachable
from .hooks import Coalition
from .settings import Partner

log = logging.getLogger("tallystick")

#: Seconds between two signs of life, and for the whole of a message and its answer.
TIMEOUT, DEADLINE = 5.0, 10.0
#: Bytes of an answer, and of one that carries a month's entries.
LARGEST, LARGEST_BODY = 64 * 1024, 16 * 1024 * 1024
#: Messages to one partner under way at once from this process: a partner that hangs keeps only so many requests waiting.
AT_ONCE: Final = 8
#: Failures in a row that cost nothing, and the seconds after which the next message is tried at the latest.
FREE, LONGEST_WAIT = 2, 30

#: What may be answered to what.
_FITS: Final[Mapping[str, tuple[str, ...]]] = {
    "hold": ("held",), "commit": ("committed",), "void": ("voided", "committed"), "confirm": ("confirmed",),
    "release": ("released",), "return": ("returned",), "close": ("closed",), "statement": ("told",), "entries": ("told",),
    "hello": ("told",),
}  # fmt: skip


class Numbers:
    """Numbers of messages: the clock's microseconds, each larger than the one before."""

    def __init__(self) -> None:
        self._lock, self._last = threading.Lock(), 0

    def following(self, now: int) -> int:
        """The next number.  A clock that was far ahead for a while is forgotten."""
        with self._lock:
            self._last = max(self._last + 1, now) if self._last - now < calls.WINDOW // 2 else now
            return self._last


_NUMBERS: Final = Numbers()


def private_key(errand: errands.Errand[Coalition], partner: str, number: int) -> str:
    """The private key for the line to *partner*: made from the house's secret whenever it is needed, and kept nowhere."""
    said = f"coalition/line/{errand.tenant}/{partner}/{number}"
    return base64.b64encode(hmac.digest(errand.house.secret, said.encode(), "sha256")).decode()


def wait_after(failures: int) -> int:
    """Seconds until a partner is tried again that did not answer so often in a row.

    >>> [wait_after(n) for n in (0, 2, 3, 4, 7, 100)]
    [0, 0, 1, 2, 16, 30]
    """
    return 0 if failures <= FREE else min(2 ** min(failures - FREE - 1, 10), LONGEST_WAIT)


@attrs.frozen
class Line:
    """A partner in another deployment."""

    errand: errands.Errand[Coalition]
    partner: Partner

    @property
    def name(self) -> str:
        """The partner's brand."""
        return self.partner.name

    def ask(self, message: Message) -> Answer:
        """Say something to the partner.

        Raises Unreachable for whatever is not an answer the partner has signed to this very message, and at once while
        the partner did not answer lately.
        """
        house, tenant = self.errand.house, self.errand.tenant
        with house.reading() as conn:
            known = calls.find_line(conn, tenant, self.name)
        if known is not None and instant(self.errand.now) < known.failed_at + wait_after(known.failures) * 1_000_000:
            raise Unreachable
        try:
            with _turn(self.partner.url):
                answer = self._ask(message)
        except (OSError, http.client.HTTPException, msgspec.MsgspecError, NotHeard) as error:
            log.warning(
                "coalition: no answer of %s to %s of %s: %s: %s",
                self.name,
                message.action,
                tenant,
                type(error).__name__,
                error,
            )
            with house.db.begin() as conn:
                calls.fail(conn, tenant, self.name, instant(self.errand.now))
            raise Unreachable from None
        if known is not None and known.failures:
            with house.db.begin() as conn:
                calls.answered(conn, tenant, self.name)
        return answer

    def ask_many(self, messages: Sequence[Message]) -> list[Answer | None]:
        """Say messages one after the other; None where no answer came."""
        answers: list[Answer | None] = []
        for message in messages:
            try:
                answers.append(self.ask(message))
            except Unreachable:
                answers.append(None)
        return answers

    def _ask(self, message: Message) -> Answer:
        private = private_key(self.errand, self.name, self.partner.our_key)
        sequence = _NUMBERS.following(self.errand.house.clock())
        stamp = signing.Stamp(agreement.public_key(private), sequence, secrets.token_urlsafe(16))
        body = msgspec.json.encode(message)
        headers = signing.sign_request(private, urlsplit(self.partner.url).path, body, stamp)
        largest = LARGEST_BODY if _FITS[message.action] == ("told",) else LARGEST
        status, got, said = post(self.partner.url, body, headers, largest)
        signing.check_answer(self.partner.prints, status, got, said, headers["signature"])
        answer = msgspec.json.decode(said, type=Answer)
        if answer.state not in (*_FITS[message.action], "refused"):
            raise NotHeard(f"{answer.state} is no answer to {message.action}")
        return answer


def post(url: str, body: bytes, headers: Mapping[str, str], largest: int) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of what *url* answers.  No redirect is followed.  Raises OSError or HTTPException."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    line: http.client.HTTPConnection = (
        http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT, context=_trust())
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT)
    )
    ends = monotonic() + DEADLINE
    # whoever sends a byte now and then is never silent for long: at the deadline the line is cut
    cut = threading.Timer(DEADLINE, _cut, (line,))
    cut.daemon = True
    cut.start()
    try:
        line.request("POST", parts.path, body, {"content-type": "application/json", "connection": "close", **headers})
        said = line.getresponse()
        parts_, size = [], 0
        while size <= largest and (part := said.read1(64 * 1024)):
            parts_.append(part)
            size += len(part)
        if size > largest:
            raise http.client.HTTPException(f"the answer is larger than {largest} bytes")
        if monotonic() > ends or said.length:
            raise http.client.HTTPException("the answer was cut off")
        return said.status, {name.lower(): text for name, text in said.getheaders()}, b"".join(parts_)
    finally:
        cut.cancel()
        line.close()


def _cut(line: http.client.HTTPConnection) -> None:
    if line.sock is not None:
        with suppress(OSError):  # it was closed a moment ago
            line.sock.shutdown(socket.SHUT_RDWR)


@cache
def _trust() -> ssl.SSLContext:
    # reading the authorities takes a hundred times as long as a message
    return ssl.create_default_context()


@cache
def _places(_url: str) -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(AT_ONCE)


@contextmanager
def _turn(url: str) -> Iterator[None]:
    places = _places(url)
    if not places.acquire(timeout=TIMEOUT):
        raise TimeoutError("too many messages wait for this partner's answer")
    try:
        yield
    finally:
        places.release()
