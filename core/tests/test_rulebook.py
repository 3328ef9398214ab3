"""The rules of any plugin at the doors: why, why not, what it would take, aloud and looked over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tallystick import rulebook
from tallystick.cli import cli
from tallystick.errors import NotFound, UnknownEntry
from tallystick.ledger import parse_entry
from tallystick.rules import HasRules, HasStandings
from tallystick.testing.stage import Stage, make_stage
from tallystick.testing.stories import play

SETTINGS = """
[plugins.points]
[[plugins.points.earn]]
name = "base"
points = 1
per = 100
[[plugins.points.earn]]
name = "coffee"
when = "eligible >= 5000"
lines = "line.category == 'COFFEE'"
points = 2
per = 100
[[plugins.points.earn]]
name = "first"
kind = "bonus"
when = "counter.visits == 0"
points = 50
[[plugins.points.earn]]
name = "rich"
kind = "bonus"
when = "balance.points.usable >= 100"
points = 7
[[plugins.points.earn]]
name = "festival"
kind = "bonus"
from = 2025-02-01
until = 2025-02-07
points = 5
[plugins.points.counters.visits]
window = "lifetime"
"""
STORY = """
2025-01-02  ann buys [{"sku": "gift", "amount": 1000, "kind": "stored_value"}, {"sku": "beans", "amount": 4000, "category": "COFFEE"}]
2025-01-03  ann buys 123.45
2025-01-04  ann buys 10.00
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with make_stage(SETTINGS, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        play(STORY, stage=stage)
        yield stage


def ask(stage: Stage, rule: str, place: int = -1, language: Any = "en") -> rulebook.WhyNot:
    """About one of ann's entries."""
    entry = parse_entry(stage.records("ann")[place].entry) or 0
    return rulebook.whynot(stage.house, "shop", rule, entry=entry, language=language)


def test_points_offers_its_rules_by_the_public_names(stage: Stage) -> None:
    (part,) = stage.house.registry.latest("shop").pipeline.parts
    assert isinstance(part.plugin, HasRules)
    assert isinstance(part.plugin, HasStandings)
    assert {known.rule for known in rulebook.rules_of(stage.house.registry.latest("shop"))} == {
        "points.base", "points.coffee", "points.first", "points.rich", "points.festival", "points.counter.visits",
    }  # fmt: skip


def test_why_not_names_the_first_condition_that_failed_and_the_smallest_change(stage: Stage) -> None:
    answer = ask(stage, "points.coffee", 0)
    assert (answer.fires, answer.part, answer.condition) == (False, "when", "eligible >= 5000")
    assert answer.facts == (rulebook.Fact(fact="eligible", value=4000),)
    (change,) = answer.needed
    assert (change.fact, change.found, change.needed, change.by) == ("eligible", 4000, 5000, 1000)
    assert (
        answer.text
        == "points.coffee did not fire: it needs that eligible is at least 50.00 USD; eligible is 40.00 USD."
    )
    assert change.text == "points.coffee would fire if eligible were 50.00 USD (10.00 USD more)."
    assert ask(stage, "points.coffee", 0, "zh").text == (
        "points.coffee 未触发：需要可积分金额不少于50.00 USD；可积分金额现为40.00 USD。"
    )


def test_lines_are_counted_as_the_event_has_them(stage: Stage) -> None:
    """The gift card before it is no line that earns, and the second line is still called the second."""
    play(
        '2025-01-05  ann buys [{"sku": "g", "amount": 1000, "kind": "stored_value"}, {"sku": "t", "amount": 6000, "category": "TEA"}]',
        stage=stage,
    )
    (change,) = ask(stage, "points.coffee").needed
    assert (change.line, change.found, change.needed) == (1, "TEA", "COFFEE")
    assert "line 2" in change.text


def test_the_past_is_asked_as_it_was(stage: Stage) -> None:
    """Counters and balances of today would say otherwise of each of these."""
    assert [ask(stage, "points.first", place).fires for place in range(3)] == [True, False, False]
    assert ask(stage, "points.first", 1).facts == (rulebook.Fact(fact="counter.visits", value=1),)
    assert [ask(stage, "points.rich", place).fires for place in range(3)] == [False, False, True]
    assert [ask(stage, "points.rich", place).facts[0].value for place in range(2)] == [0, 90]
    stage.send("points.adjusted", {"points": -200, "reason": "mistake", "by": "staff-1"}, member="ann")
    assert ask(stage, "points.rich", 2).fires


@pytest.mark.parametrize("place", range(3))
def test_why_not_agrees_with_what_was_recorded(stage: Stage, place: int) -> None:
    record = stage.records("ann")[place]
    gave = {step.rule for step in record.explanation}
    for rule in ("points.base", "points.coffee", "points.first", "points.rich", "points.festival"):
        answer = ask(stage, rule, place)
        assert answer.fires is (rule in gave)
        assert [reason.amount for reason in answer.outcome] == [
            step.amount for step in record.explanation if step.rule == rule
        ]


def test_a_rule_out_of_its_time_says_so(stage: Stage) -> None:
    answer = ask(stage, "points.festival")
    assert answer.condition == 'today >= date("2025-02-01")'
    assert answer.needed[0].text == "points.festival would fire if today were 2025-02-01 (28 days later)."


def test_an_event_that_is_only_asked_about_is_not_recorded(stage: Stage) -> None:
    before = len(stage.records())
    data = {"order": "R", "currency": "USD", "lines": [{"sku": "beans", "amount": 4900, "category": "COFFEE"}]}
    arrival = rulebook.imagine(stage.house, "shop", "ann", {"data": data}, "points.coffee", "test")
    answer = rulebook.whynot(stage.house, "shop", "points.coffee", arrival=arrival)
    assert [(change.fact, change.by) for change in answer.needed] == [("eligible", 100)]
    data["lines"] = [{"sku": "beans", "amount": 5000, "category": "COFFEE"}]
    arrival = rulebook.imagine(stage.house, "shop", "ann", {"data": data}, "points.coffee", "test")
    answer = rulebook.whynot(stage.house, "shop", "points.coffee", arrival=arrival)
    assert (answer.fires, answer.outcome[0].amount) == (True, 100)
    assert len(stage.records()) == before


def test_what_nobody_knows_is_refused_by_name(stage: Stage) -> None:
    with pytest.raises(NotFound, match=r"did you mean points\.coffee\?"):
        ask(stage, "points.cofee")
    with pytest.raises(UnknownEntry):
        rulebook.whynot(stage.house, "shop", "points.base", entry=12345)
    stage.enrol("bob")
    entry = parse_entry(stage.records("ann")[0].entry) or 0
    with pytest.raises(UnknownEntry):
        rulebook.whynot(stage.house, "shop", "points.base", entry=entry, member="bob")
    with pytest.raises(NotFound, match="no entry yet"):
        rulebook.last_entry(stage.house, "shop", "bob", "points.base")


def test_an_entry_is_told_line_by_line(stage: Stage) -> None:
    entry = parse_entry(stage.records("ann")[0].entry) or 0
    told = {each.rule: each for each in rulebook.told(stage.house, "shop", entry)}
    assert told["points.base"].sentences[:2] == ("points.base gave 40 points", "line 2 (beans): 40.00 USD")
    assert told["points.first"].sentences[1:] == (
        "If the counter visits is 0: the rule applies.",
        "counter visits is 0",
    )
    zh = {each.rule: each for each in rulebook.told(stage.house, "shop", entry, "zh")}
    assert zh["points.base"].sentences[1] == "第2行（beans）：40.00 USD"


def test_what_was_stored_stays_true_when_the_member_is_forgotten(stage: Stage) -> None:
    from tallystick import people

    entry = parse_entry(stage.records("ann")[0].entry) or 0
    with stage.house.db.begin() as conn:
        people.erase(conn, "shop", stage.number("ann"), stage.clock[0])
    told = rulebook.told(stage.house, "shop", entry)
    assert [(each.rule, each.text) for each in told] == [
        ("points.base", "points.base gave 40 points"),
        ("points.first", "points.first gave 50 points on top"),
    ]
    assert all(each.facts == () and each.says == "" for each in told)


def test_a_rule_is_read_aloud_with_boundaries_that_were_executed(stage: Stage) -> None:
    generation = stage.house.registry.latest("shop")
    (page,) = rulebook.show_rule(generation, "points.coffee")
    assert page.text.startswith(
        "If eligible is at least 50.00 USD: lines count for which the line category is “COFFEE”"
    )
    assert [(edge.value, edge.fires) for edge in page.edges] == [(4999, False), (5000, True), (5001, True)]
    (page,) = rulebook.show_rule(generation, "points.festival", "zh")
    assert [edge.text for edge in page.edges] == [
        "今天 2025-01-31：不触发", "今天 2025-02-01：触发", "今天 2025-02-02：触发",
        "今天 2025-02-06：触发", "今天 2025-02-07：触发", "今天 2025-02-08：不触发",
    ]  # fmt: skip


# --- the command line ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tally(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    stage.house.db.dispose()
    monkeypatch.chdir(tmp_path)

    def run(*args: str, status: int = 0) -> Any:
        result = CliRunner().invoke(cli, args)
        assert result.exit_code == status, result.output
        return json.loads(result.stdout) if "--json" in args else result.stdout

    return run


def test_the_commands_answer_in_two_languages_and_as_json(stage: Stage, tally: Any, tmp_path: Path) -> None:
    entry = stage.records("ann")[0].entry
    asked = ("whynot", "--member", "ann", "--rule", "points.coffee", "--event", entry)
    assert "(10.00 USD more)" in tally("--lang", "en", *asked)
    assert "（再多10.00 USD）" in tally("--lang", "zh", *asked)
    assert tally(*asked, "--json")["needed"][0]["by"] == 1000
    assert "line 2 (beans): 40.00 USD" in tally("--lang", "en", "explain", entry)
    assert "第2行（beans）：40.00 USD" in tally("--lang", "zh", "explain", entry)
    assert [each["rule"] for each in tally("explain", entry, "--json")["why"]] == ["points.base", "points.first"]
    assert "points.coffee" in tally("rule", "list")
    assert "50.00 USD: yes" in tally("--lang", "en", "rule", "show", "points.coffee")
    file = tmp_path / "event.json"
    file.write_text(json.dumps({"data": {"order": "R", "currency": "USD", "lines": [{"sku": "a", "amount": 1}]}}))
    assert tally("whynot", "--member", "ann", "--rule", "points.coffee", "--event", str(file), "--json")["entry"] == ""
    assert (
        tally("whynot", "--member", "ann", "--rule", "points.base", "--json")["entry"] == stage.records("ann")[-1].entry
    )


LINTED = """
[house]
database = "sqlite:///books.db"
[tenants.shop]
name = "Shop"
zone = "Asia/Shanghai"
currency = "CNY"
"""


def rule(name: str, **more: Any) -> str:
    fields = {"name": name, "points": 1, **more}
    return "\n[[tenants.shop.plugins.points.earn]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in fields.items())


@pytest.mark.parametrize(
    "rules, code, status, key",
    [
        ([rule("a", when="purchase.total < 0")], "never_fires", 1, "when"),
        ([rule("a", when="purchase.total >= 0")], "always_fires", 0, "when"),
        ([rule("a", per=100, lines="line.quantity < 0")], "no_line_counts", 1, "lines"),
        (
            [
                rule("a", when="purchase.total > 9", group="g", exclusive=True),
                rule("b", when="purchase.total > 99", group="g"),
            ],
            "always_displaced",
            1,
            "when",
        ),
        (
            [
                rule("a", when="purchase.total > 9", group="g", stop=True),
                rule("b", when="purchase.total > 99", group="g"),
            ],
            "always_stopped",
            1,
            "when",
        ),
        ([rule("a", points=5)], "without_spending", 0, "name"),
    ],
)
def test_lint_names_the_place_and_the_exit_status_says_how_bad(
    rules: list[str], code: str, status: int, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = LINTED + "".join(rules)
    (tmp_path / "tally.toml").write_text(text)
    result = CliRunner().invoke(cli, ["lint", "--json"])
    (found,) = [each for each in json.loads(result.stdout) if each["code"] == code]
    assert result.exit_code == status
    lines = text.splitlines()
    if key == "name":
        assert lines[found["line"] - 1] == "[[tenants.shop.plugins.points.earn]]"
    else:
        last = max(n for n, line in enumerate(lines, 1) if line.startswith(f"{key} = "))
        assert (found["file"], found["line"], found["column"]) == ("tally.toml", last, len(key) + 4)


@pytest.mark.parametrize(
    "rules",
    [
        [
            rule("a", when="purchase.total > 99", group="g", exclusive=True),
            rule("b", when="purchase.total > 9", group="g"),
        ],
        [
            rule("a", when="purchase.total > 9", group="h", exclusive=True),
            rule("b", when="purchase.total > 99", group="g"),
        ],
        [rule("b", when="purchase.total > 99", group="g"), rule("a", when="purchase.total > 9", group="g", stop=True)],
        [
            rule("a", when="purchase.total > 9", group="g", exclusive=True).replace("name", "from = 2025-01-01\nname"),
            rule("b", when="purchase.total > 99", group="g"),
        ],
    ],
    ids=["fires less often", "another group", "stops those behind", "only for a time"],
)
def test_what_still_counts_sometimes_is_not_reported(
    rules: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tally.toml").write_text(LINTED + "".join(rules))
    result = CliRunner().invoke(cli, ["lint", "--json"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


def test_the_example_of_a_kind_is_what_boundaries_start_from(stage: Stage) -> None:
    generation = stage.house.registry.latest("shop")
    for kind in generation.kinds:
        event, situation = rulebook.example(generation, kind)
        assert (event.kind, situation.now) == (kind, datetime(2025, 1, 6, 12, tzinfo=UTC))
