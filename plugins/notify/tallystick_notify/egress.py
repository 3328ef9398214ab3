"""The way out to other people's servers: only to public addresses, looked up once, and never where a redirect points."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Collection, Mapping
from functools import cache
from time import monotonic
from urllib.parse import urlsplit

import attrs

from tallystick.errors import TooLarge

from .errors import AddressRefused

#: Seconds to connect and between two signs of life, and for all of it.
TIMEOUT, DEADLINE = 10.0, 20.0
#: Bytes of what is sent, and of an answer that is read.
LARGEST, LONGEST_ANSWER = 256 * 1024, 64 * 1024
#: Seconds for which a connection that nobody uses is kept.
IDLE = 20.0


class Unanswered(Exception):
    """The other side could not be reached or did not answer."""


@attrs.frozen
class Answer:
    """What the other side said."""

    status: int
    body: bytes = b""  #: the first part of it


def resolve(host: str, port: int, allow: Collection[str] = ()) -> str:
    """One address of *host*; refused if any of them is not public and not in *allow*.

    All count, so that a name with a public and a private address is refused whichever comes first.
    """
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise Unanswered(f"no_address: {error}") from None
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
        public = address.is_global and inner.is_global and not address.is_multicast
        if not public and text not in allow:
            raise AddressRefused(f"{host} leads to {text}, which is not a public address")
    return min(found)


def check_url(url: str, allow: Collection[str] = ()) -> tuple[str, int, str, bool]:
    """(host, port, path, tls) of an address; plain http only to hosts in *allow*.  Raises AddressRefused."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise AddressRefused(f"this is no address: {error}") from None
    plain = parts.scheme == "http" and host in allow
    if (parts.scheme != "https" and not plain) or not host or parts.username is not None or any(c <= " " for c in url):
        raise AddressRefused("expected an address such as https://example.com/hook, without a password")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return host, port or (80 if plain else 443), path, not plain


def post(url: str, body: bytes, headers: Mapping[str, str], allow: Collection[str] = ()) -> Answer:
    """Send *body*.  Raises AddressRefused, TooLarge or :class:`Unanswered`."""
    if len(body) > LARGEST:
        raise TooLarge(f"the message is larger than {LARGEST} bytes", limit=LARGEST)
    host, port, path, tls = check_url(url, allow)
    key = (host, port, tls, *sorted(allow))
    kept = _kept().pop(key, None)
    try:
        if kept is not None and monotonic() - kept.used < IDLE:
            try:
                return _ask(kept, key, path, body, headers)
            except (ConnectionError, http.client.BadStatusLine):  # it was closed meanwhile; a fresh one says why
                kept.close()
        elif kept is not None:
            kept.close()
        return _ask(_Pinned(host, port, resolve(host, port, allow), tls), key, path, body, headers)
    except (OSError, http.client.HTTPException) as error:
        raise Unanswered(type(error).__name__) from None


class _Pinned(http.client.HTTPConnection):
    """Connects to the address that was looked at, not to what the name may say a moment later."""

    def __init__(self, host: str, port: int, address: str, tls: bool) -> None:
        super().__init__(host, port, timeout=TIMEOUT)
        self._address, self._tls = address, tls
        self.used = 0.0

    def __del__(self) -> None:
        self.close()  # a thread that ended leaves its connections behind

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.create_connection((self._address, self.port), TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            self.sock = _trust().wrap_socket(self.sock, server_hostname=self.host)


def _ask(line: _Pinned, key: tuple[object, ...], path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    ends, whole = monotonic() + DEADLINE, False
    try:
        line.request("POST", path, body, dict(headers))
        said = line.getresponse()
        parts: list[bytes] = []
        size = 0
        while monotonic() < ends and size < LONGEST_ANSWER:
            part = said.read1(LONGEST_ANSWER - size)
            if not part:
                whole = not said.will_close and not said.length
                said.close()
                break
            parts.append(part)
            size += len(part)
        return Answer(said.status, b"".join(parts))
    finally:
        if whole:  # the next one to the same place need not knock again
            line.used = monotonic()
            _kept()[key] = line
        else:
            line.close()


_threads = threading.local()


def _kept() -> dict[tuple[object, ...], _Pinned]:
    """Connections this thread has open."""
    found: dict[tuple[object, ...], _Pinned] | None = getattr(_threads, "kept", None)
    if found is None:
        found = _threads.kept = {}
    return found


@cache
def _trust() -> ssl.SSLContext:
    # reading the authorities takes a hundred times as long as a message
    return ssl.create_default_context()
