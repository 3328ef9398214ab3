"""A whole house on a real database, with a clock that the test moves and members that come when they are named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from .. import config, discovery, house, people
from ..document import Document
from ..engine import Outcome
from ..events import Arrival
from ..intake import read_document
from ..ledger import NEVER, Record, instant, moment, parse_member, read_record

START = datetime(2025, 1, 1, 12, tzinfo=UTC)


@attrs.define
class Stage:
    """One tenant's house.  ``clock`` is what the house takes for now; nothing moves it but the test."""

    house: house.House
    tenant: str = "shop"
    clock: list[int] = attrs.field(factory=lambda: [instant(START)])
    outcomes: dict[str, Outcome] = attrs.field(factory=dict)
    _count: int = 0
    _known: set[str] = attrs.field(factory=set)

    @property
    def now(self) -> datetime:
        """What the house takes for now."""
        return moment(self.clock[0])

    @property
    def currency(self) -> str:
        """The shop's own currency."""
        return self.house.tenants()[self.tenant].currency

    def at(self, when: datetime) -> None:
        """Move the clock."""
        self.clock[0] = instant(when)

    def enrol(self, *names: str, **more: Any) -> None:
        """Make members known under these external ids."""
        with self.house.db.begin() as conn:
            for name in names:
                if name not in self._known:
                    people.enrol(conn, self.house.secret, self.tenant, self.clock[0], external_ids=[name], **more)
                    self._known.add(name)

    def arrival(
        self,
        kind: str,
        data: Mapping[str, Any],
        *,
        member: str = "",
        id: str = "",
        at: datetime | None = None,
        source: str = "test",
    ) -> Arrival:
        """An event that went through the door."""
        self._count += 1
        document: dict[str, Any] = {
            "id": id or f"e-{self._count}",
            "source": source,
            "type": kind,
            "time": (at or self.now).isoformat(),
            "data": data,
        }
        if member:
            document["member"] = member
        kinds = self.house.kinds(self.tenant)
        return read_document(document, tenant=self.tenant, kinds=kinds, received=self.now, actor="test")

    def send(self, kind: str, data: Mapping[str, Any], **more: Any) -> Record:
        """Record one event; the record, or the refusal raised."""
        outcome = self.try_send(kind, data, **more)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome.record

    def try_send(self, kind: str, data: Mapping[str, Any], **more: Any) -> Outcome:
        """Record one event; its outcome."""
        arrival = self.arrival(kind, data, **more)
        outcome = self.house.engine.record([arrival])[0]
        self.outcomes[arrival.id] = outcome
        return outcome

    def number(self, member: str) -> int:
        """A member's number."""
        known = parse_member(member)
        if known is not None:
            return known
        with self.house.reading() as conn:
            return people.load(conn, self.house.secret, self.tenant, member).number

    def usable(self, member: str, unit: str = "points") -> int:
        """What the member can spend now."""
        number, now = self.number(member), self.clock[0]
        lots = self.rows(
            "SELECT remaining FROM lot WHERE tenant = :t AND member = :m AND unit = :u AND usable_from <= :now AND expires_at > :now",
            t=self.tenant, m=number, u=unit, now=now,
        )  # fmt: skip
        owed = self.rows(
            "SELECT deficit FROM balance WHERE tenant = :t AND member = :m AND unit = :u",
            t=self.tenant,
            m=number,
            u=unit,
        )
        return int(sum(row[0] for row in lots) - sum(row[0] for row in owed))

    def posted(self, member: str, unit: str = "points") -> int:
        """The member's posted balance: the sum of all transfers."""
        rows = self.rows(
            "SELECT posted FROM balance WHERE tenant = :t AND member = :m AND unit = :u",
            t=self.tenant,
            m=self.number(member),
            u=unit,
        )
        return int(rows[0][0]) if rows else 0

    def lots(self, member: str, unit: str = "points") -> list[tuple[int, datetime, datetime | None]]:
        """(left, usable from, expires at) of the member's lots with something left, in the order of spending."""
        rows = self.rows(
            "SELECT remaining, usable_from, expires_at FROM lot WHERE tenant = :t AND member = :m AND unit = :u AND remaining > 0"
            " ORDER BY expires_at, usable_from, entry, part",
            t=self.tenant, m=self.number(member), u=unit,
        )  # fmt: skip
        return [
            (left, moment(min(usable, NEVER >> 6)), None if expires >= NEVER else moment(expires))
            for left, usable, expires in rows
        ]

    def records(self, member: str = "") -> list[Record]:
        """All records, or a member's, in the order of the journal."""
        rows = self.rows("SELECT body FROM record WHERE tenant = :t ORDER BY entry", t=self.tenant)
        found = [read_record(bytes(row[0])) for row in rows]
        return [record for record in found if not member or record.member == f"m-{self.number(member):012d}"]

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """What the database says."""
        import sqlalchemy as sa

        with self.house.reading() as conn:
            return list(conn.execute(sa.text(sql), values))


@contextmanager
def make_stage(
    settings: str, url: str, folder: Path, *, tenant: str = "shop", start: datetime = START
) -> Iterator[Stage]:
    """A house for one tenant, set up by the TOML of its table: ``[plugins.points]`` and so on.

    *url* is an empty database.
    """
    inner = re.sub(r"(?m)^(\s*\[+)", rf"\1tenants.{tenant}.", settings)
    if f"[tenants.{tenant}]" not in inner:
        head = "" if re.search(r"(?m)^zone\s*=", settings) else 'zone = "America/New_York"\n'
        head += "" if re.search(r"(?m)^currency\s*=", settings) else 'currency = "USD"\n'
        found = re.search(r"(?m)^\s*\[", inner)
        cut = found.start() if found else len(inner)
        inner = f'[tenants.{tenant}]\nname = "Shop"\n{head}{inner[:cut]}\n{inner[cut:]}'
    text = f'[house]\ndatabase = "{url}"\n\n{inner}'
    file = folder / "tally.toml"
    file.write_text(text)
    installed = discovery.discover()
    checked = config.check(Document.read(file), installed=installed, folder=folder)
    if checked.unavailable:
        raise AssertionError("; ".join(str(problem) for problem in checked.unavailable))
    house.prepare(checked, installed=installed)
    clock = [instant(start - timedelta(days=3650))]
    built = house.build_house(checked, installed=installed, clock=lambda: clock[0])
    clock[0] = instant(start)
    stage = Stage(house=built, tenant=tenant, clock=clock)
    try:
        yield stage
    finally:
        stage.house.close()  # a story may have opened another house over the same books
