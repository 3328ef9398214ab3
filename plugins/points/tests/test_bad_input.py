"""Wrong rules in tally.toml, as the merchant meets them: `tally check` names each with its place, a caret, and what to write."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tallystick.cli import cli

HEAD = """\
[house]
database = "sqlite:///books.db"

[tenants.shop]
name = "Shop"
zone = "Asia/Shanghai"
currency = "CNY"
"""
EARN = """
[[tenants.shop.plugins.points.earn]]
name = "tried"
points = 1
"""
VALUE = """
[[tenants.shop.plugins.points.earn]]
name = "tried"
"""

#: What is written, with ¦ before the character that is to be named; and what is to be said.
WRONG = [
    pytest.param(EARN + 'when = "purchase.¦totl > 1000"', ("did you mean `total`?",), id="a misspelt field"),
    pytest.param(EARN + 'when = "¦purchas.total > 1000"', ("did you mean `purchase`?",), id="a misspelt name"),
    pytest.param(
        EARN + "when = '''\npurchase.channel == \"online\"\n&& member.¦birthday.month == 5\n'''",
        ("may be null", "member.birthday != null && ..."),
        id="a null nobody guarded, on the second line of a long text",
    ),
    pytest.param(EARN + 'lines = "line.category ¦== 3"', ("does not compare string with int",), id="two types"),
    pytest.param(EARN + 'when = "purchase.¦total"', ("bool", "int"), id="an amount where a condition is due"),
    pytest.param(VALUE + 'value = "eligible * ¦1.25"', ('decimal("1.25")',), id="a floating-point number"),
    pytest.param(VALUE + 'value = "eligible ¦* eligible * eligible"', ("more than 64 bits",), id="overflow"),
    pytest.param(VALUE + 'value = "eligible ¦/ balance.points.usable"', ("divisor can be 0",), id="division by zero"),
    pytest.param(EARN + 'when = "purchase.total > 100 &&¦"', ("a value is expected here",), id="half a condition"),
    pytest.param(EARN + "when = \"purchase.store.¦matches('a+')\"", ("startsWith",), id="a regular expression"),
    pytest.param(EARN + 'when = "purchase.total.¦sise() > 1"', ("did you mean `size`?",), id="a misspelt function"),
    pytest.param(
        EARN + "when = \"purchase.store == \\\"a\\\" && purchase.¦chanel == 'x'\"",
        ("did you mean `channel`?",),
        id="behind escaped quotes",
    ),
    pytest.param(
        EARN + 'when = "counter.¦visit > 1"\n[tenants.shop.plugins.points.counters.visits]\nwindow = "lifetime"\n',
        ("did you mean `visits`?",),
        id="a misspelt counter",
    ),
    pytest.param(EARN + 'on = ¦"purchase.complete"', ('did you mean "purchase.completed"?',), id="a misspelt kind"),
]  # fmt: skip


def check(text: str, folder: Path) -> tuple[int, str]:
    file = folder / "tally.toml"
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["--lang", "en", "check", str(file)])
    return result.exit_code, result.stderr.replace(str(file), "tally.toml")


@pytest.mark.parametrize("written, said", WRONG)
def test_a_wrong_rule_is_named_with_its_place_and_what_to_write(
    written: str, said: tuple[str, ...], tmp_path: Path
) -> None:
    marked = HEAD + written
    before = marked.partition("¦")[0]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    status, error = check(marked.replace("¦", ""), tmp_path)
    assert status == 1
    assert error.startswith(f"tally: invalid_config: tally.toml:{line}:{column}: "), error
    assert [words for words in said if words not in error] == []


@pytest.mark.parametrize("written, said", [case for case in WRONG if "on =" not in case.values[0]])
def test_the_caret_stands_under_what_is_wrong(written: str, said: tuple[str, ...], tmp_path: Path) -> None:
    _, error = check((HEAD + written).replace("¦", ""), tmp_path)
    _, excerpt, caret = error.rstrip("\n").split("\n")[-3:]
    rest = excerpt[caret.index("^") :]
    wanted = written.partition("¦")[2].split("\n")[0].rstrip("\"'").replace('\\"', '"')
    assert rest.startswith(wanted) or wanted.startswith(rest)


def test_all_wrong_rules_are_named_at_once(tmp_path: Path) -> None:
    rules = [
        case.values[0].replace('"tried"', f'"r{n}"') for n, case in enumerate(WRONG) if "counters" not in case.values[0]
    ]
    rules = [rule for rule in rules if "on =" not in rule]
    status, error = check(HEAD + "".join(rules).replace("¦", "") + "\n", tmp_path)
    assert status == 1
    assert error.count("tally.toml:") == len(rules)


def test_the_same_rules_written_rightly_pass(tmp_path: Path) -> None:
    right = EARN + 'when = "purchase.total > 1000 && member.birthday != null && member.birthday.month == 5"\n'
    assert check(HEAD + right, tmp_path) == (0, "")
