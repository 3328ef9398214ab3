"""Tiers, gamification and risk beside each other: any of them is switched off and on, and the others do not notice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import sqlalchemy as sa

from tallystick import switchboard, tables
from tallystick.testing import Stage, make_stage, play

SETTINGS = """
[plugins.points]
redeem = { points = 100, gives = 100 }
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
[[plugins.tiers.ladders]]
name = "club"
metrics.visits = { measure = "visits" }
tiers = [{ name = "new" }, { name = "regular", at = 3 }]
[[plugins.gamification.tasks]]
name = "three"
goal = 3
rewards = [{ unit = "points", amount = 7 }]
[plugins.risk]
without = ["fresh_spender", "split_receipts", "padded_sale"]
limits = { redemptions_hour = 3 }
"""
THREE = ("tiers", "gamification", "risk")


@pytest.fixture
def stage(database_url: str, tmp_path: Path) -> Iterator[Stage]:
    with make_stage(SETTINGS, database_url, tmp_path) as found:
        yield found


def seen(stage: Stage) -> dict[str, Any]:
    """What each of the three has of ada: a tier, levels that were paid, what was remembered of redemptions."""
    key = f"m:{stage.number('ada')}"
    rows = {(plugin, name): msgspec.json.decode(value) for plugin, name, value in stage.rows("SELECT plugin, name, value FROM own WHERE key = :k", k=key)}  # fmt: skip
    remembered = msgspec.json.decode(rows.get(("risk", "seen"), "[]"))
    return {
        "tiers": rows.get(("core", "tier:club"), {}).get("tier", ""),
        "gamification": sum(levels for levels, _ in rows.get(("gamification", "tasks"), {}).get("three", {}).values()),
        "risk": sum(event[1] == "spend" for event in (remembered[9] if remembered else ())),
    }


def spend(stage: Stage) -> str:
    return str(stage.send("points.redeemed", {"points": 100}, member="ada").status)


@pytest.mark.parametrize("off", THREE)
def test_one_is_switched_off_and_on_and_its_history_and_the_others_stay(stage: Stage, off: str) -> None:
    play(
        """
        2025-01-02  ada buys 1000.00 as A   earns 1000 points
        2025-01-02  ada buys 1.00 as B      earns 1 points
        """,
        stage=stage,
    )
    assert spend(stage) == "recorded"
    before = seen(stage)
    assert before == {"tiers": "new", "gamification": 0, "risk": 1}

    switchboard.disable(stage.house, "shop", off, actor="test")
    play("2025-01-02  ada buys 1.00 as C", stage=stage)
    assert spend(stage) == "recorded"
    reached = {"tiers": "regular", "gamification": 1, "risk": 2}
    assert seen(stage) == {**reached, off: before[off]}

    switchboard.enable(stage.house, "shop", off, actor="test")
    play("2025-01-02  ada buys 1.00 as D\n2025-01-02  ada buys 1.00 as E", stage=stage)
    # who was off counts on from where it was: two visits and two more, one redemption and this one
    assert spend(stage) == ("held" if off != "risk" else "recorded")
    assert seen(stage) == {**reached, "risk": 3 if off != "risk" else 2}


#: What has a row or a few, however many members there are: tables, and names within statements.
SMALL = frozenset({"writer", "programme", "lease", "head", "wanted"})


def test_no_statement_of_an_event_goes_through_everybodys_rows(sqlite_url: str, tmp_path: Path) -> None:
    """Or the cost of one event would grow with the number of members."""
    said: list[str] = []
    with make_stage(SETTINGS, sqlite_url, tmp_path) as stage:
        play("2025-01-02  ada buys 1000.00 as A   earns 1000 points", stage=stage)
        with stage.house.db.connect() as conn:
            conn.connection.driver_connection.set_trace_callback(said.append)  # type: ignore[union-attr]
        play("2025-01-02  ada buys 1.00 as B", stage=stage)
        more = {"points": 100, "device": "till-1", "cashier": "eve"}
        stage.send("points.redeemed", more, member="ada")
        stage.send("purchase.refunded", {"order": "A"}, member="ada")
        with stage.house.reading() as conn:
            plans = {
                (row[3], text)
                for text in said
                if text.lstrip().startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT"))
                for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all()
            }
    assert any("own USING" in plan for plan, _ in plans)
    through = [
        (plan, text)
        for plan, text in plans
        if (found := re.match(r"(?:SCAN|SEARCH) (\w+)(.*)", plan))
        and found[1] not in SMALL
        and "VIRTUAL TABLE" not in plan
        and "CONSTANT ROW" not in plan
        and (plan.startswith("SCAN") or re.search(r"\(tenant=\?(?: AND plugin=\?)?\)", plan))
    ]
    assert through == [], "\n".join(f"{plan}: {text}" for plan, text in through)


#: Every statement tells how it was done: plan, rows and pages of each of its steps, as JSON.
TELLING = "&options=" + quote(
    "-c session_preload_libraries=auto_explain -c auto_explain.log_min_duration=0 -c auto_explain.log_format=json"
    " -c auto_explain.log_analyze=on -c auto_explain.log_buffers=on -c auto_explain.log_timing=off -c client_min_messages=log"
)
#: As many more rows as that in every table, and as few pages of them for a step.
CROWD, PAGES = 5_000, 20


def crowd(stage: Stage) -> list[str]:
    """Many rows like each that is there, other people's; the tables that have them."""
    crowded = []
    with stage.house.db.begin() as conn:
        for table in tables.metadata.sorted_tables:
            if table.name in SMALL or "tenant" not in table.columns or table is tables.programme:
                continue
            keys = {column.name for column in table.primary_key} - {"tenant", "plugin"}
            new = {
                name: f"{1 << 40} + n" if column.type.python_type is int else f"{name} || n"
                for name, column in table.columns.items()
                if name in keys or name == "member"
            }
            names = [column.name for column in table.columns]
            named = ", ".join(names)
            said = ", ".join(new.get(name, name) for name in names)
            sql = f"INSERT INTO {table.name} ({named}) SELECT {said} FROM (SELECT * FROM {table.name} LIMIT 1), generate_series(1, {CROWD}) n"
            if conn.exec_driver_sql(sql).rowcount:
                crowded.append(table.name)
        conn.exec_driver_sql("ANALYZE")
    return crowded


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from steps(each)


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
def test_nor_does_one_on_a_server(database_url: str, tmp_path: Path) -> None:
    """Also when the server has seen a statement so often that it plans it once for all."""
    said: list[str] = []
    with make_stage(SETTINGS, database_url + TELLING, tmp_path) as stage:
        play("2025-01-02  ada buys 1000.00 as A   earns 1000 points", stage=stage)
        stage.send("purchase.refunded", {"order": "A", "amount": 100}, member="ada")
        crowded = crowd(stage)
        assert {"lot", "balance", "own", "order_entry", "record", "claim", "transfer", "taken", "alias"} <= {*crowded}

        def listen(driver: Any, entry: Any, _proxy: Any) -> None:
            if entry.info.setdefault("told", driver) is driver:
                entry.info["told"] = None
                driver.add_notice_handler(lambda diagnostic: said.append(diagnostic.message_primary or ""))

        sa.event.listen(stage.house.db, "checkout", listen)
        for n in range(8):
            play(f"2025-01-02  ada buys 1.00 as B{n}", stage=stage)
            stage.send("points.redeemed", {"points": 100, "device": "till-1", "cashier": "eve"}, member="ada")
            stage.send("purchase.refunded", {"order": f"B{n}"}, member="ada")
        stage.rows("SELECT entry FROM lot WHERE amount = -1")
    told = [msgspec.json.decode(each[each.index("{") :]) for each in said if "{" in each]
    scans = [(step, one["Query Text"]) for one in told for step in steps(one["Plan"]) if "Relation Name" in step]
    assert {"lot", "own", "order_entry"} <= {step["Relation Name"] for step, _ in scans}
    through = {
        f"{step['Node Type']} of {step['Relation Name']}: {text}"
        for step, text in scans
        if step["Node Type"].endswith("Scan") and step["Shared Hit Blocks"] + step["Shared Read Blocks"] > PAGES
    }
    assert through == {"Seq Scan of lot: SELECT entry FROM lot WHERE amount = -1"}, "the one that was to be seen"
