"""What is wrong with a configuration is said in Chinese, too: every wording of the schema's types, and mistakes people make."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from tallystick import config, discovery, mistakes, schema
from tallystick.cli import cli
from tallystick.document import Document
from tallystick.errors import InvalidConfig, Problem
from tallystick.problems import problem_document

HEAD = '[house]\ndatabase = "sqlite:///:memory:"\n[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n'


@pytest.mark.parametrize("expected", [*(kind.expected for kind in schema.TYPES.values()), *schema._PLAIN.values()])
def test_every_type_of_value_has_a_chinese_name(expected: str) -> None:
    said = mistakes.in_chinese(f"found 1; expected {expected}")
    assert re.search("应为.*[\u4e00-\u9fff]", said) or '"module:object"' in said
    assert "expected" not in said


@pytest.mark.parametrize(
    "wrong, says",
    [
        (HEAD.replace("UTC", "Asia/Shangai"), '4:8: 发现 "Asia/Shangai"；应为IANA 时区，如 "Asia/Shanghai"'),
        (HEAD.replace("currency", "curency"), "5:1: 没有名为“curency”的键；是否想写“currency”？"),
        (HEAD.replace('zone = "UTC"\n', ""), "缺少“zone”；应为IANA 时区"),
        (HEAD.replace('"USD"', "7"), '5:12: 发现 7；应为ISO 4217 货币代码，如 "EUR"'),
        (HEAD + "language = true\n", "发现 true；应为语言，如"),
        ("x = [", "不是有效的 TOML："),
        ("[house]\nport = 70000\n" + HEAD.replace("[house]\n", ""), "发现 70000；应为不大于 65535"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_chinese_with_its_place(wrong: str, says: str) -> None:
    with pytest.raises((InvalidConfig, Problem)) as caught:
        config.check(Document(wrong, "tally.toml"), installed=discovery.discover())
    told = problem_document(caught.value, "zh")["detail"]
    assert says in told, told
    assert "expected" not in told
    assert problem_document(caught.value, "en")["detail"] == str(caught.value), "English stays as it is"


def test_a_plugin_that_is_not_there_is_told_in_chinese() -> None:
    found = config.check(Document(HEAD + "[tenants.shop.plugins.no_such]\n"), installed=discovery.discover())
    assert ["no_such 没有安装" in mistakes.told(problem) for problem in found.unavailable] == [True]


def test_tally_check_speaks_chinese(tmp_path) -> None:
    file = tmp_path / "tally.toml"
    file.write_text(HEAD.replace("UTC", "Mars"))
    found = CliRunner().invoke(cli, ["--lang", "zh", "check", str(file)])
    assert found.exit_code == 1
    assert "应为IANA 时区" in found.output


def test_what_nobody_has_translated_stays_as_it_is() -> None:
    assert mistakes.in_chinese("the moon is too full; expected a string") == "the moon is too full；应为字符串"
