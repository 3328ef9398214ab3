"""Makers of what pure hooks look at: purchases, events, members, situations; no database, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import attrs

from .. import config, discovery
from ..discovery import Installed
from ..effects import Effect
from ..events import CORE_KINDS, Event, EventKind, Facts, Line, Purchase
from ..settle import Settlement, settle
from ..situation import Balance, Chance, Member, Programme, Situation, Unit

NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)
_PROGRAMME = Programme(
    tenant="shop", generation=1, hash="", zone=ZoneInfo("UTC"), currency="USD", units={"points": Unit(name="points")}
)


def make_purchase(*amounts: str | Decimal, order: str = "R-1", currency: str = "USD", **more: Any) -> Purchase:
    """A purchase of one line per amount, in whole units of money: ``make_purchase("12.34", "0.99")``."""
    lines = tuple(
        Line(sku=f"item-{n}", amount=int(Decimal(each) * 100)) for n, each in enumerate(amounts or ("10.00",))
    )
    return Purchase(**{"order": order, "currency": currency, "lines": lines, **more})


def make_member(number: int = 1, **more: Any) -> Member:
    """An active member who joined in 2024."""
    return Member(**{"number": number, "status": "active", "enrolled_at": datetime(2024, 1, 1, tzinfo=UTC), **more})


def make_event(
    facts: Facts | None = None, kind: str = "purchase.completed", *, at: datetime = NOON, **more: Any
) -> Event:
    """An event of member 1; a purchase of ten whole units of money unless *facts* are given."""
    given = {
        "tenant": "shop", "id": "e-1", "source": "test", "kind": kind, "at": at, "received": at, "member": 1,
        "facts": make_purchase() if facts is None else facts, "others": {},
    }  # fmt: skip
    return Event(**{**given, **more})


def make_situation(**known: Any) -> Situation:
    """What is known of a member of a shop that counts points, in UTC and USD: nothing but what is said."""
    given: dict[str, Any] = {
        "now": NOON, "programme": _PROGRAMME, "member": make_member(), "balances": {}, "counters": {}, "own": {},
        "stock": {}, "chance": Chance(b"test", "1-1-0"), "entry": "1-1-0",
    }  # fmt: skip
    return Situation(**{**given, **known})


@attrs.frozen
class Maker:
    """One plugin as a merchant has set it up, with everything its pure hooks need."""

    plugin: Any  #: the plugin's own object
    programme: Programme
    kinds: Mapping[str, EventKind]

    def situation(self, **known: Any) -> Situation:
        """A situation in which nothing is known but what is said: ``balances``, ``counters``, ``own``, ``member``..."""
        return make_situation(programme=self.programme, **known)

    def ask(self, hook: str, event: Event, situation: Situation | None = None, **more: Any) -> Sequence[Effect]:
        """What the plugin's *hook* answers; arguments that it does not name are left out."""
        function = getattr(self.plugin, hook)
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        known = {"event": event, "situation": situation or self.situation(), **more}
        return tuple(function(**{name: value for name, value in known.items() if name in names}) or ())

    def earns(self, event: Event, situation: Situation | None = None) -> dict[str, int]:
        """What the member would gain by it, per unit, as the core settles it."""
        settled = self.settle(self.ask("earn", event, situation))
        gained: dict[str, int] = {}
        for posting in settled.postings:
            gained[posting.gain.unit] = gained.get(posting.gain.unit, 0) + posting.amount
        return gained

    def settle(self, effects: Sequence[Effect]) -> Settlement:
        """What *effects* come to by themselves."""
        return settle(effects, self.programme.units, {}, {})


def make_plugin(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    installed: Mapping[str, Installed] | None = None,
    **tenant: Any,
) -> Maker:
    """The installed plugin *name* with *settings*, and with what it depends on; *tenant* are further keys of a tenant.

    Raises AssertionError with every mistake in the settings.
    """
    found = discovery.discover() if installed is None else installed
    fields = {
        "zone": "UTC",
        "currency": "USD",
        **tenant,
        "plugins": {**tenant.get("plugins", {}), name: dict(settings or {})},
    }
    checked, mistakes, absent = config.check_tenant("shop", fields, found, origin="the test")
    if checked is None or absent:
        raise AssertionError(
            "; ".join(f"{'.'.join(map(str, each.path))}: {each.message}" for each in [*mistakes, *absent])
        )
    programme = checked.programme(1)
    kinds = {kind.name: kind for kind in CORE_KINDS}
    for each in checked.plugins:
        kinds |= {kind.name: kind for kind in discovery.load_kinds(found[each].manifest)}
    return Maker(config.make_plugin(found[name], checked.plugins[name], programme), programme, kinds)


def make_balance(usable: int) -> Balance:
    """A balance of which all is usable."""
    return Balance(posted=usable, usable=usable)
