"""The commands of tiers: a document for programs, lines for people."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any

from msgspec import to_builtins

from tallystick.ledger import member_name, moment

from . import api
from .errors import BadReviewDay
from .review import Work, list_moves, record_review, today
from .store import list_changes

#: How far back a review may look: events older than that are not taken.
LATEST = timedelta(days=7)
Answer = tuple[Any, list[str]]
Day = Annotated[date | None, {"en": "The day, by default today.", "zh": "日期，默认为今天。"}]
Flag = Annotated[bool, {"en": "Only say what would change.", "zh": "只显示将发生的变化，不作更改。"}]

_WORDS = {
    "en": {
        "would": "would change", "did": "changed", "of": "{n} tiers {what} as of {day}", "none": "no tier so far",
        "since": "since {since}", "review": "looked at again on {day}", "falls": "then {tier}, if nothing more counts",
        "next": "next: {tier}", "missing": "{missing} more", "at": "at this pace on {day}", "never": "not at this pace",
        "adds": "would add", "has": "has", "top": "this is the highest tier",
    },
    "zh": {
        "would": "将变化", "did": "已变化", "of": "截至 {day}，{n} 个等级{what}", "none": "尚无等级",
        "since": "自 {since} 起", "review": "下次复核：{day}", "falls": "若不再累积，届时为 {tier}",
        "next": "下一等级：{tier}", "missing": "还差 {missing}", "at": "按目前速度将于 {day} 达到", "never": "按目前速度无法达到",
        "adds": "将新增", "has": "享有", "top": "已是最高等级",
    },
}  # fmt: skip


def review(errand: Work, *, as_of: Day = None, dry_run: Flag = False, language: str = "en") -> Answer:
    """Review all tiers as of a day, by default today; with --dry-run only say what would change."""
    now, words = today(errand), _WORDS[language]
    day = now if as_of is None else as_of
    if not dry_run and not now - LATEST < day <= now:
        raise BadReviewDay(
            f"found {day}; expected a day from {now - LATEST + timedelta(days=1)} to {now}, or --dry-run"
        )
    moves = list(list_moves(errand, day)) if dry_run else record_review(errand, day)
    counts: dict[tuple[str, str, str, str], int] = {}
    for move in moves:
        key = (move.ladder, move.change.was, move.change.tier, move.change.reason)
        counts[key] = counts.get(key, 0) + 1
    rows = [
        {"ladder": ladder, "was": was, "tier": tier, "reason": reason, "members": n}
        for (ladder, was, tier, reason), n in sorted(counts.items())
    ]
    document = {"day": day.isoformat(), "dry_run": dry_run, "changed": len(moves), "changes": rows}
    what = words["would" if dry_run else "did"]
    lines = [words["of"].format(n=len(moves), what=what, day=day)]
    return document, lines + [
        f"  {r['ladder']}: {r['was']} -> {r['tier']} ({r['reason']})  {r['members']}" for r in rows
    ]


def history(errand: Work, member: str, *, language: str = "en") -> Answer:
    """Show how a member's tiers changed, and why."""
    number = errand.member(member)
    rows: list[dict[str, Any]] = []
    held: dict[str, str] = {}
    for page, step in list_changes(errand.house.reading, errand.tenant, number):
        day = errand.plugin.programme.local_date(moment(page.at)).isoformat()
        was, held[step["ladder"]] = held.get(step["ladder"], ""), step["tier"]
        rows.append(
            {
                "day": day,
                "ladder": step["ladder"],
                "was": was,
                "tier": step["tier"],
                "reason": step["reason"],
                "entry": page.entry,
            }
        )
    lines = [
        f"{r['day']}  {r['ladder']}: {r['was'] or '-'} -> {r['tier']}  ({r['reason']}, {r['entry']})" for r in rows
    ]
    return {"member": member_name(number), "changes": rows}, lines or [_WORDS[language]["none"]]


def show(errand: Work, member: str, *, language: str = "en") -> Answer:
    """Show a member's tiers, benefits and what the next tier would add."""
    number, words = errand.member(member), _WORDS[language]
    views = api.standings(errand, number)
    lines = []
    for view in views:
        lines.append(f"{view.ladder}: {view.tier} ({words['since'].format(since=view.since)})")
        if view.benefits:
            lines.append(f"  {words['has']} {_benefits(view.benefits)}")
        if view.review is not None:
            falls = f"; {words['falls'].format(tier=view.falls_to)}" if view.falls_to else ""
            lines.append(f"  {words['review'].format(day=view.review)}{falls}")
        lines.append(f"  {_next(view, words)}")
        if view.next is not None and view.next.adds:
            lines.append(f"  {words['adds']} {_benefits(view.next.adds)}")
    return {"member": member_name(number), "ladders": to_builtins(views)}, lines or [words["none"]]


def forecast(errand: Work, member: str, *, language: str = "en") -> Answer:
    """Show when a member reaches the next tier at the present pace."""
    number, words = errand.member(member), _WORDS[language]
    views = api.standings(errand, number)
    document = [
        {"ladder": view.ladder, "tier": view.tier, "next": to_builtins(view.next)} for view in views
    ]  # fmt: skip
    lines = [f"{view.ladder}: {view.tier}; {_next(view, words)}" for view in views]
    return {"member": member_name(number), "ladders": document}, lines or [words["none"]]


def _next(view: api.View, words: dict[str, str]) -> str:
    if view.next is None:
        return words["top"]
    parts = [words["next"].format(tier=view.next.tier)]
    if view.next.missing is not None:
        parts.append(words["missing"].format(missing=view.next.missing))
        parts.append(words["at"].format(day=view.next.on) if view.next.on is not None else words["never"])
    return ", ".join(parts)


def _benefits(benefits: Any) -> str:
    return ", ".join(f"{name} = {benefit}" for name, benefit in benefits.items())
