"""``tally risk``: cases, decisions, restrictions."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Annotated, Any, TypeAlias, get_args

from tallystick import errands
from tallystick.errors import InvalidRequest

from . import docket, store
from .docket import DECISIONS, Decision, Errand
from .hooks import Risk

Answer = tuple[Any, list[str]]
By = Annotated[str, {"en": "Who does it: a staff number or login.", "zh": "操作人（工号或登录名）。"}]
Until = Annotated[date | None, {"en": "The day from which it counts no longer.", "zh": "自该日起失效。"}]
Why = Annotated[str, {"en": "Why; kept with the case.", "zh": "理由，记入案件。"}]
Only = Annotated[str, {"en": "open or decided.", "zh": "open（待处理）或 decided（已处理）。"}]
Names = Annotated[
    str, {"en": "What is restricted, with commas; all if not said.", "zh": "限制的权限项，以逗号分隔；默认全部。"}
]

_WORDS = {
    "en": {
        "none": "No cases.", "done": "Case {case}: {decision}.", "noted": "Written to case {case}.", "assigned": "Case {case} is with {to}.",
        "free": "Case {case} is with nobody.", "restricted": "{member} is restricted until {until}.", "restored": "{member} is free again.",
        "monitor": " (only watched)", "note": "  note by {by}: {text}", "entry": "  entry {entry}: {status}", "member": "  member {member}",
        "pending": "  pending {entry}: {text}", "limited": "  {name} restricted until {until}", "nothing": "Nothing is restricted or pending.",
        "count": "{cases:>6}  {policy:<18} {status}, {times} times", "wait": "{pending} entries wait for a decision.",
    },
    "zh": {
        "none": "没有案件。", "done": "案件 {case}：{decision}。", "noted": "已记入案件 {case}。", "assigned": "案件 {case} 已交给 {to}。",
        "free": "案件 {case} 暂无负责人。", "restricted": "{member} 受限至 {until}。", "restored": "{member} 已恢复。",
        "monitor": "（仅监测）", "note": "  {by} 备注：{text}", "entry": "  流水 {entry}：{status}", "member": "  会员 {member}",
        "pending": "  待处理 {entry}：{text}", "limited": "  {name} 受限至 {until}", "nothing": "没有限制或待处理的流水。",
        "count": "{cases:>6}  {policy:<18} {status}，{times} 次", "wait": "{pending} 笔流水待裁决。",
    },
}  # fmt: skip


Person: TypeAlias = errands.Work[Risk]


def _line(found: dict[str, Any], words: dict[str, str]) -> str:
    monitor = words["monitor"] if found["monitor"] else ""
    return f"{found['case']:>6}  {found['policy']:<18} {found['about']} {found['subject']}  x{found['times']}  {found['status']}{monitor}  {found['assigned']}".rstrip()


def cases(errand: Errand, *, status: Only = "open", policy: str = "", limit: int = 50, language: str = "en") -> Answer:
    """List cases, newest first."""
    with errand.house.reading() as conn:
        rows = store.cases_of(conn, errand.tenant, status=status, policy=policy, limit=limit)
    found = [docket.outline(row) for row in rows]
    return found, [_line(one, _WORDS[language]) for one in found] or [_WORDS[language]["none"]]


def show(errand: Errand, case: int, *, language: str = "en") -> Answer:
    """Show a case: why, whom it concerns, what waits, what was written to it."""
    with errand.house.reading() as conn:
        found, words = docket.told(conn, docket.find_case(conn, errand.tenant, case)), _WORDS[language]
    lines = [_line(found, words), f"  {found['reason']}"]
    lines += [words["member"].format(member=one) for one in found["members"]]
    lines += [words["entry"].format(**one) for one in found["entries"]]
    return found, lines + [words["note"].format(**one) for one in found["notes"]]


def note(errand: Errand, case: int, text: str, *, by: By = "cli", language: str = "en") -> Answer:
    """Write something to a case."""
    docket.write_note(errand, case, by, text)
    return {"case": case}, [_WORDS[language]["noted"].format(case=case)]


def assign(errand: Errand, case: int, to: str, *, language: str = "en") -> Answer:
    """Give a case to somebody ("" takes it away)."""
    docket.assign(errand, case, to)
    word = "assigned" if to else "free"
    return {"case": case, "assigned": to}, [_WORDS[language][word].format(case=case, to=to)]


def decide(
    errand: Errand, case: int, decision: str, *, by: By = "cli", why: Why = "", until: Until = None, capabilities: Names = "",
    language: str = "en",
) -> Answer:  # fmt: skip
    """Decide a case: release, void, restrict or restore."""
    if decision not in DECISIONS:
        raise InvalidRequest(f"{decision!r} is none of {', '.join(get_args(Decision))}")
    ends = _midnight(errand, until) if until is not None else None
    names = [name.strip() for name in capabilities.split(",") if name.strip()]
    docket.decide(errand, case, decision, by, why=why, until=ends, capabilities=names)
    return {"case": case, "decision": decision}, [_WORDS[language]["done"].format(case=case, decision=decision)]


def restrict(
    errand: Person, member: str, until: date, *, capabilities: Names = "", by: By = "cli", why: Why = "by hand", language: str = "en"
) -> Answer:  # fmt: skip
    """Take capabilities from a member until a day."""
    names = [name.strip() for name in capabilities.split(",") if name.strip()]
    docket.restrict(errand, errand.member(member), names, _midnight(errand, until), why, by)
    return {"member": member, "until": until.isoformat()}, [
        _WORDS[language]["restricted"].format(member=member, until=until)
    ]


def restore(errand: Person, member: str, *, by: By = "cli", why: Why = "by hand", language: str = "en") -> Answer:
    """Give a member back what was restricted."""
    docket.restore(errand, errand.member(member), why, by)
    return {"member": member}, [_WORDS[language]["restored"].format(member=member)]


def member(errand: Person, member: str, *, language: str = "en") -> Answer:
    """Show what is restricted and pending of a member, as they may know it."""
    found, words = docket.standing(errand, errand.member(member)), _WORDS[language]
    lines = [words["limited"].format(name=name, until=until) for name, until in found["restricted"].items()]
    lines += [words["pending"].format(**one) for one in found["pending"]]
    return found, lines or [words["nothing"]]


def report(errand: Errand, *, language: str = "en") -> Answer:
    """Count cases by policy and status, and what waits for a decision."""
    words = _WORDS[language]
    with errand.house.reading() as conn:
        found, pending = store.counts(conn, errand.tenant), store.pending(conn, errand.tenant)
    lines = [words["count"].format(**one._asdict()) + (words["monitor"] if one.monitor else "") for one in found] + (
        [words["wait"].format(pending=pending)] if pending else []
    )
    return {"pending": pending, "cases": [one._asdict() for one in found]}, lines or [words["none"]]


def _midnight(errand: Errand, day: date) -> datetime:
    return datetime.combine(day, time(), errand.plugin.programme.zone)
