"""Two ways to try the plugin: one member on one ladder without a house, and a shop in the real house."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from tallystick import config, discovery
from tallystick.config import Context
from tallystick.document import Document
from tallystick.house import build_house
from tallystick.ledger import read_record
from tallystick.situation import Member, Programme, Unit
from tallystick.testing import Stage, make_stage, play
from tallystick_tiers.checks import check
from tallystick_tiers.course import Course
from tallystick_tiers.settings import read
from tallystick_tiers.standing import Change, Standing

ZONE = ZoneInfo("America/New_York")
UNITS = {name: Unit(name=name, plugin="points") for name in ("points", "credit")}
PROGRAMME = Programme(tenant="shop", generation=1, hash="0", zone=ZONE, currency="USD", units=UNITS)
CONTEXT = Context(
    tenant="shop",
    zone=ZONE,
    currency="USD",
    minor_units=2,
    language="en",
    units=UNITS,
    plugins=("points", "tiers"),
    messages={},
)
ADA = Member(number=1, status="active", enrolled_at=datetime(2025, 1, 1, 17, tzinfo=UTC))
#: Thresholds 0, 20 and 30 with names of their own.
THREE = """
tiers = [{ name = "base" }, { name = "silver", at = 20 }, { name = "gold", at = 30 }]
"""


class Walk:
    """One member on one ladder; days pass and money is spent as a test says, without a house."""

    def __init__(self, toml: str, *, start: date = date(2025, 1, 1), member: Member = ADA) -> None:
        document = {"ladders": [{"name": "club", **tomllib.loads(toml)}]}
        assert check(document, CONTEXT) == []
        self.course = Course(read(document).ladders[0], PROGRAMME)
        self.member, self.day, self.changes = member, start, list[Change]()
        self.days: dict[date, int] = {}  # what was spent on each day, returns subtracted
        self.standing: Standing = self.course.begin(start, member, self.counted())

    def counted(self) -> dict[str, int]:
        window = self.course.ladder.window
        first = self.day - timedelta(days=int(window[1:-1]) - 1) if self.course.ladder.rolling else date.min
        return {"spend": sum(amount for day, amount in self.days.items() if first <= day <= self.day)}

    def _take(self, found: tuple[Standing, list[Change]]) -> None:
        self.standing, changes = found
        self.changes += changes

    def on(self, day: date | str) -> Walk:
        """Come to a day on which something happens."""
        self.day = date.fromisoformat(day) if isinstance(day, str) else day
        self._take(self.course.until(self.standing, self.day, self.counted(), self.member))
        return self

    def spends(self, amount: int, *, late: str = "") -> Walk:
        """Spend; *late*: it happened on that day already."""
        happened = date.fromisoformat(late) if late else self.day
        before = self.counted()
        self.days[happened] = self.days.get(happened, 0) + amount
        found = self.course.counted(self.standing, self.day, before, self.counted(), self.member, happened=happened)
        self._take(found)
        return self

    def returns(self, amount: int, *, bought: str = "") -> Walk:
        """Give back a part of what was bought, today or on another day."""
        happened = date.fromisoformat(bought) if bought else self.day
        before = self.counted()
        self.days[happened] = self.days.get(happened, 0) - amount
        self._take(
            self.course.counted(
                self.standing, self.day, before, self.counted(), self.member, happened=happened, returned=True
            )
        )
        return self

    def reviewed(self, day: date | str) -> Walk:
        """A review as of a day."""
        self.day = date.fromisoformat(day) if isinstance(day, str) else day
        self._take(self.course.as_of(self.standing, self.day, self.counted(), self.member))
        return self

    def gets(self, tier: str, *, until: str = "") -> Walk:
        ends = date.fromisoformat(until) + timedelta(days=1) if until else None
        self._take(self.course.give(self.standing, tier, ends, self.day))
        return self

    def joins(self, tier: str, order: str = "") -> Walk:
        self._take(self.course.join(self.standing, self.course.tiers[tier], order, self.day))
        return self

    @property
    def tier(self) -> str:
        return self.course.held(self.standing)

    @property
    def moves(self) -> list[tuple[str, str, str]]:
        return [(change.was, change.tier, change.reason) for change in self.changes]


@pytest.fixture
def walk() -> Callable[..., Walk]:
    return Walk


# --- the real house --------------------------------------------------------------------------------------------------

POINTS = """
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
"""


class Shop:
    """A shop whose members climb; a thin wrapper around a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.lines = stage, 0

    def play(self, story: str) -> list[Any]:
        # orders are named by their line: no two stories of a shop share one
        self.lines += 100
        return play("\n" * self.lines + story, stage=self.stage)

    def tier(self, member: str, ladder: str = "club") -> str:
        """The tier as other plugins see it."""
        row = self.own("core", member, f"tier:{ladder}")
        return str(row["tier"]) if row else ""

    def standing(self, member: str, ladder: str = "club") -> Mapping[str, Any]:
        return self.own("tiers", member, ladder)

    def own(self, plugin: str, member: str, name: str) -> Any:
        rows = self.stage.rows(
            "SELECT value FROM own WHERE plugin = :p AND member = :m AND name = :n",
            p=plugin, m=self.stage.number(member), n=name,
        )  # fmt: skip
        return msgspec.json.decode(rows[0][0]) if rows else {}

    def on(self, day: str, hour: int = 12) -> Shop:
        self.stage.at(datetime.combine(date.fromisoformat(day), time(hour), ZONE))
        return self

    def says(self, kind: str, member: str, **data: Any) -> Any:
        self.stage.enrol(member)
        return self.stage.send(kind, data, member=member)

    def reopens(self, folder: Path, text: str) -> None:
        """The house is closed and opened again with another tally.toml."""
        file, installed = folder / "tally.toml", discovery.discover()
        file.write_text(text)
        self.stage.house.close()
        found = config.check(Document.read(file), installed=installed, folder=folder)
        self.stage.house = build_house(found, installed=installed, clock=lambda: self.stage.clock[0])

    def runs(self, job: str) -> None:
        assert self.stage.house.run_jobs(force=True, only=job)

    def messages(self, member: str, template: str = "") -> list[tuple[str, Mapping[str, Any]]]:
        """(template, facts) of messages that are due, one for each key, in their order."""
        rows = self.stage.rows(
            "SELECT key, body FROM intent WHERE channel = 'notify' AND member = :m ORDER BY entry, place",
            m=self.stage.number(member),
        )
        found = {}
        for key, body in rows:
            effect = msgspec.json.decode(bytes(body))
            if effect["template"].startswith(template or "tiers."):
                found.setdefault((effect["template"], key), (effect["template"], effect["facts"]))
        return list(found.values())

    def changes(self, member: str) -> list[tuple[str, str]]:
        """(tier, reason) as the journal tells it."""
        return [
            (step.data["tier"], step.data["reason"])
            for record in self.stage.records(member)
            for step in record.explanation
            if step.effect == "tier" and step.data is not None
        ]

    def nothing_was_skipped(self) -> None:
        for (body,) in self.stage.rows("SELECT body FROM record"):
            record = read_record(bytes(body))
            assert not record.skipped, record.skipped


@pytest.fixture
def shop(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """A shop with points and the ladders of a TOML text, on each database."""
    with ExitStack() as stack:
        opened: list[Shop] = []

        def open_shop(tiers: str, points: str = POINTS, **more: Any) -> Shop:
            found = Shop(stack.enter_context(make_stage(points + tiers, database_url, tmp_path, **more)))
            opened.append(found)
            return found

        yield open_shop
        for found in opened:
            found.nothing_was_skipped()
            found.stage.house.close()
