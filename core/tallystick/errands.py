"""What the house hands a plugin besides its hooks: to a check of settings, a job, a command, a route.

They say what may be relied upon, and no more.  An author types an argument with them and gets a plugin's own class where
she writes it: ``def remind(errand: Work[Points]) -> int``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

PluginT_co = TypeVar("PluginT_co", covariant=True)


class Context(Protocol):
    """What settings are checked against."""

    @property
    def zone(self) -> ZoneInfo:
        """The programme's time zone."""

    @property
    def units(self) -> Mapping[str, Any]:
        """The programme's units by name, each a :class:`tallystick.situation.Unit`."""

    @property
    def plugins(self) -> tuple[str, ...]:
        """The plugins that run for the tenant, in their order."""


class Errand(Protocol[PluginT_co]):
    """The plugin at work for one tenant, whoever sent it."""

    @property
    def plugin(self) -> PluginT_co:
        """The plugin's object, made with this tenant's settings."""

    @property
    def house(self) -> Any:
        """The house: ``reading()`` is a connection to look with, ``db.begin()`` of its SQLAlchemy engine one to write with.

        ``pass_for`` issues what opens a public route.
        """

    @property
    def tenant(self) -> str:
        """Whose books this is about; nothing of another tenant may be read or written."""

    @property
    def now(self) -> datetime:
        """The house's time, with its zone."""

    def record(self, documents: Iterable[Mapping[str, Any]]) -> list[Any]:
        """Send events through the door, as any client would.

        Returns one outcome each: a :class:`tallystick.ledger.Record`, or the error it was refused with.
        """


class Work(Errand[PluginT_co], Protocol[PluginT_co]):
    """A turn of a job, or a command."""

    @property
    def turn(self) -> Any:
        """The turn: ``progress`` is how far the last one came, ``reached`` says how far this one is."""

    @property
    def generation(self) -> Any:
        """The tenant's compiled set-up that is in force: its ``number``, and ``since`` when."""

    def member(self, reference: str) -> int:
        """The number of the member whom an external id or ``m-`` and digits names.  Raises UnknownMember."""


class Request(Errand[PluginT_co], Protocol[PluginT_co]):
    """A request to one of the plugin's routes, by a key that is allowed to make it."""

    @property
    def principal(self) -> Any:
        """Who asks: the key's ``actor`` and ``role``."""

    @property
    def member(self) -> int:
        """The member whom ``{member}`` in the path names, found and allowed; 0 if it names none."""

    @property
    def path(self) -> Mapping[str, str]:
        """The other names in the path."""

    @property
    def language(self) -> str:
        """``en`` or ``zh``."""

    def find(self, reference: str) -> int:
        """The number of the member whom an external id or ``m-`` and digits names.

        Raises UnknownMember; for a key of the role `member` everybody else is unknown.
        """
