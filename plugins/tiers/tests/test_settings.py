"""What a merchant may write about ladders, and what is refused with its place."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tallystick import config, discovery
from tallystick.document import Document
from tallystick.errors import InvalidConfig
from tallystick_tiers.settings import read

HEAD = '[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n[tenants.shop.plugins.points]\n[[tenants.shop.plugins.tiers.ladders]]\n'
LINES = HEAD.count("\n")
TIERS = 'tiers = [{ name = "base" }, { name = "gold", at = 30 }]\n'


def problems(ladder: str) -> list[str]:
    """line: what is wrong, the first line of the ladder being 1."""
    try:
        found = config.check(Document(HEAD + ladder), installed=discovery.discover())
    except InvalidConfig as refusal:
        return [f"{problem.line - LINES}: {problem.message.split(': ', 1)[1]}" for problem in refusal.problems]
    assert not found.unavailable
    return []


@pytest.mark.parametrize(
    "ladder, expected",
    [
        ('name = "a"\ntiers = [{ name = "b" }, { name = "c", at = 5 }, { name = "d", at = 5 }]', '2: found 5; expected more than 5 of "c"'),
        ('name = "a"\ntiers = [{ name = "b" }, { name = "c", at = 5 }, { name = "d", at = 4 }]', '2: found 4; expected more than 5 of "c"'),
        ('name = "a"\ntiers = [{ name = "b" }, { name = "c" }, { name = "d", at = 4 }]', '2: nobody can reach "c"'),
        ('name = "a"\ntiers = [{ name = "b", at = 5 }, { name = "c", at = 9 }]', "2: found 5; expected 0: whoever is below would have no tier"),
        ('name = "a"\ntiers = [{ name = "b" }, { name = "b", at = 9 }]', '2: found "b" twice'),
        ('name = "a"\ntiers = [{ name = "b" }, { name = "c", at = 9, keep = 10 }]', "2: found 10; expected at most 9"),
        ('name = "a"\ntiers = [{ name = "b" }, { name = "c", at = 9, sku = "x" }]', '2: "sku" needs "membership"'),
        ('name = "a"\ntiers = [{ name = "b" }]', "2: "),
        (f'name = "a"\n{TIERS}metrics.x.measure = "gains"\nmetrics.x.unit = "gold_coins"', '4: found "gold_coins"'),
        (f'name = "a"\n{TIERS}metrics.x = {{ measure = "gains" }}', '3: measure = "gains" needs "unit"'),
        (f'name = "a"\n{TIERS}metrics.x = {{ measure = "counter", counter = "nobody.x" }}', '3: found "nobody.x"; expected the counter of another'),
        (f'name = "a"\n{TIERS}metrics.x = {{ measure = "counter", counter = "tiers.x" }}', '3: found "tiers.x"; expected the counter of another'),
        (f'name = "a"\n{TIERS}metrics.x = {{ measure = "visits", lines = "true" }}', '3: "lines" does not go together'),
        (f'name = "a"\n{TIERS}metrics.x = {{ measure = "visits", on = ["tiers.changed"] }}', '3: found "tiers.changed"'),
        (f'name = "a"\n{TIERS}metrics.x = {{ on = ["points.gifted"] }}', '3: measure = "spend" needs on'),
        (f'name = "a"\n{TIERS}by = "money"', '3: found "money"; expected one of the metrics: spend'),
        (f'name = "a"\n{TIERS}window = "fortnight"', "3: "),
        (f'name = "a"\n{TIERS}window = "review"', '0: window = "review" needs "review"'),
        (f'name = "a"\n{TIERS}window = "year"\nreview = "P6M"', '4: "review" does not go together'),
        (f'name = "a"\n{TIERS}downgrade = "at_review"', '3: downgrade = "at_review" needs "review"'),
        (f'name = "a"\n{TIERS}valid = "period"', '3: "valid" needs a window of periods'),
        (f'name = "a"\n{TIERS}grace_days = 3\ndowngrade = "never"', '3: "grace_days" need'),
        (f'name = "a"\n{TIERS}near = "1"', "3: found '1'; expected a share"),
        (f'name = "a"\n{TIERS}unit = "miles"', '3: found "miles"'),
        (f'name = "a"\n{TIERS}metrics.x = {{ lines = "line.colour == 1" }}', "3: "),
        ('name = "a"\ntiers = [{ name = "b" }, { name = "c", when = "metric.visits > 3" }]', "2: "),
        (f'name = "a"\n{TIERS}[[tenants.shop.plugins.tiers.ladders]]\nname = "a"\n{TIERS}', '4: found "a" twice'),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(ladder: str, expected: str) -> None:
    found = problems(ladder)
    assert len(found) == 1 and found[0].startswith(expected), found


def test_a_mistake_in_a_condition_points_into_its_text() -> None:
    (found,) = problems('name = "a"\ntiers = [{ name = "b" }, { name = "c", when = "metric.visits > 3" }]')
    assert "visits" in found


def test_the_smallest_ladder_is_right_and_counts_money_for_a_lifetime() -> None:
    assert problems(f'name = "a"\n{TIERS}') == []
    (ladder,) = read({"ladders": [{"name": "a", **tomllib.loads(TIERS)}]}).ladders
    assert (ladder.window, ladder.by, [metric.measure for metric in ladder.metrics]) == ("lifetime", "spend", ["spend"])
    assert [tier.at for tier in ladder.tiers] == [0, 30]


def test_returns_lower_nobody_where_nobody_is_lowered() -> None:
    read_returns = [
        read({"ladders": [{"name": "a", "downgrade": how, **tomllib.loads(TIERS)}]}).ladders[0].returns
        for how in ("never", "at_once")
    ]
    assert read_returns == ["policy", "at_once"]


def test_the_example_of_the_readme_is_in_order() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    text = readme.partition("```toml\n")[2].partition("```")[0]
    document = Document('[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n' + text)
    assert config.check(document, installed=discovery.discover()).tenants["shop"].plugins.keys() == {"tiers"}
