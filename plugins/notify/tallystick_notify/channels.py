"""The ways a message goes out.  A channel is handed what it needs, sends once, and says what came of it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

import attrs
import msgspec

from .wording import Wording

encode = msgspec.json.Encoder(order="deterministic").encode


@attrs.frozen(kw_only=True)
class Parcel:
    """A message, ready to go."""

    id: str  #: the same at every attempt: receivers tell a repetition by it
    tenant: str
    member: str  #: ``m-`` and digits, empty for nobody's
    template: str
    purpose: str
    facts: Mapping[str, Any]
    created: datetime
    now: datetime
    language: str = ""
    zone: ZoneInfo = ZoneInfo("UTC")
    wording: Wording | None = None
    addresses: tuple[str, ...] = ()  #: where the member is; read a moment ago from what is sealed, kept nowhere
    print: str = ""  #: of the address of a mail, by which we know it again without keeping it
    proof: str = ""  #: with the id, what only we can have written
    unsubscribe: str = ""  #: link that withdraws consent
    seen: str = ""  #: link that tells us it was looked at
    #: ``notify`` of the other plugins the tenant runs
    hooks: Sequence[Callable[..., Awaitable[bool | None]]] = ()


@attrs.frozen
class Result:
    """What came of an attempt: sent, to be tried again, or never."""

    state: Literal["sent", "again", "dead"]
    reason: str = ""
    reference: str = ""  #: what the other side will call it when it tells more; of a mail, the print of its address
    gone: tuple[str, ...] = ()  #: addresses that exist no more


class Channel(Protocol):
    """One way out, as the tenant has set it up."""

    @property
    def words(self) -> bool:
        """Whether it needs wording."""
        ...

    @property
    def address(self) -> str:
        """What of a member it needs: ``email``, ``phone``, ``more.KEY`` of the profile, ``push``, or nothing."""
        ...

    @property
    def templates(self) -> Collection[str] | None:
        """The only messages it can send; None: any."""
        ...

    def send(self, parcel: Parcel) -> Result:
        """Send once.  A refusal it raises is final, anything else counts as a failure that may pass."""
        ...


@attrs.frozen(kw_only=True)
class Inbox:
    """The member's inbox in the app: the message lies there as soon as it is due."""

    words: bool = True
    address: str = ""
    templates: None = None

    def send(self, parcel: Parcel) -> Result:  # noqa: ARG002  it is there already
        """Nothing goes anywhere."""
        return Result("sent")


@attrs.frozen(kw_only=True)
class File:
    """One JSON document per line, for tests and demonstrations."""

    path: Path
    words: bool = False
    address: str = ""
    templates: None = None

    def send(self, parcel: Parcel) -> Result:
        """Append a line."""
        line = {"id": parcel.id, "member": parcel.member, "template": parcel.template, "facts": parcel.facts}
        with self.path.open("ab") as file:
            file.write(encode(line) + b"\n")
        return Result("sent")


def read_secret(said: Mapping[str, str]) -> str:
    """The secret that ``{ env = ... }`` or ``{ file = ... }`` points to, read when it is used and kept nowhere."""
    return os.environ[said["env"]] if "env" in said else Path(said["file"]).read_text(encoding="utf-8").strip()


def status_result(status: int, *, never: Collection[int]) -> Result:
    """What an HTTP status means: 2xx is a delivery, one of *never* an end, anything else may pass."""
    if 200 <= status < 300:
        return Result("sent", str(status))
    return Result("dead" if status in never else "again", str(status))
