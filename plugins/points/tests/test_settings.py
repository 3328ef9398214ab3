"""Settings and the name plate: every mistake is found before anything runs, with its place."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import tallystick_points
from tallystick import discovery, manifest
from tallystick.config import check
from tallystick.document import Document
from tallystick.errors import InvalidConfig
from tallystick_points.settings import read

HEAD = """
[house]
database = "sqlite:///:memory:"

[tenants.shop]
zone = "Asia/Shanghai"
currency = "USD"

[tenants.shop.plugins.points]
"""


def problems(toml: str) -> list[str]:
    """Line and message of every mistake, counted from the first line of *toml*."""
    text = HEAD + toml.replace("[[", "[[tenants.shop.plugins.points.").replace(
        "\n[", "\n[tenants.shop.plugins.points."
    ).replace("[tenants.shop.plugins.points.[tenants", "[[tenants")
    try:
        check(Document(text), installed=discovery.discover())
    except InvalidConfig as error:
        return [f"{problem.line - HEAD.count(chr(10))}:{problem.column} {problem.reason}" for problem in error.problems]
    return []


RULE = '\n[[earn]]\nname = "base"\n'


@pytest.mark.parametrize(
    "toml, expected",
    [
        pytest.param(RULE + 'points = 1\nper = 100\nwhen = "purchase.total > 5"', None, id="a good rule"),
        pytest.param(RULE + "points = 1\non = 'purchase.complete'", 'did you mean "purchase.completed"?', id="a kind nobody sends"),
        pytest.param(RULE + "points = 1\non = 'visit.checked_in'", "a kind of event that this tenant knows", id="a plugin that is not on"),
        pytest.param(RULE + "points = 1\non = 'order.advanced'", None, id="a kind of the core"),
        pytest.param(RULE.replace("base", "redeem") + "points = 1", "a rule of its own", id="a name of the plugin's own"),
        pytest.param('\n[counters.redeemed]\nwindow = "day"', "a counter of its own", id="a counter of the plugin's own"),
        pytest.param(RULE, '"grant" says how much: found none of them', id="no amount"),
        pytest.param(RULE + 'points = 1\nvalue = "2"', "found points and value", id="two amounts"),
        pytest.param(RULE + "per = 100\nvalue = '1'", '"per" needs "points"', id="per without points"),
        pytest.param(RULE + 'kind = "multiply"', '"factor" is missing', id="a multiplier without factor"),
        pytest.param(RULE + 'kind = "multiply"\nfactor = "-1"', "expected at least 0", id="a negative factor"),
        pytest.param(RULE + 'kind = "multiply"\nfactor = 1.5', 'expected it in quotes: "1.5"', id="a float"),
        pytest.param(RULE + 'kind = "cap"', '"limit" is missing', id="a cap without limit"),
        pytest.param(RULE + 'kind = "bonus"\npoints = 1\nstop = true', "a bonus always stands", id="a bonus in a group"),
        pytest.param(RULE + "points = 1\nbonus = 2", 'unknown key "bonus"', id="an unknown key"),
        pytest.param(RULE + "points = 1\nwhen = 'purchase.totl > 5'", "totl", id="a name that is not there"),
        pytest.param(RULE + "points = 1\nwhen = 'purchase.total'", "bool", id="a condition that is a number"),
        pytest.param(RULE + "points = 1\nlines = 'line.amount >'", "lines", id="a rule that does not parse"),
        pytest.param(RULE + "value = 'purchase.store'", "value", id="an amount that is a text"),
        pytest.param(RULE + "points = 1\nper = 1\non = 'member.enrolled'", "only purchases have lines", id="money of an enrolment"),
        pytest.param(RULE + "points = 1\nwhen = 'purchase.total > 5'\non = 'member.enrolled'", "purchase", id="a purchase where there is none"),
        pytest.param(RULE + "points = 1\nfrom = '2025-07-01'\nuntil = '2025-06-01'", 'expected it after "2025-07-01"', id="a window that ends first"),
        pytest.param(RULE + "points = 1\nfrom = '2025-07-01T00:00:00'", "date and time with offset", id="an instant without offset"),
        pytest.param(RULE + "points = 1\nfrom = 2025-07-01\nuntil = 2025-07-01", None, id="dates as TOML has them"),
        pytest.param(RULE + "bands = [{ from = 1, points = 1, per = 1 }]", "expected the first band to begin at 0", id="bands that begin late"),
        pytest.param(
            RULE + "bands = [{ from = 0, points = 1, per = 1 }, { from = 0, points = 1, per = 1 }]", "expected more than 0", id="bands that do not rise"
        ),
        pytest.param(RULE + "points = 1\n" + RULE + "points = 2", 'found "base" twice', id="one name twice"),
        pytest.param(RULE + 'kind = "multiply"\nfactor = "2"\nof = ["bas"]', "expected the name of an earn rule", id="a factor of nothing"),
        pytest.param('\n[expiry]\npolicy = "rolling"', 'needs "after"', id="expiry without a length"),
        pytest.param('\n[expiry]\npolicy = "never"\nafter = "P1Y"', 'does not go together with policy = "never"', id="never after a year"),
        pytest.param('\n[pending]\ndays = 31\n[expiry]\npolicy = "rolling"\nafter = "P1M"', "longer than the points live", id="a wait longer than a life"),
        pytest.param(RULE + "points = 1\npending = { days = 92 }\nexpiry = { policy = 'period_end', end_of = 'quarter' }", "longer than the points live", id="a wait longer than a quarter"),
        pytest.param('\n[expiry]\npolicy = "fixed"\non = "13-01"', "expected a date such as", id="a thirteenth month"),
        pytest.param('\n[expiry]\npolicy = "rolling"\nafter = "1 year"', 'a calendar period such as "P12M"', id="not a period"),
        pytest.param("\n[redeem]\npoints = 3\ngives = 1\nstep = 1", "whole minor units", id="a step worth a third of a cent"),
        pytest.param('\n[redeem]\npoints = 1\ngives = 1\nshare = "1.5"', "at most 1", id="more than the order"),
        pytest.param('\n[gift]\nlimits = [{ window = "month" }]', "a limit says how much", id="a limit of nothing"),
        pytest.param('\n[gift]\nlimits = [{ window = "fortnight", times = 1 }]', '"P30D"', id="not a window"),
        pytest.param('\n[counters.visits]\nwindow = "month"\nwhen = "purchse.total > 1"', "purchse", id="a counter's rule"),
        pytest.param('\n[[rewards]]\nname = "mug"\ncost = 1\nwhen = "line.amount > 1"', "line", id="a reward's rule"),
    ],
)  # fmt: skip
def test_settings_are_checked_before_anything_runs(toml: str, expected: str | None) -> None:
    found = problems(toml)
    assert found == [] if expected is None else len(found) == 1 and expected in found[0], found


def test_a_mistake_in_a_rule_has_its_place_in_the_file() -> None:
    (problem,) = problems(
        '\n[[earn]]\nname = "base"\npoints = 1\nwhen = \'purchase.total > 5 && purchase.stor == "x"\''
    )
    assert problem.startswith("5:"), problem
    column = int(problem.split(" ")[0].split(":")[1])
    assert column == len("when = 'purchase.total > 5 && purchase.") + 1


def test_all_mistakes_are_named_at_once() -> None:
    found = problems(
        '\n[[earn]]\nname = "a"\npoints = 1\nwhen = "x"\n[[earn]]\nname = "b"\npoints = 1\nlines = "y"\n[[earn]]\nname = "c"\nvalue = "z"'
    )
    assert len(found) == 3


def test_the_name_plate_is_right() -> None:
    found = manifest.read(Path(tallystick_points.__file__).with_name("plugin.toml"), version="1.0")
    assert found.id == "points"
    kinds = discovery.load_kinds(found)
    assert [kind.name for kind in kinds] == [
        "points.redeemed", "points.gifted", "points.adjusted", "points.restocked", "points.expiring",
    ]  # fmt: skip


def test_settings_have_defaults_for_everything() -> None:
    settings = read(tomllib.loads(""))
    assert (settings.unit, settings.earn, settings.redeem, settings.gift) == ("points", (), None, None)
