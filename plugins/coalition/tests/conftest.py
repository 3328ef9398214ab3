"""A town: brands that are tenants of one real house, with agreements between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallystick import config, database, discovery, house, people, proofs
from tallystick.document import Document
from tallystick.errors import TallyError
from tallystick.intake import read_document
from tallystick.ledger import Record, instant, moment
from tallystick_coalition import agreement as agreements
from tallystick_coalition import exchange
from tallystick_coalition.agreement import Agreement, Flow
from tallystick_coalition.desk import Desk, Neighbour, partner_of

START = datetime(2026, 6, 10, 12, tzinfo=UTC)
TRANSFER = "t-0000000{}"


def key_of(brand: str, number: int = 0) -> str:
    """A brand's private key, the same in every run."""
    return agreements.new_key(sha256(f"key/{brand}/{number}".encode()).digest())


def flow(kind: str, source: str, target: str, **more: Any) -> Flow:
    defaults = {"convert": ("1", "1"), "redeem": ("1", "4/5"), "earn": ("1/100", "1")}[kind]
    document = {"kind": kind, "source": source, "target": target, "rate": defaults[0], "price": defaults[1], **more}
    return msgspec.convert(document, type=Flow)


def agree(one: str, two: str, flows: Sequence[Flow], *, version: int = 1, **more: Any) -> Agreement:
    brands = sorted((one, two))
    return Agreement(
        **{
            "format": agreements.FORMAT, "name": f"{brands[0]}-{brands[1]}", "version": version, "brands": tuple(brands),
            "keys": {brand: (agreements.public_key(key_of(brand)),) for brand in brands}, "currency": "USD",
            "since": datetime(2026, 1, 1, tzinfo=UTC), "flows": tuple(flows), **more,
        }
    )  # fmt: skip


def signed(agreement: Agreement, *brands: str, number: int = 0) -> dict[str, Any]:
    text = agreements.canonical(agreement)
    who = brands or agreement.brands
    return {
        "text": text,
        "signatures": {
            brand: agreements.sign(key_of(brand, number), agreements.PURPOSE, text.encode()) for brand in who
        },
    }


class Town:
    """Some brands in one house; time stands still unless the test moves it."""

    def __init__(self, built: house.House, clock: list[int], brands: Sequence[str]) -> None:
        self.house, self.clock, self.brands = built, clock, brands
        self._count = 0

    @property
    def now(self) -> datetime:
        return moment(self.clock[0])

    def goes_by(self, **length: float) -> None:
        self.clock[0] += timedelta(**length) // timedelta(microseconds=1)

    def desk(self, brand: str) -> Desk:
        return Desk(self.house.errand("coalition", brand, "test"))

    def way(self, brand: str, partner: str) -> Neighbour:
        return partner_of(self.desk(brand), partner)

    def member(self, brand: str, name: str, **more: Any) -> int:
        with self.house.db.begin() as conn:
            made = people.enrol(conn, self.house.secret, brand, self.clock[0], external_ids=[name], **more)
        return int(made)

    def block(self, brand: str, member: int) -> None:
        with self.house.db.begin() as conn:
            people.change_member(conn, brand, member, blocked=True)

    def send(self, brand: str, kind: str, data: Mapping[str, Any], *, member: int | str = "", id: str = "") -> Record:
        self._count += 1
        document = {
            "id": id or f"e-{self._count}", "source": "test", "type": kind, "time": self.now.isoformat(), "data": data,
        }  # fmt: skip
        if member:
            document["member"] = f"m-{member:012d}" if isinstance(member, int) else member
        kinds = self.house.kinds(brand)
        arrival = read_document(document, tenant=brand, kinds=kinds, received=self.now, actor="test")
        (outcome,) = self.house.record([arrival])
        if isinstance(outcome, TallyError):
            raise outcome
        return outcome.record

    def agree(self, agreement: Agreement, **more: Any) -> None:
        document = signed(agreement, **more)
        for brand in agreement.brands:
            self.send(brand, "coalition.agreed", {"partner": agreement.other(brand), **document})

    def gives(self, brand: str, member: int, points: int) -> Record:
        """Staff give points, which expire by the brand's policy."""
        return self.send(brand, "points.adjusted", {"points": points, "reason": "test", "by": "staff-1"}, member=member)

    def usable(self, brand: str, member: int, unit: str = "points") -> int:
        return sum(row[0] for row in self.lots(brand, member, unit))

    def lots(self, brand: str, member: int, unit: str = "points") -> list[tuple[int, int, str]]:
        """(left, expires at, issuer) of the member's lots with something left."""
        rows = self.rows(
            "SELECT remaining, expires_at, issuer FROM lot WHERE tenant = :t AND member = :m AND unit = :u AND remaining > 0"
            " ORDER BY expires_at, usable_from, entry, part",
            t=brand, m=member, u=unit,
        )  # fmt: skip
        return [tuple(row) for row in rows]

    def link(self, one: str, two: str, first: int, second: int = 0) -> str:
        """A member of *one* is known to *two*, there as their own member if they have one."""
        alias = self.desk(one).link(two, first)
        if second:
            self.desk(two).link(one, second, alias)
        return alias

    def convert(self, source: str, target: str, member: int, points: int, *, transfer: str = "t-00000001") -> Any:
        return exchange.send(
            self.desk(source), self.way(source, target), transfer=transfer, kind="convert", amount=points, member=member
        )

    def pay(
        self, target: str, source: str, alias: str, points: int, *, transfer: str = "t-00000001", **more: Any
    ) -> Any:
        return exchange.take(
            self.desk(target), self.way(target, source), transfer=transfer, alias=alias, points=points, **more
        )

    def works(self, only: str = "coalition.ask") -> None:
        self.house.run_jobs(force=True, only=only)

    def state(self, brand: str, partner: str, transfer: str = "t-00000001") -> str:
        row = self.desk(brand).rows(f"transfer/{partner}/{transfer}").get("state")
        return row["state"] if row else "unknown"

    def pair(self, brand: str, partner: str) -> dict[str, Any]:
        return {"open": 0, **(self.desk(brand).rows(f"pair/{partner}").get("state") or {})}

    def rows(self, sql: str, **values: Any) -> list[Any]:
        import sqlalchemy as sa

        with database.reading(self.house.db) as conn:
            return list(conn.execute(sa.text(sql), values))

    def proves(self) -> None:
        """The house's own proof of its books."""
        with database.reading(self.house.db) as conn:
            assert proofs.verify(conn).findings == ()


