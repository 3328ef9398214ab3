"""Stories: one line per event, and beside it what a member would see.

    2025-01-02        m-1 buys 123.45                   earns 123 points
    2025-01-03 09:00  m-1 buys 20.00 of FUEL as R-2     earns nothing
    2025-01-04        m-1 returns R-1                   loses 123 points
    2025-01-04        m-1 returns 50.00 of R-1          loses 61 points
    2025-01-05        m-1 redeems 100 points            spends 100 points
    2025-01-05        m-1 redeems 100 points for R-3    refused insufficient_balance
    2025-01-06        m-1 gives 50 points to m-2
    2025-01-07        m-2 has 50 points
    2025-01-07        m-2 does visit.checked_in {"store": "main"}   earns 5 points

Members come when they are named.  Times are UTC, noon unless said.  An order is named ``as R-1`` or gets the line's number.
A ``#`` starts a comment.  Anything behind two spaces is an expectation.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from .. import values
from ..errors import TallyError
from ..ledger import Record
from .stage import Stage

_LINE = re.compile(r"(?P<day>\d{4}-\d\d-\d\d)(?:[ T](?P<time>\d\d:\d\d(?::\d\d)?))?\s+(?P<who>\S+)\s+(?P<what>\S.*)\Z")
_EXPECT = re.compile(r"\s{2,}(earns|loses|spends|refused|parked|held)\b(.*)\Z")


class StoryFailed(AssertionError):
    """A line of a story came out differently."""


def play(story: str, *, stage: Stage) -> list[Record | TallyError]:
    """Play *story* line by line on *stage*; raises :class:`StoryFailed` naming the first line that came out differently."""
    results: list[Record | TallyError] = []
    for number, raw in enumerate(story.splitlines(), 1):
        line = raw.partition(" #")[0].strip() if not raw.strip().startswith("#") else ""
        if line:
            found = _play_line(line, f"R-{number}", stage)
            if found is not None:
                results.append(found)
    return results


def _play_line(line: str, order: str, stage: Stage) -> Record | TallyError | None:
    expected = _EXPECT.search(line)
    head = line[: expected.start()] if expected else line
    match = _LINE.match(head.strip())
    if match is None:
        raise StoryFailed(f"not a line of a story: {line}")
    stage.at(datetime.fromisoformat(f"{match['day']}T{match['time'] or '12:00'}").replace(tzinfo=UTC))
    who, what = match["who"], match["what"].strip()
    if who == "expiry" and what == "runs":
        stage.house.expire(stage.tenant)
        return None
    guest = who == "guest"
    if not guest:
        stage.enrol(who)
    has = re.fullmatch(r"has (-?\d+) ?(\w+)?(?: (usable|posted))?", what)
    if has:
        unit = has[2] or "points"
        found = stage.posted(who, unit) if has[3] == "posted" else stage.usable(who, unit)
        if found != int(has[1]):
            raise StoryFailed(f"{line}\n  but it is {found}")
        return None
    kind, data = _event(what, order, stage)
    outcome = stage.try_send(kind, data, member="" if guest else who)
    _compare(line, expected, outcome)
    return outcome if isinstance(outcome, TallyError) else outcome.record


def _event(what: str, order: str, stage: Stage) -> tuple[str, dict[str, Any]]:
    if bought := re.fullmatch(r"buys ([\d.]+)(?: of (\S+))?(?: as (\S+))?", what):
        line: dict[str, Any] = {"sku": bought[2] or "item", "amount": _money(bought[1], stage)}
        if bought[2]:
            line |= {"department": bought[2], "category": bought[2]}
        return "purchase.completed", {"order": bought[3] or order, "currency": stage.currency, "lines": [line]}
    if basket := re.fullmatch(r"buys (\[.*\]|\{.*\})(?: as (\S+))?", what):
        given = json.loads(basket[1])
        purchase = {"lines": given} if isinstance(given, list) else given
        return "purchase.completed", {"order": basket[2] or order, "currency": stage.currency} | purchase
    if returned := re.fullmatch(r"returns (?:([\d.]+) of )?(\S+)", what):
        data: dict[str, Any] = {"order": returned[2]}
        return "purchase.refunded", data | ({"amount": _money(returned[1], stage)} if returned[1] else {})
    if redeemed := re.fullmatch(r"redeems (\d+)(?: points)?(?: for (\S+))?(?: of ([\d.]+))?", what):
        data = {"points": int(redeemed[1])}
        if redeemed[2]:
            data |= {"order": redeemed[2], "total": _money(redeemed[3] or "1000000", stage)}
        return "points.redeemed", data
    if given_away := re.fullmatch(r"gives (\d+)(?: points)? to (\S+)", what):
        stage.enrol(given_away[2])
        return "points.gifted", {"points": int(given_away[1]), "to": given_away[2]}
    if done := re.fullmatch(r"does (\S+)(?: (\{.*\}))?", what):
        return done[1], json.loads(done[2] or "{}")
    raise StoryFailed(f"nobody knows how to play: {what}")


def _compare(line: str, expected: re.Match[str] | None, outcome: Any) -> None:
    wanted = expected[1] if expected else ""
    rest = expected[2].strip() if expected else ""
    if isinstance(outcome, TallyError):
        if wanted != "refused" or (rest and rest != outcome.code):
            raise StoryFailed(f"{line}\n  but it was refused: {outcome.code}: {outcome}")
        return
    record: Record = outcome.record
    if wanted == "refused":
        raise StoryFailed(f"{line}\n  but it was {record.status}")
    if wanted in ("parked", "held"):
        if record.status != wanted:
            raise StoryFailed(f"{line}\n  but it was {record.status}")
    elif wanted:
        found = _gained(record)
        for part in [] if rest == "nothing" else rest.replace(" and ", ",").split(","):
            amount, _, unit = part.strip().partition(" ")
            sign = 1 if wanted == "earns" else -1
            if found.pop(unit or "points", 0) != sign * int(amount):
                raise StoryFailed(f"{line}\n  but it came to {_gained(record) or 'nothing'}")
        if any(found.values()):
            raise StoryFailed(f"{line}\n  but it also came to {found}")


def _gained(record: Record) -> dict[str, int]:
    gained: dict[str, int] = {}
    for transfer in record.transfers:
        if transfer.credit == record.member:
            gained[transfer.unit] = gained.get(transfer.unit, 0) + transfer.amount
        elif transfer.debit == record.member:
            gained[transfer.unit] = gained.get(transfer.unit, 0) - transfer.amount
    return {unit: amount for unit, amount in gained.items() if amount}


def _money(amount: str, stage: Stage) -> int:
    """Whole units of the shop's currency as smallest ones: 12.34 dollars are 1,234 cents, 12 yen are 12."""
    found = Decimal(amount).scaleb(values.CURRENCIES[stage.currency])
    if found != found.to_integral_value():
        raise StoryFailed(f"{stage.currency} has no smaller part than {amount} asks for")
    return int(found)
