"""``tally notify``: what went out and what became of it, how messages look, where others tell us more, and second chances."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tallystick.errors import NotFound
from tallystick.ledger import instant, moment

from . import store
from .errands import link
from .gallery import all_mails
from .wording import choose, render

#: Columns of the report, with their headings.
_KNOWN = {
    "sent": ("sent", "已发送"),
    "delivered": ("delivered", "已送达"),
    "bounced": ("bounced", "退回"),
    "opened": ("opened", "已打开"),
    "unsubscribed": ("unsubscribed", "退订"),
    "waiting": ("waiting", "等待"),
    "skipped": ("kept back", "未发送"),
    "dead": ("failed", "失败"),
}


def report(
    visit: Any,
    *,
    since: Annotated[date | None, {"en": "First day (today if not said).", "zh": "起始日期（默认今天）。"}] = None,
    until: Annotated[date | None, {"en": "Last day (today if not said).", "zh": "结束日期（默认今天）。"}] = None,
    language: str = "en",
) -> tuple[Any, list[str]]:
    """What went out and what became of it, per day, message and channel; why the rest did not go."""
    zone = visit.plugin.programme.zone
    today = visit.now.astimezone(zone).date()
    first, last = since or today, until or today
    begin, end = (datetime.combine(day, time(), zone) for day in (first, last + timedelta(days=1)))
    with visit.house.reading() as conn:
        found = store.counts(conn, visit.tenant, instant(begin), instant(end))
    table: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_KNOWN, 0))
    reasons: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in found:
        day = moment(row.quarter * store.QUARTER).astimezone(zone).date().isoformat()
        numbers = table[day, row.template, row.channel]
        numbers[row.state] += row.number
        numbers["sent"] += row.number if row.state == "bounced" else 0
        for name in ("delivered", "opened", "unsubscribed"):
            numbers[name] += getattr(row, name)
        if row.state in ("skipped", "dead", "bounced") and row.reason:
            reasons[day, row.template, row.channel][row.reason] += row.number
    document: list[dict[str, Any]] = [
        {
            "day": key[0], "template": key[1], "channel": key[2], **numbers,
            "reasons": dict(sorted(reasons[key].items())),
        }
        for key, numbers in sorted(table.items())
    ]  # fmt: skip
    if not document:
        return [], ["没有消息。" if language == "zh" else "No messages."]
    lines = []
    for row in document:
        told = ", ".join(f"{row[name]} {said[language == 'zh']}" for name, said in _KNOWN.items() if row[name])
        why = ", ".join(f"{reason} {number}" for reason, number in row["reasons"].items())
        lines.append(f"{row['day']}  {row['template']:<22} {row['channel']:<12} {told}{f' ({why})' if why else ''}")
    return document, lines


def preview(
    visit: Any, template: str, *, member: Annotated[str, {"en": "Whose last message to show.", "zh": "会员。"}] = "",
    language: str = "en",
) -> tuple[Any, list[str]]:  # fmt: skip
    """How a message looks, with the member's last facts or with an example."""
    settings, spoken = visit.plugin.settings, language
    message = settings.messages.get(template)
    facts: Any = message.example if message is not None else None
    if member:
        number = visit.member(member)
        with visit.house.reading() as conn:
            spoken = store.persons(conn, visit.tenant, [number])[number].language
            last = store.everything(conn, visit.tenant, number)["messages"]
        facts = next((one["facts"] for one in reversed(last) if one["template"] == template), facts)
    found = choose(message.words, (spoken, settings.language)) if message is not None else None
    if found is None or not facts:
        raise NotFound(f'there are no words or no facts to show for "{template}"')
    words = render(found[1], facts, found[0], visit.plugin.programme.zone)
    document = {
        "template": template, "language": found[0], "subject": words.subject, "text": words.text, "facts": facts,
    }  # fmt: skip
    return msgspec.to_builtins(document), [words.subject, "", *words.text.splitlines()]


def gallery(visit: Any, file: str, *, language: str = "en") -> tuple[Any, list[str]]:
    """Write a page with every message as it goes out by mail: in each language, light and dark."""
    settings = visit.plugin.settings
    Path(file).write_text(all_mails(settings, visit.plugin.programme.zone), encoding="utf-8")
    number = len(settings.messages)
    said = f"{number} 条消息已写入 {file}。" if language == "zh" else f"{number} messages, written to {file}."
    return {"file": file, "messages": number}, [said]


def links(visit: Any, *, language: str = "en") -> tuple[Any, list[str]]:  # noqa: ARG001  addresses have no language
    """Where a mail server posts what came back, and where WeChat calls back: addresses that open without a key."""
    document = [
        {"channel": way.name, "for": what, "address": link(visit, door, way.name)}
        for way in visit.plugin.settings.ways
        for kind, what, door in (("mail", "bounces", "notify.bounces"), ("wechat", "callbacks", "notify.wechat"))
        if way.kind == kind
    ]
    return document, [f"{one['channel']:<12} {one['for']:<10} {one['address']}" for one in document]


def replay(
    visit: Any,
    message: Annotated[str, {"en": "Which message; all if not said.", "zh": "消息编号，默认全部。"}] = "",
    *,
    language: str = "en",
) -> tuple[Any, list[str]]:
    """Try what could not be delivered once more: one message, or all."""
    with visit.house.db.begin() as conn:
        number = store.replay(conn, visit.tenant, message, instant(visit.now))
    said = f"{number} 条消息将重新发送。" if language == "zh" else f"{number} deliveries will be tried again."
    return {"replayed": number}, [said]
