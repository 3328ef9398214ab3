"""What a plugin offers whose rules can be read, checked and explained by the house: public names on the plugin's object, no hooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from tallystick.events import Event
from tallystick.rules.lint import Standing
from tallystick.rules.ruleset import RuleSet
from tallystick.situation import Situation


@runtime_checkable
class HasRules(Protocol):
    """A plugin with rule sets.  With these two names `tally rule`, `tally whynot` and `tally lint` know its rules.

    To the house a rule is called ``<plugin>.<rule>``, as on receipts.
    """

    def rules_about(self, kind: str) -> RuleSet | None:
        """The rules about events of *kind*; None if there are none."""

    def facts_about(self, event: Event, situation: Situation) -> Mapping[str, Any]:
        """What those rules see of one event, by name: what `RuleSet.fire` is given."""


@runtime_checkable
class HasStandings(Protocol):
    """A plugin that also says how its rules stand to each other, and where the merchant wrote them."""

    #: Paths of facts that only say something where something was paid: ``purchase.total``.
    spending: tuple[str, ...]

    def standings_about(self, kind: str) -> Mapping[str, Standing]:
        """How the rules about *kind* displace each other, by their name in the set."""

    def written_at(self, rule: str) -> tuple[str | int, ...]:
        """Where in the plugin's settings a rule is written: ``("earn", 3)``."""
