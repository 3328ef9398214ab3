"""What is wrong with a configuration is said in Chinese, too: every wording of the schema's types, and mistakes people make."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from core.tests.rules import shop
from tallystick import config, discovery, mistakes, schema
from tallystick.cli import cli
from tallystick.document import Document
from tallystick.errors import InvalidConfig, Problem
from tallystick.problems import problem_document
from tallystick.rules import RuleText, check_rules

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


@pytest.mark.parametrize(
    "rule, says",
    [
        ("purchase.amout > 5", "purchase 没有字段 `amout`；是否想写 `amount`？"),
        ("balanc > 5", "没有名称 `balanc`；是否想写 `balance`？"),
        ("event.store > 'a'", "event.store 在这里可能为 null；请先判断：`event.store != null && ...`，或在为 null 时给出替代值：`event.store.orValue(...)`"),
        ("purchase.lines[0].amount > 5", "purchase.lines[0] 在这里可能为 null；请先判断：`purchase.lines[0] != null && ...`"),
        ("balance > 'a'", "`>` 不能用于 int and string"),
        ("balance", "此处应为 bool，发现 int"),
        ("balance > 1.5", '1.5 是浮点数，不能精确表示金额；请写 decimal("1.5")'),
        ("5 / balance > 1", "除数可能为 0；请除以不会为 0 的数，或先判断：`x > 0 && ... / x`"),
        ("balance * balance * balance > 1", "超出 64 位整数；请限制相乘或相加的数，例如 min(..., 1000000)"),
        ("balance = 1", "`=` 在这里不是运算符；请写 =="),
        ("balance >", "此处应为 一个值，发现 规则结尾"),
        ("event.kind.matches('a')", "规则语言不支持正则表达式；请用 startsWith、endsWith 或 contains"),
        ("event.store.startsWith('a') == 1", "event.store 在这里可能为 null"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_rule_is_told_in_chinese_above_its_text(rule: str, says: str) -> None:
    (problem,) = check_rules([RuleText("r", when=rule)], shop.SCOPE)
    sentence, *excerpt = mistakes.told(problem).splitlines()
    assert sentence.startswith(f"{problem.line}:{problem.column}: 规则 'r' 的 when：")
    assert says in sentence
    assert excerpt == str(problem).splitlines()[1:]
    assert len(excerpt) == 2
