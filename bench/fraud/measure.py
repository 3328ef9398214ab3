"""How many planted patterns the risk plugin finds by name, and how many honest members it takes for something else.

The town comes from `generate.py`, which knows nothing of the plugin; its numbers are drawn anew by the seed.  The house
runs with default policies and watches; only the places of the stores are told.  A pattern is found if at least half of
its planted cases are, each by a case that is called like the pattern and concerns one of its culprits.

    python bench/fraud/measure.py [SEED] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tallystick import people
from tallystick.intake import read_document
from tallystick.ledger import instant, parse_member
from tallystick.testing import Stage, make_stage

sys.path.insert(0, str(Path(__file__).parents[2]))
from bench.fraud.generate import PATTERNS, STORES, Town, make_town

SETTINGS = """
zone = "America/New_York"
[plugins.points]
redeem = { points = 100, gives = 100 }
gift = {}
[[plugins.points.earn]]
name = "base"
points = 10
per = 100
[plugins.risk]
""" + "\n".join(
    f'[plugins.risk.stores.{name}]\nlatitude = "{north}"\nlongitude = "{east}"'
    for name, (north, east) in STORES.items()
)
#: Watches and timeouts run that often in the town's time; in a real house every minute.
EVERY = timedelta(hours=6)


class Measured(NamedTuple):
    """What came of a town."""

    events: int
    refused: Mapping[str, int]
    found: Mapping[str, tuple[int, int]]  #: pattern -> (cases found, cases planted)
    by: Mapping[str, Mapping[str, int]]  #: pattern -> whatever named its culprits
    honest: int
    alarms: Mapping[str, frozenset[str]]  #: policy -> honest members
    honest_events: int
    honest_held: int
    cpu: float

    @property
    def patterns(self) -> int:
        """Patterns of which at least half of the cases were found."""
        return sum(2 * found >= planted for found, planted in self.found.values())

    @property
    def alarmed(self) -> int:
        """Honest members whom some case concerns."""
        return len(frozenset[str]().union(*self.alarms.values()))


def chunks(events: Iterable[Mapping[str, Any]], every: timedelta) -> Iterator[list[Mapping[str, Any]]]:
    """Events of the same span of time."""
    some: list[Mapping[str, Any]] = []
    end = ""
    for event in events:
        if some and event["time"] > end:
            yield some
            some = []
        if not some:
            end = (datetime.fromisoformat(event["time"]) + every).isoformat()
        some.append(event)
    if some:
        yield some


def work(stage: Stage) -> None:
    """What a house does every minute: learn, let the watches look, end holds."""
    stage.house.relay()
    for job in ("risk.watch", "risk.timeouts"):
        stage.house.run_jobs(force=True, only=job)


def play(town: Town, stage: Stage, every: timedelta = EVERY) -> dict[str, Any]:
    """Let everything happen, with the clock of the house at the time of the last event; outcomes by event."""
    house, outcomes = stage.house, {}
    for some in chunks(town.events, every):
        stage.at(datetime.fromisoformat(some[-1]["time"]) + timedelta(seconds=1))
        joining = {event["member"]: event["time"] for event in some if event["type"] == "member.enrolled"}
        with house.db.begin() as conn:
            people.enrol_many(
                conn, house.secret, stage.tenant, stage.clock[0],
                [people.Newcomer(external_ids=(name,), joined=instant(datetime.fromisoformat(at))) for name, at in joining.items()],
            )  # fmt: skip
        kinds = house.kinds(stage.tenant)
        arrivals = [
            read_document(dict(event), tenant=stage.tenant, kinds=kinds, received=stage.now, actor="bench")
            for event in some
        ]
        for place in range(0, len(arrivals), 200):
            part = arrivals[place : place + 200]
            outcomes |= {one.id: outcome for one, outcome in zip(part, house.engine.record(part), strict=True)}
        work(stage)
    stage.at(stage.now + timedelta(minutes=2))
    work(stage)
    return outcomes


def measure(town: Town, stage: Stage, every: timedelta = EVERY) -> Measured:
    """Play *town* and compare what was found with the truth."""
    began = time.process_time()
    outcomes = play(town, stage, every)
    cpu = time.process_time() - began
    sent = {event["id"]: event for event in town.events}
    names = {
        number: name
        for name in {event["member"] for event in town.events if "member" in event}
        if (number := stage.number(name))
    }
    cases: dict[str, set[str]] = {}
    for policy, about, subject, member in stage.rows(
        'SELECT c.policy, c.about, c.subject, n.member FROM risk_case c LEFT JOIN risk_concerned n ON n."case" = c.number'
    ):
        concerned = names.get(member, "") if member else ""
        own = (
            names.get(parse_member(subject) or 0, subject)
            if about in ("member", "inviter", "ring")
            else f"{about}:{subject}"
        )
        cases.setdefault(policy, set()).update({concerned, own} - {""})
    refused = Counter(outcome.code for outcome in outcomes.values() if isinstance(outcome, Exception))
    held = [
        id for id, outcome in outcomes.items()
        if not isinstance(outcome, Exception) and outcome.record.status in ("held", "step_up")
    ]  # fmt: skip
    honest = [event for event in town.events if event.get("member", "") in town.honest or "member" not in event]
    found, by = {}, {}
    for pattern in PATTERNS:
        planted = [one for one in town.planted if one.pattern == pattern]
        found[pattern] = (sum(bool(one.culprits & cases.get(pattern, set())) for one in planted), len(planted))
        by[pattern] = {
            policy: count
            for policy, concerned in sorted(cases.items())
            if (count := sum(bool(one.culprits & concerned) for one in planted))
        }
    return Measured(
        events=len(outcomes), refused=refused, found=found, by=by, honest=len(town.honest),
        alarms={policy: frozenset(concerned & town.honest) for policy, concerned in cases.items() if concerned & town.honest},
        honest_events=len(honest), honest_held=sum(sent[id].get("member", "") in town.honest for id in held), cpu=cpu,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", nargs="?", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--members", type=int, default=400)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    town = make_town(given.seed, members=given.members)
    with tempfile.TemporaryDirectory() as folder:
        first = datetime.fromisoformat(town.events[0]["time"]) - timedelta(days=1)
        url = f"sqlite:///{folder}/books.db"
        with make_stage(SETTINGS, url, Path(folder), start=first) as stage:
            measured = measure(town, stage)
    print(f"seed {given.seed}: {measured.events:,} events, {len(town.planted)} planted cases, {measured.cpu:.0f} CPU s")
    for pattern, (found, planted) in measured.found.items():
        others = ", ".join(f"{name} {count}" for name, count in measured.by[pattern].items() if name != pattern)
        print(f"{pattern:20} {found} of {planted}{'   also ' + others if others else ''}")
    print(f"patterns found by name: {measured.patterns} of {len(PATTERNS)}")
    print(
        f"honest members in some case: {measured.alarmed} of {measured.honest} ({measured.alarmed / measured.honest:.2%})"
    )
    for policy, members in measured.alarms.items():
        print(f"    {policy}: {len(members)}")
    share = measured.honest_held / measured.honest_events
    print(f"honest events held: {measured.honest_held} of {measured.honest_events:,} ({share:.2%})")
    print(f"refused: {dict(measured.refused)}")
    if given.out:
        given.out.write_text(json.dumps({"seed": given.seed, "patterns": measured.patterns, "found": measured.found}))


if __name__ == "__main__":
    main()
