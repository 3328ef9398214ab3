"""The commands of gamification: a document for programs, lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from msgspec import to_builtins

from tallystick import errands
from tallystick.ledger import member_name

from . import api
from .hooks import Gamification
from .jobs import Errand

Answer = tuple[Any, list[str]]
Scope = Annotated[str, {"en": "The store, city or club.", "zh": "门店、城市或俱乐部。"}]
Limit = Annotated[int, {"en": "How many places.", "zh": "显示的名次数量。"}]
Round = Annotated[int, {"en": "The round, by default the last one.", "zh": "第几轮，默认为最近一轮。"}]

_WORDS = {
    "en": {
        "streak": "checked in {length} days in a row, {total} in all, best {best}", "badge": "badge {name}, level {level}",
        "task": "{task}: {progress} of {goal}, level {level}", "waits": "  (comes later)", "none": "nobody yet",
        "open": "round {round} of {draw} is open; committed to {commitment}",
        "reached": "{task}: reached by {members} members, {times} times", "held": "badge {badge}: {members} members",
        "nothing": "there are no tasks", "place": "place {rank} with {score}", "absent": "not on the list", "round": "{draw}: round {round} is open",
        "shut": "{draw}: closed (last round {round})", "left": "{left} left", "no_draws": "there are no draws",
        "closed": "round {round} of {draw}: commitment {commitment}, seed {seed}, {n} draws; --json gives the proof",
    },
    "zh": {
        "streak": "连续签到 {length} 天，累计 {total} 天，最长 {best} 天", "badge": "徽章 {name}，等级 {level}",
        "task": "{task}：{progress}/{goal}，等级 {level}", "waits": "（尚未开始）", "none": "暂无",
        "open": "{draw} 第 {round} 轮进行中；承诺哈希 {commitment}",
        "reached": "{task}：{members} 名会员达成，共 {times} 次", "held": "徽章“{badge}”：{members} 名会员",
        "nothing": "没有任务", "place": "第 {rank} 名，{score}", "absent": "未上榜", "round": "{draw}：第 {round} 轮进行中",
        "shut": "{draw}：未开启（最近为第 {round} 轮）", "left": "剩余 {left}", "no_draws": "没有抽奖活动",
        "closed": "{draw} 第 {round} 轮：承诺哈希 {commitment}，种子 {seed}，共 {n} 次抽奖；--json 输出完整证明",
    },
}  # fmt: skip


Person: TypeAlias = errands.Work[Gamification]


def show(errand: Person, member: str, *, language: str = "en") -> Answer:
    """Show a member's tasks, streak and badges."""
    number, words = errand.member(member), _WORDS[language]
    tasks, streak, badges = api.tasks_of(errand, number), api.streak_of(errand, number), api.badges_of(errand, number)
    document = {
        "member": member_name(number), "tasks": to_builtins(tasks), "badges": badges,
        "check_in": {"length": streak.length, "best": streak.best, "total": streak.total},
    }  # fmt: skip
    lines = [words["task"].format(**to_builtins(task)) + ("" if task.begun else words["waits"]) for task in tasks]
    if streak.total:
        lines.append(words["streak"].format(**streak._asdict()))
    return document, lines + [words["badge"].format(name=name, level=level) for name, level in badges.items()]


def top(errand: Person, board: str, *, scope: Scope = "", limit: Limit = 10, language: str = "en") -> Answer:
    """Show a leaderboard."""
    found = api.top(errand, board, scope=scope, limit=limit)
    lines = [f"{view.rank:>4}  {view.name:<32} {view.score:>12}" for view in found]
    return {"board": board, "scope": scope, "places": to_builtins(found)}, lines or [_WORDS[language]["none"]]


def report(errand: Errand, *, language: str = "en") -> Answer:
    """Show how many members reached what in tasks, who has which badge, and who leads."""
    found, words = api.summary_of(errand), _WORDS[language]
    lines = []
    for task in found.tasks:
        title = _titled(task.title, task.task, language)
        lines.append(words["reached"].format(task=title, members=f"{task.members:,}", times=f"{task.times:,}"))
    for badge in found.badges:
        title = _titled(badge.title, badge.badge, language)
        lines.append(words["held"].format(badge=title, members=f"{badge.members:,}"))
    for board in found.boards:
        lines += ["", _titled(board.title, board.board, language)]
        lines += [f"{view.rank:>4}  {view.name:<32} {view.score:>14,}" for view in board.top] or [words["none"]]
    return to_builtins(found), lines or [words["nothing"]]


def _titled(title: Mapping[str, str], name: str, language: str) -> str:
    return title.get(language) or title.get("en") or name


def place(errand: Person, board: str, member: str, *, scope: Scope = "", language: str = "en") -> Answer:
    """Show a member's own place on a leaderboard, which they see even if they hide."""
    number = errand.member(member)
    found = api.place(errand, board, number, scope=scope)
    document = {"board": board, "scope": scope, "member": member_name(number), "place": to_builtins(found)}
    words = _WORDS[language]
    return document, [words["absent"] if found is None else words["place"].format(**found._asdict())]


def stock(errand: Errand, *, language: str = "en") -> Answer:
    """Show every draw: its round, its prizes and what is left of them."""
    found, lines, words = api.draws_of(errand), [], _WORDS[language]
    for draw in found:
        lines.append(words["round" if draw.open else "shut"].format(draw=draw.draw, round=draw.round))
        for prize in draw.prizes:
            left = "" if prize.left is None else words["left"].format(left=prize.left)
            lines.append(f"  {prize.prize:<24} {prize.weight:>8}  {left}".rstrip())
    return {"draws": to_builtins(found)}, lines or [words["no_draws"]]


def proof(errand: Person, draw: str, *, round: Round = 0, language: str = "en") -> Answer:  # noqa: A002 - the option's name
    """Show what is committed of a round of a draw, and once it is closed the proof."""
    found, words = api.proof(errand, draw, round), _WORDS[language]
    text = words["open"] if found["open"] else words["closed"]
    return found, [text.format(**found, n=len(found.get("draws", ())))]
