"""Bad input: every mistake in the settings is named with its place before anything runs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tallystick import config, discovery
from tallystick.document import Document
from tallystick.errors import InvalidConfig
from tallystick_risk import settings
from tallystick_risk.settings import LIMITS, POLICIES, WATCHES, read
from tallystick_risk.signals import FOUND, SIGNALS

HEAD = '[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n[tenants.shop.plugins.points]\n'


def problems(text: str) -> list[str]:
    here = "tenants.shop.plugins.risk"
    lines = [
        f"[[{here}.{line[2:]}" if line.startswith("[[") else f"[{here}{line[1:]}" if line.startswith("[") else line
        for line in text.strip().splitlines()
    ]
    document = Document(HEAD + "\n".join(lines) + "\n", "tally.toml")
    try:
        config.check(document, installed=discovery.discover())
    except InvalidConfig as refusal:
        return [str(problem) for problem in refusal.problems]
    return []


POLICY = '[[policies]]\nname = "p"\non = ["points.redeemed"]\n'


@pytest.mark.parametrize(
    "text, said",
    [
        (POLICY + 'when = "signal.redemtions_hour > 3"', "tally.toml:8:16"),
        (POLICY + 'when = "signal.redemtions_hour > 3"', "redemptions_hour"),
        (POLICY + 'when = "signal.points_taken > limit.mine"', "limit.mine"),
        (POLICY + 'when = "signal.points_taken"', "tally.toml:8:16"),
        (POLICY + 'when = "purchase.total > 3"', "tally.toml:8:9"),
        ('[[watches]]\nname = "w"\nsubject = "cashier"\nwhen = "signal.invited > 3"', "tally.toml:8:16"),
        ('[[watches]]\nname = "w"\nsubject = "moon"\nwhen = "true"', "tally.toml:7:11"),
        ('[[policies]]\nname = "p"\non = ["points.redemed"]\nwhen = "true"', ""),
        ('[[policies]]\nname = "p"\non = ["purchase.refunded"]\nwhen = "true"', "tally.toml:7:7"),
        ('[[policies]]\nname = "p"\non = ["risk.restored"]\nwhen = "true"', "that can be held"),
        ('[[policies]]\nname = "p"\non = ["club.joined"]\nwhen = "true"', "that this tenant knows"),
        (POLICY + 'when = "true"\n' + POLICY + 'when = "true"', '"p" twice'),
        (POLICY + 'when = "true"\nverdict = "deny"\nafter = "3h"', "nothing waits"),
        (POLICY + 'when = "true"\nverdict = "maybe"', "tally.toml:9:11"),
        (POLICY + 'when = "true"\nafter = "soon"', "tally.toml:9:9"),
        (']\nwithout = ["sleepr"]', 'did you mean "sleeper"?'),
        (".limits]\nredemptions_hours = 3", 'did you mean "redemptions_hour"?'),
        (".limits]\nredemptions_hour = -3", "tally.toml:6:20"),
        ('.stores.north]\nlatitude = "140.8"\nlongitude = "3"', "from -90 to 90 degrees"),
        ('.stores.north]\nlatitude = "north"\nlongitude = "3"', "degrees in quotes"),
        ('.capabilities]\nfly = ["club.joined"]', "that this tenant knows"),
        ("]\nmode = true", "tally.toml:6:8"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, said: str) -> None:
    text = text if text.startswith("[") else "[" + text
    found = problems(text)
    if said:
        assert len(found) == 1 and said in found[0], found
    else:
        assert found == [], "kinds of a plugin are not looked up one by one"


@pytest.mark.parametrize("shipped", [*POLICIES, *WATCHES], ids=lambda fields: str(fields["name"]))
def test_what_is_shipped_is_written_as_a_merchant_could_write_it(shipped: Any) -> None:
    room = "policies" if "on" in shipped else "watches"
    lines = [f"[[{room}]]"]
    for key, value in shipped.items():
        if isinstance(value, dict):
            lines.append(f'{key} = {{ en = "{value["en"]}", zh = "{value["zh"]}" }}')
        else:
            lines.append(f"{key} = {value!r}" if isinstance(value, list) else f'{key} = "{value}"')
    assert problems("\n".join(lines)) == []


def test_every_limit_is_named_by_something_that_is_shipped() -> None:
    texts = " ".join(fields["when"] for fields in (*POLICIES, *WATCHES))
    assert [name for name in LIMITS if f"limit.{name} " not in texts + " "] == []


def test_everything_is_said_in_two_languages() -> None:
    said = [signal.summary for signal in SIGNALS.values()]
    said += [text for room in FOUND.values() for text in room.values()]
    said += [settings.GENTLE, settings.CHALLENGE, settings.RESTRICTED]
    made = read({})
    said += [each for policy in made.policies for each in (policy.reason, policy.gentle)]
    said += [watch.reason for watch in made.watches]
    assert [text for text in said if {"en", "zh"} - text.languages.keys()] == []


def test_how_holds_end_is_the_policys_own_the_merchants_or_what_is_shipped() -> None:
    own = {"name": "a", "on": ["points.gifted"], "when": "true"}
    made = read({"holds": {"after": "5h", "end": "released", "step_up_after": "1min"}, "policies": [own]})
    by = {policy.name: (policy.after, policy.end) for policy in made.policies}
    assert by["a"] == (timedelta(hours=5), "released")
    assert by["sleeper"] == (timedelta(minutes=1), "voided")
    assert by["second_person"] == (timedelta(days=14), "released")
    assert read({}).policies[0].after == timedelta(hours=72)


def test_the_reference_page_names_every_signal_limit_policy_and_watch() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "risk.md").read_text()
    rows = [f"| `{name}` | {signal.summary} |" for name, signal in SIGNALS.items()]
    rows += [f"| {about} | `{name}` | {text} |" for about, room in FOUND.items() for name, text in room.items()]
    rows += [f"| `{name}` | {value} |" for name, value in LIMITS.items()]
    rows += [f"`{fields['when']}` |".replace("||", r"\|\|") for fields in (*POLICIES, *WATCHES)]
    assert [row for row in rows if row not in page] == []
