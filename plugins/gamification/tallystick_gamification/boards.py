"""What an event adds to leaderboards: counters of the core, from which the lists are projected after the commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from hashlib import sha256
from typing import Any

from tallystick import rules
from tallystick.effects import Count, Effect
from tallystick.events import Event
from tallystick.rules import BOOL, STRING, RuleText, compile_expression, compile_rules
from tallystick.situation import Programme, Situation

from .periods import period_of
from .scope import PLACES, has_facts, scope_of_event, scope_of_member
from .settings import PURCHASE, Board

_EPOCH = date(1970, 1, 1).toordinal()


def start_of(window: str, day: date) -> int:
    """First local day of the window around *day*, in days since 1970."""
    return 0 if window == "lifetime" else period_of(window, day) - _EPOCH


def pseudonym(tenant: str, member: int) -> str:
    """What others see of a member who chose no name: always the same, and nothing that leads to the person."""
    return f"Member {sha256(f'{tenant}/{member}/leaderboard'.encode()).hexdigest()[:6].upper()}"


def text_of(board: Board) -> RuleText:
    """The rule that says what an event adds."""
    return RuleText(board.name, when=board.when or "true", value=board.value or "1")


class Boards:
    """The leaderboards that count events of one kind."""

    def __init__(self, kind: str, boards: Sequence[Board], programme: Programme) -> None:
        self._kind, self._boards, self._programme = kind, boards, programme
        scope = scope_of_event(kind, programme.units, programme.zone)
        members = scope_of_member(programme.zone)
        self._rules = compile_rules([text_of(board) for board in boards], scope, places=PLACES)
        self._scopes = [
            compile_expression(rules.check(board.scope, scope, STRING)) if board.scope else None for board in boards
        ]
        self._audience = [
            compile_expression(rules.check(board.audience, members, BOOL)) if board.audience else None
            for board in boards
        ]

    def counts(self, event: Event, situation: Situation) -> Iterator[Effect]:
        """What the event adds, as counters; a return takes back its share of money, and a visit only with all of it."""
        day = self._programme.local_date(event.at)
        facts: dict[str, Any] = {
            "event": event, "member": situation.member, "today": day, "gained": dict.fromkeys(self._programme.units, 0),
        }  # fmt: skip
        if self._kind == PURCHASE:
            facts["purchase"] = event.facts
            facts["goods"] = tuple([line for line in event.facts.lines if line.kind == "item"])
        elif has_facts(self._kind):
            facts["facts"] = event.facts
        for firing in self._rules.fire(**facts):
            board, scope, audience = self._boards[firing.rule], self._scopes[firing.rule], self._audience[firing.rule]
            if audience is not None and not audience(member=situation.member, today=day):
                continue
            name = f"gamification.board.{board.name}"
            part = str(scope(**facts)) if scope is not None else ""
            amount = int(firing.value)
            if amount > 0 and (part or scope is None):
                counter = f"{name}/{part}" if part else name
                yield Count(rule=name, counter=counter, window=board.window, amount=amount, by_share=bool(board.value))
