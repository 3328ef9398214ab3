"""A database that is asked which members match answers as the rule itself does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.tests.rules import shop
from core.tests.rules.test_agreement import PATIENT
from tallystick.errors import InvalidRule
from tallystick.rules import BOOL, DATE, INT, STRING, TIMESTAMP, ListOf, MapOf, Optional, Scope, Typed, check, interpret
from tallystick.rules.sql import Column, Dialect, Relation, plain, to_sql

SCOPE = Scope(
    {
        "number": INT,
        "balance": INT,
        "visits": Optional(INT),
        "status": STRING,
        "city": Optional(STRING),
        "staff": BOOL,
        "birthday": Optional(DATE),
        "enrolled_at": TIMESTAMP,
        "tier": MapOf(STRING),
        "tags": ListOf(STRING, 20),
        "now": TIMESTAMP,
        "today": DATE,
    },
    zone="America/New_York",
)
COLUMNS = {
    name: Column(name) for name in ("number", "balance", "visits", "status", "city", "staff", "birthday", "enrolled_at")
}
COLUMNS |= {
    "tier.club": Column("tier_club"),
    "tags": Relation("EXISTS (SELECT 1 FROM tag WHERE tag.number = member.number AND tag.tag = {item})"),
}
KNOWN = {"now": shop.NOON, "today": date(2026, 11, 24)}

members = st.fixed_dictionaries(
    {
        "balance": shop.cents,
        "visits": st.none() | st.integers(-3, 100),
        "status": shop.words,
        "city": st.none() | shop.words,
        "staff": st.booleans(),
        "birthday": st.none() | shop.days,
        "enrolled_at": shop.instants.filter(lambda moment: 1900 < moment.year < 2100),
        "tier": st.dictionaries(st.just("club"), shop.words),
        "tags": st.lists(shop.words, max_size=3, unique=True).map(tuple),
    }
)


@st.composite
def conditions(draw: st.DrawFn, depth: int = 3) -> str:
    pick = lambda *ways: draw(st.sampled_from(ways))  # noqa: E731
    word = f'"{draw(shop.words)}"'
    sign = pick("==", "!=", "<", "<=", ">", ">=")
    number = pick(
        "balance",
        "visits.orValue(-1)",
        "balance / 7 - 3",
        "balance % -5",
        "(visits != null && visits > 0 ? balance / visits : 0)",
    )
    number = pick(
        number,
        f"abs({number})",
        f"min({number}, 100)",
        f"floor({number} * decimal('-0.15'))",
        f"round({number} * decimal('0.5'))",
    )
    number = pick(
        number,
        f"ceil({number} * decimal('0.01'))",
        "size(status)",
        "birthday.orValue(today).month",
        "today - birthday.orValue(today)",
    )
    number = pick(
        number,
        "birthday.orValue(today).weekday",
        "(now - enrolled_at).getHours()",
        "-number",
        f"({number} + number * 3)",
    )
    test = pick(
        f"{number} {sign} {draw(shop.cents)}",
        f"{number} in [1, 5, 100]",
        f"city {pick('==', '!=')} {word}",
        f"status {sign} {word}",
        f"city != null && city.{pick('startsWith', 'endsWith', 'contains')}({word})",
        f"city == null || city {sign} {word}",
        f"tier.club == {word}",
        f"city in [{word}, null]",
        f"{word} in tags",
        "staff",
        f"birthday != null && birthday {sign} date('1990-05-17')",
        "birthday.orValue(today).month == today.month",
        f"now - enrolled_at {sign} duration('{pick('1h', '8760h', '-5m')}')",
        f"enrolled_at + duration('24h') {sign} now",
        f"status.lowerAscii() + 'x' {sign} {word}",
        f"decimal('1.5') * balance {sign} decimal('100.25')",
    )
    if depth == 0:
        return test
    below = conditions(depth - 1)
    match pick("plain", "and", "or", "not", "choice"):
        case "and":
            return f"({draw(below)} && {draw(below)})"
        case "or":
            return f"({draw(below)} || {draw(below)})"
        case "not":
            return f"!({draw(below)})"
        case "choice":
            return f"({test} ? {draw(below)} : {draw(below)})"
    return test


def lay_down(connection: sa.Connection, rows: list[dict[str, Any]], boolean: str, big: str) -> None:
    connection.execute(sa.text("DROP TABLE IF EXISTS member"))
    connection.execute(sa.text("DROP TABLE IF EXISTS tag"))
    connection.execute(sa.text(
        f"CREATE TABLE member (number {big}, balance {big}, visits {big}, status TEXT, city TEXT, staff {boolean}, "
        f"birthday TEXT, enrolled_at {big}, tier_club TEXT)"
    ))  # fmt: skip
    connection.execute(sa.text(f"CREATE TABLE tag (number {big}, tag TEXT)"))
    for number, row in enumerate(rows):
        flat = {name: plain(value, INT) for name, value in row.items() if name not in ("tier", "tags")}
        flat |= {"number": number, "tier_club": row["tier"].get("club")}
        names = ", ".join(flat)
        connection.execute(
            sa.text(f"INSERT INTO member ({names}) VALUES ({', '.join(f':{name}' for name in flat)})"), flat
        )
        for tag in row["tags"]:
            connection.execute(sa.text("INSERT INTO tag VALUES (:number, :tag)"), {"number": number, "tag": tag})


def matching(connection: sa.Connection, typed: Typed, dialect: Dialect) -> list[int]:
    where = to_sql(typed, dialect, COLUMNS, KNOWN)
    found = connection.execute(
        sa.text(f"SELECT number FROM member WHERE {where.sql} ORDER BY number"), dict(where.parameters)
    )
    return [int(row[0]) for row in found]


@pytest.fixture
def connect(database_url: str) -> Iterator[Callable[[], sa.Connection]]:
    engine = sa.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        yield lambda: connection
    engine.dispose()


@settings(PATIENT, max_examples=40, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(conditions(), min_size=6, max_size=6), rows=st.lists(members, min_size=5, max_size=5))
def test_the_members_found_are_those_the_rule_names(
    connect: Callable[[], sa.Connection], texts: list[str], rows: list[dict[str, Any]]
) -> None:
    connection = connect()
    dialect: Any = connection.dialect.name
    lay_down(connection, rows, *(("BOOLEAN", "BIGINT") if dialect == "postgresql" else ("INTEGER", "INTEGER")))
    for text in texts:
        try:
            typed = check(text, SCOPE, BOOL)
        except InvalidRule:
            continue
        wanted = [n for n, row in enumerate(rows) if interpret(typed, {**row, **KNOWN, "number": n})]
        assert matching(connection, typed, dialect) == wanted, text
    connection.rollback()


def test_the_wall_clock_of_a_zone_is_postgresqls_and_ours_alike(connect: Callable[[], sa.Connection]) -> None:
    connection = connect()
    typed = check("enrolled_at.getHours() >= 18 || date(enrolled_at).weekday == 7", SCOPE, BOOL)
    if connection.dialect.name == "sqlite":
        with pytest.raises(InvalidRule, match="it has no time zones"):
            to_sql(typed, "sqlite", COLUMNS, KNOWN)
        return
    start = datetime.fromisoformat("2026-10-31T00:00:00+00:00")
    usual = {
        "balance": 1,
        "visits": 1,
        "status": "",
        "city": None,
        "staff": True,
        "birthday": None,
        "tier": {},
        "tags": (),
    }
    rows = [usual | {"enrolled_at": start + timedelta(minutes=30 * n)} for n in range(120)]
    lay_down(connection, rows, "BOOLEAN", "BIGINT")
    assert matching(connection, typed, "postgresql") == [n for n, row in enumerate(rows) if interpret(typed, row)]


def test_what_no_column_knows_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidRule, match="there is no column for balance"):
        to_sql(check("balance > 5", SCOPE, BOOL), "sqlite", {})


def test_no_text_of_a_rule_reaches_the_statement() -> None:
    statement = to_sql(check('status == "\'; DROP TABLE member; --"', SCOPE, BOOL), "sqlite", COLUMNS)
    assert statement.sql == "(status IS :r0)"
    assert statement.parameters == {"r0": "'; DROP TABLE member; --"}
