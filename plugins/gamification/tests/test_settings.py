"""Mistakes are named with their place before anything runs."""

from __future__ import annotations

import pytest

from tallystick import config, discovery
from tallystick.document import Document
from tallystick.errors import InvalidConfig

HEAD = '[house]\ndatabase = "sqlite:///x.db"\n[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n[tenants.shop.plugins.points]\n'


def mistakes(settings: str) -> list[str]:
    text = HEAD + settings.replace("[[", "[[tenants.shop.plugins.gamification.").replace(
        "\n[p", "\n[tenants.shop.plugins.gamification.p"
    )
    try:
        config.check(Document(text), installed=discovery.discover())
    except InvalidConfig as found:
        return str(found).splitlines()
    return []


TASK = '[[tasks]]\nname = "a"\ngoal = 1\n'


@pytest.mark.parametrize(
    "settings, line, said",
    [
        (TASK + 'on = "gamification.rewarded"\nrewards = [{ coupon = "TEA" }]', 11, "triggers the task itself"),
        (TASK + 'after = ["b"]\n[[tasks]]\nname = "b"\ngoal = 1\nafter = ["a"]', 10, "the chain is circular: a -> b -> a"),
        (TASK + 'after = ["a"]', 10, "the chain is circular: a -> a"),
        (TASK + '[[tasks]]\nname = "b"\ngoal = 1\nafter = ["a"]\n[[quests]]\nname = "q"\nsteps = ["b", "a"]', 13, "circular"),
        (TASK + 'after = ["c"]', 10, 'found "c"; expected one of the tasks'),
        (TASK + '[[tasks]]\nname = "a"\ngoal = 1', 11, 'found "a" twice'),
        ('[[tasks]]\nname = "a"\ngoal = 0', 9, "found 0; expected at least 1"),
        ('[[tasks]]\nname = "a"\ngoal = 3\nlevels = 2', 9, "found 3 for all 2 levels"),
        ('[[tasks]]\nname = "a"\ngoal = "10 - level"\nlevels = 2', 9, "level 2 takes 8; expected more than 9"),
        ('[[tasks]]\nname = "a"\ngoal = "3 * levl"\nlevels = 2', 9, "levl"),
        (TASK + 'when = "purchase.totl > 3"', 10, "totl"),
        (TASK + 'audience = "purchase.total > 3"', 10, "purchase"),
        (TASK + 'on = "purchase.complete"', 10, 'did you mean "purchase.completed"'),
        (TASK + 'measure = "distinct"', 7, '"value" is missing'),
        (TASK + 'measure = "distinct"\nvalue = "purchase.total"', 11, "string"),
        (TASK + 'repeat = "completion"\nlevels = 2', 11, "does not go together"),
        (TASK + 'rewards = [{ badge = "gold" }]', 10, 'found "gold"; expected one of the badges'),
        (TASK + 'rewards = [{ unit = "points" }]', 10, '"unit" and "amount" go together'),
        (TASK + "from = 2025-02-01\nuntil = 2025-01-01", 11, "expected it after"),
        ('[[draws]]\nname = "w"\nprizes = [{ name = "a", weight = 0 }, { name = "b", weight = 0 }]', 9, "the weights sum to 0"),
        ('[[draws]]\nname = "w"\nprizes = [{ name = "a", weight = 1, stock = true }]', 7, '"instead" is missing'),
        ('[[draws]]\nname = "w"\nstyle = "nine_grid"\nprizes = [{ name = "a", weight = 1 }]', 10, "expected 8 around"),
        ('[[draws]]\nname = "w"\ninstead = "a"\nprizes = [{ name = "a", weight = 1, stock = true }]', 9, "without stock"),
        ('[[forms]]\nname = "f"\nkind = "quiz"\nquestions = { a = ["x"] }', 7, '"solution" is missing'),
        ('[[forms]]\nname = "f"\nkind = "quiz"\nquestions = { a = ["x"] }\nsolution = { a = "y" }', 11, 'found "y"'),
        ('[[leaderboards]]\nname = "b"\nscope = "purchase.total"', 9, "string"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(settings: str, line: int, said: str) -> None:
    found = mistakes(settings)
    assert any(f":{line}:" in one for one in found), found
    assert said in "\n".join(found)


def test_settings_that_are_right_are_accepted() -> None:
    assert mistakes(TASK + 'rewards = [{ unit = "points", amount = 1 }]') == []