def configuration(folder: Path, url: str, brands: Sequence[str], partners: Mapping[str, Sequence[str]]) -> Path:
    text = f'[house]\ndatabase = "{url}"\n'
    for brand in brands:
        key = folder / f"{brand}.key"
        key.write_text(key_of(brand))
        text += (
            f'\n[tenants.{brand}]\nname = "{brand}"\nzone = "America/New_York"\ncurrency = "USD"\n'
            f'[tenants.{brand}.plugins.points]\nexpiry = {{ policy = "rolling", after = "P12M" }}\n'
            f"[tenants.{brand}.plugins.points.gift]\n"
            f'[tenants.{brand}.plugins.coalition]\nkey = {{ file = "{brand}.key" }}\nunit_cost = "1/2"\n'
        )
        for partner in partners.get(brand, [other for other in brands if other != brand]):
            text += f'[tenants.{brand}.plugins.coalition.partners.{partner}]\ntenant = "{partner}"\n'
    file = folder / "tally.toml"
    file.write_text(text)
    return file


@pytest.fixture
def make_town(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Town]]:
    """Call it with the names of the brands; everybody is everybody's partner unless *partners* says otherwise."""
    with ExitStack() as stack:

        def make(*brands: str, partners: Mapping[str, Sequence[str]] | None = None) -> Town:
            url = f"sqlite:///{tmp_path / 'tally.db'}"
            if "database_url" in request.fixturenames:
                url = request.getfixturevalue("database_url")
            file = configuration(tmp_path, url, brands, partners or {})
            installed = discovery.discover()
            checked = config.check(Document.read(file), installed=installed, folder=tmp_path)
            assert not checked.unavailable, checked.unavailable
            house.prepare(checked, installed=installed)
            clock = [instant(START - timedelta(days=3650))]
            built = house.build_house(checked, installed=installed, clock=lambda: clock[0])
            clock[0] = instant(START)
            stack.callback(built.close)
            return Town(built, clock, brands)

        yield make


FLOWS = (
    flow("convert", "grocer", "fuel", rate="2/3", price="1/2"),
    flow("redeem", "grocer", "fuel", rate="1", price="4/5"),
    flow("earn", "fuel", "grocer", rate="1/100", price="1"),
)


@pytest.fixture
def town(make_town: Callable[..., Town]) -> Town:
    """A grocer and a filling station that have agreed."""
    made = make_town("grocer", "fuel")
    made.agree(agree("grocer", "fuel", FLOWS))
    return made
