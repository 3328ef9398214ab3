"""Mistakes in configurations and manifests, said in Chinese: the English sentence is the key, part by part.

What nobody has translated (what a stranger's plugin says) stays in English, and so does a rule's own text under its message.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import Problem

#: Parts of a sentence between semicolons: what they look like, and how they are said.
_PARTS: Final = tuple(
    (re.compile(pattern, re.DOTALL), said)
    for pattern, said in (
        (r'unknown key "(.*)"', "没有名为“{0}”的键"),
        (r'"(.*)" is missing', "缺少“{0}”"),
        (r"found the key (.*)", "发现键 {0}"),
        (r'found "(.*)", which cannot be read \((.*)\)', "发现“{0}”，无法读取（{1}）"),
        (r"found (.*), a float, which is not exact", "发现浮点数 {0}，它不精确"),
        (r'found false, but (.*) is listed in "required"', "发现 false，但 {0} 列在 “required” 中"),
        (r"found an array of tables, (.*)", "发现表的数组 {0}"),
        (r"expected a table for each name, as in (.*)", "应为每个名称各写一张表，如 {0}"),
        (r"expected another name, for the house itself uses this one", "应换一个名称，此名称为系统自身所用"),
        (r"expected a duration longer than 0", "时长应大于 0"),
        (r'"(.*)" names itself', "“{0}”指的是它自己"),
        (r"found bytes that are not UTF-8", "发现不是 UTF-8 的字节"),
        (r"found (.*)", "发现 {0}"),
        (r"expected it in quotes: (.*)", "应加上引号：{0}"),
        (r"expected nothing here, for (.*) has no settings", "此处不应有内容，{0} 没有设置"),
        (r"expected one of several forms", "应为几种形式之一"),
        (r"expected one of (.*)", "应为以下之一：{0}"),
        (r"expected a length of at least (.*)", "长度至少为 {0}"),
        (r"expected a length of at most (.*)", "长度最多为 {0}"),
        (r"expected only values of (.*)", "只能有以下的值：{0}"),
        (r"expected (.*)", "应为{0}"),
        (r'did you mean "(.*)"\?', "是否想写“{0}”？"),
        (r"declared are none", "没有已声明的"),
        (r"declared are (.*)", "已声明的有：{0}"),
        (r'"(.*)" does not go together with (.*)', "“{0}”不能与 {1} 同时使用"),
        (r'"(.*)" needs "(.*)" beside it', "“{0}”需要同时给出“{1}”"),
        (r"the variable (.*) is not set", "未设置环境变量 {0}"),
        (r"cannot be read: (.*)", "无法读取：{0}"),
        (r"nested too deeply", "嵌套过深"),
        (r"not TOML: (.*)", "不是有效的 TOML：{0}"),
        # rules
        (r"(.*) may be null here", "{0} 在这里可能为 null"),
        (
            r"guard it first: (`.*`), or give a value in its place: (`.*`)",
            "请先判断：{0}，或在为 null 时给出替代值：{1}",
        ),
        (r"guard it first: (`.*`)", "请先判断：{0}"),
        (r"this is always null, where a value is needed", "此处恒为 null，但需要一个值"),
        (r"this (.*) is never null", "此 {0} 不会为 null"),
        (r"there is no field in (.*) (`.*`)", "{0} 没有字段 {1}"),
        (r"there is no name (`.*`)", "没有名称 {0}"),
        (r"there is no function (`.*`)", "没有函数 {0}"),
        (r"there is no zone (.*)", "没有时区 {0}"),
        (r"did you mean (`.*`)\?", "是否想写 {0}？"),
        (r"there is ([^`]*)", "可用的有：{0}"),
        (r"this must be an? (.*), found an? (.*)", "此处应为 {0}，发现 {1}"),
        (r"(.*) needs an? (.*), found an? (.*)", "{0} 需要 {1}，发现 {2}"),
        (r"(`.*`) does not take (.*)", "{0} 不能用于 {1}"),
        (r"(`.*`) does not compare (.*) with (.*)", "{0} 不能比较 {1} 与 {2}"),
        (r"(.*) is a floating-point number, which cannot hold money exactly", "{0} 是浮点数，不能精确表示金额"),
        (r"write (decimal\(.*\))", "请写 {0}"),
        (r"(`.*`) is not an operator here", "{0} 在这里不是运算符"),
        (r"write (==|&&|\|\|) .*", "请写 {0}"),
        (r"the divisor can be 0", "除数可能为 0"),
        (r"divide by a number that cannot, or test it first: (.*)", "请除以不会为 0 的数，或先判断：{0}"),
        (r"decimals are not divided, .*", "小数不能相除，因为商多半没有精确的小数"),
        (
            r"divide whole numbers, or multiply by the inverse: (.*) instead of (.*)",
            "请用整数相除，或乘以倒数：用 {0} 代替 {1}",
        ),
        (r"this can reach (.*), more than 64 bits hold", "结果可达 {0}，超出 64 位整数"),
        (r"bound what is multiplied or added, for example with (.*)", "请限制相乘或相加的数，例如 {0}"),
        (r"a value is an int or a decimal, found (.*)", "value 应为 int 或 decimal，发现 {0}"),
        (r"put something in the place of null: (.*)", "请给出 null 时的替代值：{0}"),
        (r"(.*) is expected here, found (.*)", "此处应为 {0}，发现 {1}"),
        (r"this string has no closing (.)", "字符串缺少结尾的 {0}"),
        (r"this rule is nested more than (\d+) levels deep", "规则嵌套超过 {0} 层"),
        (r"this rule has (\d+) characters", "规则有 {0} 个字符"),
        (r"the limit is (\d+)", "上限为 {0}"),
        (r"regular expressions are not part of the rule language", "规则语言不支持正则表达式"),
        (r"use startsWith, endsWith or contains", "请用 startsWith、endsWith 或 contains"),
        (r"there are two rules called (.*)", "有两条名为 {0} 的规则"),
        (r"(.*) is not installed", "{0} 没有安装"),
        (r"it is enabled in (.*)", "在 {0} 中启用"),
        (r"(.*) needs (.*), which is switched off", "{0} 需要 {1}，但它已关闭"),
        (r"(.*) and (.*) cannot run together: (.*)", "{0} 与 {1} 不能同时运行：{2}"),
        (r'there is no channel "(.*)"', "没有名为“{0}”的渠道"),
        (r'an? (\w+) channel has no "(.*)"', "{0} 渠道没有“{1}”"),
        (r"an? (\w+) channel needs it", "{0} 渠道需要它"),
    )
)
#: What is expected, by its English wording.
_WORDS: Final = {
    "a string": "字符串",
    "a whole number": "整数",
    "true or false": "true 或 false",
    "a table": "表",
    "an array": "数组",
    "a value": "一个值",
    "nothing here": "空，此处不应有内容",
    "a date and time": "日期时间",
    "a whole number of the smallest unit (cents, points)": "以最小单位（分、积分）计的整数",
    'an exact number in quotes such as "1.5" or "1/3"': '加引号的精确数，如 "1.5" 或 "1/3"',
    'a calendar period such as "P12M", "30d", "12mo" or "1y"': '日历周期，如 "P12M"、"30d"、"12mo" 或 "1y"',
    'a duration such as "7d", "36h", "15min" or "PT90S"': '时长，如 "7d"、"36h"、"15min" 或 "PT90S"',
    'an IANA time zone such as "Asia/Shanghai"': 'IANA 时区，如 "Asia/Shanghai"',
    'an ISO 4217 currency such as "EUR"': 'ISO 4217 货币代码，如 "EUR"',
    'a language such as "en" or "zh"': '语言，如 "en" 或 "zh"',
    'a string or a table of languages such as { en = "...", zh = "..." }': '字符串，或按语言的表，如 { en = "...", zh = "..." }',
    "a date such as 2025-12-31": "日期，如 2025-12-31",
    "a date and time with offset such as 2025-12-31T18:00:00+08:00": "带时区偏移的日期时间，如 2025-12-31T18:00:00+08:00",
    "a time of day such as 18:30:00": "一天中的时间，如 18:30:00",
    "an id of small letters, digits and _, beginning with a letter": "以字母开头、由小写字母、数字和 _ 组成的标识",
    "an id of small letters, digits, _ and -, beginning with a letter": "以字母开头、由小写字母、数字、_ 和 - 组成的标识",
    'a name of small letters such as "points.redeemed"': '由小写字母组成的名称，如 "points.redeemed"',
    'a package such as "tallystick_points.migrations"': '包名，如 "tallystick_points.migrations"',
    'a version range (PEP 440) such as ">=1,<2"': '版本范围（PEP 440），如 ">=1,<2"',
    'a version (PEP 440) such as "1.2.0"': '版本（PEP 440），如 "1.2.0"',
    "the name of a declared unit": "已声明单位的名称",
    "a text of the rule language": "规则语言的文本",
    '{ file = "path" } or { env = "NAME" }: secrets are never written here': (
        '{ file = "path" } 或 { env = "NAME" }：密钥不写在这里'
    ),
    "the end of the rule": "规则结尾",
    "a file that holds the secret": "保存密钥的文件",
}  # fmt: skip
#: How the message about a rule of a set begins.
_RULE: Final = re.compile(r"rule ('.*?'), (when|lines|basis|value): ")
_BOUND: Final = re.compile(r"(?:(.*), )?at (least|most) (\S+)")
_OR: Final = " or "


def in_chinese(reason: str) -> str:
    """A mistake's sentence in Chinese, as far as its parts are known."""
    sentence, *excerpt = reason.split("\n    ", 1)  # a rule's text, with a caret under the place
    before = "" if (found := _RULE.match(sentence)) is None else f"规则 {found[1]} 的 {found[2]}："
    said = "；".join(_part(part) for part in sentence.removeprefix("" if found is None else found[0]).split("; "))
    return "\n    ".join([before + said, *excerpt])


def told(problem: Problem) -> str:
    """A problem with its place, in Chinese."""
    place = problem.message.removesuffix(problem.reason)
    return place + in_chinese(problem.reason)


def _part(part: str) -> str:
    for pattern, said in _PARTS:
        if (found := pattern.fullmatch(part)) is not None:
            return said.format(*map(_words, found.groups()))
    return part


def _words(text: str) -> str:
    if text in _WORDS:
        return _WORDS[text]
    if (bound := _BOUND.fullmatch(text)) is not None:
        limit = f"{'不小于' if bound[2] == 'least' else '不大于'} {bound[3]}"
        return f"{_words(bound[1])}，{limit}" if bound[1] else limit
    kinds = text.split(_OR)
    return " 或 ".join(_WORDS[kind] for kind in kinds) if all(kind in _WORDS for kind in kinds) else text
