"""Windows of events in any order, some of them twice, in batches of any size, from two writers: they end the same (I18, I20)."""

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from core.tests.lab import Lab
from tallystick.effects import Count, Grant
from tallystick.errors import TallyError
from tallystick.situation import Needs

ORDERS = int(os.environ.get("TALLY_ORDERS", "25"))
#: (kind, order or none, who acts, amount)
Story = list[tuple[str, str, int, int]]


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    lab = Lab(database_url)
    lab.puppet.wants = Needs(counters=frozenset({("lab.money", "lifetime")}))
    lab.puppet.on("earn", earn)
    lab.recompile()
    yield lab
    lab.check()
    lab.db.dispose()


def earn(event: Any, _: Any) -> list[Grant | Count]:
    if event.kind == "purchase.completed":
        return [
            Grant(rule="lab.base", unit="points", amount=event.facts.total // 100),
            Count(rule="lab.sum", counter="lab.money", window="lifetime", amount=event.facts.total),
        ]
    return [Grant(rule="lab.gain", unit="points", amount=event.facts.amount)]


def window(chance: random.Random) -> Story:
    """What some people did within a few minutes, told as it happened."""
    story: Story = []
    for order in ("A", "B", "C")[: chance.randrange(1, 4)]:
        who, left = chance.randrange(3), chance.randrange(1, 20_000)
        story.append(("sale", order, who, left))
        for _ in range(chance.randrange(3)):
            story.append(("refund", order, who, chance.randrange(1, left + 1)))
        if chance.random() < 0.3:
            story.append(("cancel", order, who, 0))
    for _ in range(chance.randrange(4)):
        story.append((chance.choice(["gain", "spend", "gift"]), "", chance.randrange(3), chance.randrange(1, 200)))
    return story


def live(lab: Lab, story: Story, turn: str, chance: random.Random | None) -> list[tuple[int, int, int]]:
    """Live *story* once, with people of its own; mixed up by *chance*.  Where everybody ends: posted, usable, counted."""
    people = [f"{turn}-{n}" for n in range(3)]
    lab.enrol(*people)
    for name in people:
        lab.gain(name, 5_000)
    events = []
    for n, (kind, order, who, amount) in enumerate(story):
        name, more = people[who], {"id": f"{turn}-{n}"}
        events.append({
            "sale": lambda name=name, order=order, amount=amount, more=more: lab.bought(name, amount, f"{turn}-{order}", **more),
            "refund": lambda order=order, amount=amount, more=more: lab.returned(f"{turn}-{order}", amount=amount, **more),
            "cancel": lambda order=order, more=more: lab.arrival("purchase.cancelled", "", order=f"{turn}-{order}", **more),
            "gain": lambda name=name, amount=amount, more=more: lab.arrival("lab.did", name, amount=amount, **more),
            "spend": lambda name=name, amount=amount, more=more: lab.arrival("lab.spent", name, amount=amount, **more),
            "gift": lambda name=name, who=who, amount=amount, more=more: lab.arrival(
                "lab.given", name, amount=amount, to=people[(who + 1) % 3], **more
            ),
        }[kind]())  # fmt: skip
    writers = [lab.engine]
    if chance is not None:
        events += [event for event in events if chance.random() < 0.4]
        chance.shuffle(events)
        writers.append(lab.writer(2))
    while events:
        size = 1 if chance is None else chance.randrange(1, 6)
        batch, events = events[:size], events[size:]
        outcomes = (writers[0] if chance is None else chance.choice(writers)).record(batch)
        assert [outcome for outcome in outcomes if isinstance(outcome, TallyError)] == [], story
    return [(lab.posted(name), lab.usable(name), lab.counter("lab.money", name)) for name in people]


def test_any_order_and_any_repetition_ends_the_same(lab: Lab) -> None:
    chance = random.Random(17)
    for turn in range(ORDERS):
        story = window(chance)
        told = live(lab, story, f"told{turn}", None)
        assert live(lab, story, f"mixed{turn}", chance) == told, story
