"""``tally notify``: what went out, how a message looks, and second chances."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Annotated, Any

import msgspec

from tallystick.errors import NotFound
from tallystick.ledger import instant

from . import store
from .wording import SHIPPED, choose, render


def report(
    visit: Any,
    *,
    since: Annotated[date | None, {"en": "First day (today if not said).", "zh": "起始日期（默认今天）。"}] = None,
    language: str = "en",
) -> tuple[Any, list[str]]:
    """What went out, what waits and what did not go, with reasons."""
    zone = visit.plugin.programme.zone
    day = since or visit.now.astimezone(zone).date()
    with visit.house.db.connect() as conn:
        found = store.counts(conn, visit.tenant, instant(datetime.combine(day, time(), zone)))
    document = [
        {
            "template": row.template,
            "channel": row.channel,
            "state": row.state,
            "reason": row.reason,
            "number": row.number,
        }
        for row in found
    ]
    nothing = "没有消息。" if language == "zh" else "No messages."
    lines = [
        f"{row.number:>8}  {row.template:<24} {row.channel:<16} {row.state}{f' ({row.reason})' if row.reason else ''}"
        for row in found
    ]
    return document, lines or [nothing]


def preview(
    visit: Any, template: str, *, member: Annotated[str, {"en": "Whose last message to show.", "zh": "会员。"}] = "",
    language: str = "en",
) -> tuple[Any, list[str]]:  # fmt: skip
    """How a message looks, with the member's last facts or with an example."""
    settings, spoken = visit.plugin.settings, language
    facts: Any = SHIPPED[template].example if template in SHIPPED else None
    if member:
        number = visit.member(member)
        with visit.house.db.connect() as conn:
            _, spoken, _, _ = store.person(conn, visit.tenant, number)
            last = store.everything(conn, visit.tenant, number)["messages"]
        facts = next((one["facts"] for one in reversed(last) if one["template"] == template), facts)
    found = choose(template, (spoken or settings.language, settings.language), settings.wordings)
    if found is None or facts is None:
        raise NotFound(f'there are no words or no facts to show for "{template}"')
    words = render(found[1], facts, found[0], visit.plugin.programme.zone)
    document = {
        "template": template,
        "language": found[0],
        "subject": words.subject,
        "text": words.text,
        "facts": facts,
    }
    return msgspec.to_builtins(document), [words.subject, "", *words.text.splitlines()]


def replay(visit: Any, message: str = "", *, language: str = "en") -> tuple[Any, list[str]]:
    """Try what could not be delivered once more: one message, or all."""
    with visit.house.db.begin() as conn:
        number = store.replay(conn, visit.tenant, message, instant(visit.now))
    said = f"{number} 条消息将重新发送。" if language == "zh" else f"{number} deliveries will be tried again."
    return {"replayed": number}, [said]
