"""Refusals as the outside sees them: RFC 9457 problems with a code, a place and a sentence, in English or Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from .errors import InvalidConfig, Problem, TallyError
from .later import later

if TYPE_CHECKING:
    from . import mistakes
else:
    (mistakes,) = later("mistakes")

Language = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

#: The media type of a problem.
MEDIA_TYPE: Final = "application/problem+json"

#: Every code, the HTTP status that goes with it, and what it says in Chinese.  English is the class's own first line.
TABLE: Final[Mapping[str, tuple[int, str]]] = {
    "error": (500, "系统拒绝了这个请求。"),
    "invalid_event": (422, "事件不符合其类型的格式。"),
    "unknown_kind": (422, "没有任何插件认识这种事件；GET /openapi.json 列出本系统认识的种类。"),
    "too_large": (413, "请求体、数组或嵌套层数超出限制。"),
    "unknown_member": (404, "没有这个会员编号或外部编号。"),
    "invalid_member": (422, "外部编号或会员资料不可接受。"),
    "member_inactive": (409, "会员已被冻结、合并或删除。"),
    "alias_taken": (409, "该外部编号已属于另一位会员。"),
    "unknown_tenant": (404, "没有这个商户。"),
    "not_found": (404, "这里没有这个名称的内容，或者它属于别人。"),
    "unauthorized": (
        401,
        "请求没有携带有效的密钥：请发送 `Authorization: Bearer KEY`；密钥由 `tally key create` 创建。",
    ),
    "forbidden": (403, "密钥有效，但没有这项权限。"),
    "invalid_request": (400, "参数或请求体不是这个接口所接受的。"),
    "unsupported_media": (415, "这个接口不读取这种类型的请求体。"),
    "method_not_allowed": (405, "这个接口不支持该方法。"),
    "invalid_key": (422, "无法创建这样的密钥。"),
    "rate_limited": (429, "请求过多，请按 Retry-After 等待。"),
    "event_conflict": (409, "该事件编号已被使用，但内容不同：发送方有错误。"),
    "order_conflict": (409, "该订单已由另一个事件记录：一张小票只能积分一次。"),
    "unknown_order": (404, "这里没有这个订单。"),
    "unknown_entry": (404, "没有这条流水。"),
    "already_decided": (409, "这条冻结的流水已被放行或作废。"),
    "too_early": (422, "事件声称的时间超前五分钟以上。"),
    "too_late": (422, "事件早于其来源所允许的延迟。"),
    "refused": (422, "事件已读懂，但被规则拒绝。"),
    "insufficient_balance": (422, "可用余额不足。"),
    "limit_reached": (422, "已达到会员、周期、库存或预算的上限。"),
    "out_of_stock": (422, "已无库存。"),
    "denied": (422, "风控审核未通过。"),
    "approval_needed": (422, "这个数额的调整需要第二个人批准。"),
    "guest_order": (422, "游客订单须先关联会员。"),
    "config_problem": (422, "配置、清单或规则中有一处错误。"),
    "invalid_config": (422, "配置有错误，已全部列出。"),
    "invalid_manifest": (422, "插件清单（plugin.toml）有错误。"),
    "invalid_rule": (422, "规则无法解析、类型不符或过大。"),
    "unresolvable": (409, "所选插件无法一起运行。"),
    "lock_outdated": (409, "插件的运行方式与 plugins.lock 不一致。"),
    "not_repaired": (409, "这条流水暂时无法补记：插件仍然出错或未启用，或流水尚待处理。"),
    "nothing_owed": (409, "重新评估后没有可补的内容。"),
    "plugin_broken": (503, "插件无法加载。"),
    "plugin_failed": (503, "插件出错，暂时无法处理，可以原样重发。"),
    "tenant_not_served": (503, "该商户必需的插件不可用，暂不提供服务。"),
    "effect_refused": (422, "插件提出了其清单未授予的效果。"),
    "unavailable": (503, "暂时无法处理，可以原样重发。"),
    "database_damaged": (503, "数据库文件已损坏，或不是数据库：请保留该文件，并恢复最近的备份。"),
    "database_too_new": (503, "数据库由更新的版本写成，未作任何改动。"),
    "database_not_ready": (503, "数据库缺少迁移，请运行 `tally db upgrade`。"),
    "proof_failed": (500, "账目核对不符。"),
}

#: What the door says of a mistake, in Chinese; the words in braces come from the error's details.
_REASONS: Final[Mapping[str, str]] = {
    "unknown_field": "这里没有字段“{field}”",
    "missing": "缺少“{field}”",
    "wrong_type": "应为{expected}，实为{found}",
    "no_zone": "时间须带时区，例如以 Z 结尾",
    "not_a_time": "这不是 RFC 3339 格式的时间，例如 2026-11-21T10:15:00Z",
    "not_a_choice": "{found} 不是这里允许的值",
    "out_of_bounds": "数字应 {bound}",
    "length": "文字长度应 {bound}",
    "size": "元素个数应 {bound}",
    "pattern": "文字格式应为 {pattern}",
    "duplicate_key": "同一个键出现了不止一次",
    "fraction": "这里的数字都是整数：不允许小数点和指数",
    "not_a_number": "NaN 和 Infinity 不是 JSON",
    "minus_zero": "这里没有负零，请写 0",
    "too_big": "数字超出 64 位",
    "nul": "文字中不允许 NUL 字符",
    "surrogate": "文字中有半个字符（单独的 UTF-16 代理项）",
    "too_deep": "对象和数组嵌套过深",
    "too_many": "数组中的事件过多，最多 {limit} 个",
    "not_utf8": "文字不是 UTF-8 编码",
    "malformed": "这不是 JSON",
    "too_many_cells": "该行的单元格多于文件的列；含有逗号的文字要加引号",
    "value": "这里的值互相矛盾",
    "reserved": "这个名称是系统自身的",
    "disk_full": "磁盘已满：没有写入任何内容",
    "read_only": "数据库不可写：请检查其文件和所在目录的权限",
    "cannot_open": "无法打开数据库文件：请检查配置中的 database，以及文件和所在目录的权限",
}
_TYPES: Final[Mapping[str, str]] = {
    "int": "整数",
    "str": "文字",
    "bool": "布尔值",
    "null": "null",
    "object": "对象",
    "array": "数组",
    "float": "小数",
    "datetime": "时间",
    "date": "日期",
}


def status_of(error: TallyError) -> int:
    """The HTTP status of a refusal.  A plugin's own refusal has that of the nearest class of the core it derives from."""
    return _row(error)[0]


