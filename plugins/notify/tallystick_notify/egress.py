"""The way out to other people's servers: only to public addresses, looked up once, and never where a redirect points."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Collection, Mapping
from time import monotonic
from urllib.parse import urlsplit

from tallystick.errors import TallyError

#: Seconds to connect and between two signs of life, and for all of it.
TIMEOUT, DEADLINE = 10.0, 20.0


class AddressRefused(TallyError):
    """An address that messages do not go to: not public, or no http address."""

    code = "address_refused"
    chinese = "消息不会发送到这个地址。"


class Unanswered(Exception):
    """The other side could not be reached or did not answer."""


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


class _Pinned(http.client.HTTPConnection):
    """Connects to the address that was looked at, not to what the name may say a moment later."""

    def __init__(self, host: str, port: int, address: str, tls: bool) -> None:
        super().__init__(host, port, timeout=TIMEOUT)
        self._address, self._tls = address, tls

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.create_connection((self._address, self.port), TIMEOUT)
        if self._tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


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


def post(url: str, body: bytes, headers: Mapping[str, str], allow: Collection[str] = ()) -> int:
    """Send *body*; the status of the answer, of which no more than its head is read.

    Raises AddressRefused or :class:`Unanswered`.
    """
    host, port, path, tls = check_url(url, allow)
    connection = _Pinned(host, port, resolve(host, port, allow), tls)
    started = monotonic()
    try:
        connection.request("POST", path, body, dict(headers))
        if connection.sock is not None:
            connection.sock.settimeout(max(0.1, min(TIMEOUT, DEADLINE - (monotonic() - started))))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise Unanswered(type(error).__name__) from None
    finally:
        connection.close()
