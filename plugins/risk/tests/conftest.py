"""A shop that is watched, on each database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tallystick import database, people, proofs
from tallystick.commands import visit
from tallystick.errands import Errand
from tallystick.ledger import Record, instant
from tallystick.testing import Stage, make_stage

POINTS = """
[plugins.points]
gift = {}
redeem = { points = 100, gives = 100 }
[[plugins.points.earn]]
name = "base"
points = 10
per = 100
"""
STORES = """
[plugins.risk.stores.north]
latitude = "40.80"
longitude = "-73.95"
[plugins.risk.stores.capital]
latitude = "38.90"
longitude = "-77.03"
"""
START = datetime(2025, 6, 15, 16, tzinfo=UTC)  # noon in New York


class Shop:
    """A stage on which one buys and spends; jobs run when the test says so."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self._orders = stage, 0

    def joins(self, *names: str, days: float = 400, language: str = "") -> None:
        """Members who joined so many days ago."""
        stage = self.stage
        with stage.house.db.begin() as conn:
            for name in names:
                at = stage.clock[0] - int(days * 86_400) * 1_000_000
                people.enrol(conn, stage.house.secret, "shop", at, external_ids=[name], language=language)

    def goes_by(self, **length: float) -> None:
        """Let time pass."""
        self.stage.at(self.stage.now + timedelta(**length))

    def buys(self, member: str, dollars: float = 100, **more: Any) -> Record:
        """A purchase; of a guest, if nobody is named."""
        self._orders += 1
        data = {
            "order": f"R{self._orders}", "currency": "USD", "lines": [{"sku": "tea", "amount": round(dollars * 100)}], **more,
        }  # fmt: skip
        return self.stage.send("purchase.completed", data, member=member)

    def returns(self, record: Record, **more: Any) -> Record:
        """The whole order comes back."""
        return self.stage.send("purchase.refunded", {"order": record.order, **more})

    def spends(self, member: str, points: int = 100, **more: Any) -> Record:
        """A redemption."""
        return self.stage.send("points.redeemed", {"points": points, **more}, member=member)

    def gives(self, member: str, to: str, points: int = 100, **more: Any) -> Record:
        """A gift."""
        return self.stage.send("points.gifted", {"to": to, "points": points, **more}, member=member)

    def seen(self, member: str, action: str = "login", **more: Any) -> Record:
        """An app saw somebody."""
        return self.stage.send("risk.observed", {"action": action, **more}, member=member)

    def works(self) -> None:
        """Learn what was committed, let the watches look, end what is due, and learn that."""
        for job in ("core.nothing", "risk.watch", "risk.timeouts"):
            self.stage.house.run_jobs(force=True, only=job)

    @property
    def visit(self) -> Errand:
        """The errand of a command."""
        return visit(self.stage.house, "shop", "risk", "test")

    def cases(self, policy: str = "") -> list[Any]:
        """Cases, the oldest first."""
        rows = self.stage.rows("SELECT * FROM risk_case ORDER BY number")
        return [row for row in rows if not policy or row.policy == policy]

    def concerned(self, policy: str) -> set[str]:
        """External names cannot be read back: the numbers of members whom cases of a policy concern."""
        return {
            row[0]
            for row in self.stage.rows(
                'SELECT n.member FROM risk_concerned n JOIN risk_case c ON c.number = n."case" WHERE c.policy = :p',
                p=policy,
            )
        }

    def numbers(self, *names: str) -> set[int]:
        """Members' numbers."""
        return {self.stage.number(name) for name in names}


@pytest.fixture
def opened(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Call it with the plugin's tables for a house; afterwards its books prove."""
    with ExitStack() as stack:
        shops: list[Shop] = []

        def open_shop(settings: str = "[plugins.risk]\n") -> Shop:
            stage = stack.enter_context(make_stage(POINTS + settings, database_url, tmp_path, start=START))
            shops.append(Shop(stage))
            return shops[-1]

        yield open_shop
        for shop in shops:
            with database.reading(shop.stage.house.db) as conn:
                assert proofs.verify(conn).findings == ()


@pytest.fixture
def shop(opened: Callable[..., Shop]) -> Shop:
    """A shop with what is shipped."""
    return opened()


def later(record: Record, **length: float) -> int:
    """So long after an entry was received."""
    return record.received + int(timedelta(**length).total_seconds()) * 1_000_000


__all__ = ["POINTS", "START", "STORES", "Shop", "instant", "later"]