def status_of_code(code: str) -> int:
    """The HTTP status of one of the core's codes."""
    return TABLE[code][0]


def problem_document(error: TallyError, language: Language = "en") -> dict[str, Any]:
    """The RFC 9457 problem that says what was refused, where and why.

    ``type`` and ``code`` are for programs, ``title`` and ``detail`` for people, ``pointer`` says where in the body.
    """
    title, detail = _title(error), error.message
    if language == "zh":
        title = _own_chinese(error) or _row(error)[1]
        detail = _in_chinese(error) or title
        if isinstance(error, InvalidConfig) and error.problems:  # where it is says more than that it is
            detail = "\n".join([title, *map(mistakes.told, error.problems)])
        elif type(error) is Problem:
            detail = mistakes.told(error)
    document = {
        "type": f"urn:tallystick:problem:{error.code}",
        "title": title,
        "status": status_of(error),
        "detail": detail,
        "code": error.code,
    }
    if error.pointer is not None:
        document["pointer"] = error.pointer
    if error.details:
        document["details"] = dict(error.details)
    return document


@lru_cache(maxsize=256)
def choose_language(accept: str) -> Language:
    """The language of an Accept-Language header that is spoken here; English if there is none.

    >>> choose_language("de, zh-CN;q=0.9, en;q=0.8"), choose_language("*"), choose_language("zh;q=0")
    ('zh', 'en', 'en')
    """
    best: tuple[float, Language] = (0.0, "en")
    for part in accept[:256].split(","):
        tag, _, weight = part.strip().partition(";")
        spoken = next((language for language in LANGUAGES if tag.lower().partition("-")[0] == language), None)
        try:
            quality = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            continue
        if spoken is not None and best[0] < quality <= 1:
            best = (quality, spoken)
    return best[1]


def _row(error: TallyError) -> tuple[int, str]:
    for kind in type(error).__mro__:
        if (row := TABLE.get(getattr(kind, "code", ""))) is not None:
            return row
    raise AssertionError("every refusal is a TallyError")


def _own_chinese(error: TallyError) -> str:
    """What the class itself says in Chinese; a class that inherits it says something else."""
    return str(vars(type(error)).get("chinese", ""))


def _title(error: TallyError) -> str:
    return (type(error).__doc__ or type(error).__name__).strip().splitlines()[0]


def _in_chinese(error: TallyError) -> str:
    details = error.details
    sentence = _REASONS.get(str(details.get("reason", "")), "")
    words = {key: _words(str(value)) if key in {"expected", "found"} else str(value) for key, value in details.items()}
    if "field" not in words and error.pointer:
        words["field"] = error.pointer.rpartition("/")[2]
    if error.code == "insufficient_balance" and {"usable", "asked"} <= words.keys():
        sentence = "需要 {asked}，可用 {usable}"
    try:
        return sentence.format(**words)
    except KeyError:
        return ""


def _words(types: str) -> str:
    return "或".join(_TYPES.get(name, name) for name in types.split(" | "))
