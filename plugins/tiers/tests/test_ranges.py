"""The database passes over whoever stays: nobody who moves is ever among them."""

from __future__ import annotations

import random
from datetime import date, timedelta
from functools import partial

import msgspec
import pytest
import sqlalchemy as sa

from tallystick import database, migrate, tables
from tallystick.ledger import instant
from tallystick_tiers.standing import written
from tallystick_tiers.store import Range, list_ranges, list_unsettled

from .conftest import ADA, Walk

#: Gold is kept below where it is reached; nobody climbs to plated, who is given it.
TIERS = """
tiers = [{ name = "base" }, { name = "silver", at = 20 }, { name = "gold", at = 30, keep = 25 }, { name = "plated", sku = "P", membership = "P30D" }]
"""
LADDERS = [
    "", 'downgrade = "at_once"', 'downgrade = "never"', 'window = "year"', 'window = "quarter"\nsoft_landing = true',
    'window = "anniversary"', 'window = "review"\nreview = "P45D"', 'window = "P60D"', 'window = "P60D"\ndowngrade = "at_once"',
    'window = "month"\nupgrade = "at_review"', 'window = "quarter"\ngrace_days = 20', 'window = "quarter"\nvalid = "period"',
    'window = "quarter"\ndowngrade = "at_once"',
]  # fmt: skip
START = date(2025, 1, 1)
MEMBERS = 60


def lives(ladder: str, chance: random.Random) -> list[Walk]:
    """Members who spent, returned, were given a tier, and were last heard of on different days."""
    found = []
    for _ in range(MEMBERS):
        walk, day = Walk(ladder), START
        for _ in range(chance.randrange(6)):
            day += timedelta(days=chance.randrange(40))
            walk.on(day)
            what = chance.randrange(12)
            if what < 9:
                walk.spends(chance.randrange(1, 25))
            elif what < 10:
                walk.returns(min(5, walk.counted()["spend"]))
            elif what < 11:
                walk.gets("gold", until=(day + timedelta(days=30)).isoformat())
            else:
                walk.joins("plated")
        found.append(walk)
    return found


@pytest.mark.parametrize("ladder", LADDERS)
def test_nobody_who_moves_is_passed_over(database_url: str, ladder: str) -> None:
    chance = random.Random(ladder)
    walks = lives(ladder + "\n" + TIERS, chance)
    course = walks[0].course
    db = database.connect(database_url)
    migrate.upgrade(db, [migrate.CORE])
    with db.begin() as conn:
        counter, window = course.counters["spend"]
        for number, walk in enumerate(walks, 1):
            row = {"tenant": "shop", "number": number, "status": "active", "enrolled_at": instant(ADA.enrolled_at)}
            conn.execute(sa.insert(tables.member).values(**row))
            value = written_as_stored(walk)
            conn.execute(sa.insert(tables.own).values(tenant="shop", plugin="tiers", key=f"m:{number}", name="club", member=number, value=value))  # fmt: skip
            for day, amount in walk.days.items():
                grain, start = ("lifetime", 0) if window == "lifetime" else ("day", (day - date(1970, 1, 1)).days)
                add = f"INSERT INTO counter VALUES ('shop', {number}, '{counter}', '{grain}', {start}, {amount}) ON CONFLICT (tenant, member, name, grain, start) DO UPDATE SET value = counter.value + excluded.value"
                conn.execute(sa.text(add))
    asked = settled = 0
    days = [START + timedelta(days=n) for n in (0, 45, 90, 151, 181, 212, 365, 366, 500)]
    for day in [*days, *[walk.standing.review for walk in walks[:8] if walk.standing.review is not None]]:
        found = {
            place.member.number: place
            for within in list_ranges(partial(database.reading, db), "shop", size=50)
            for places in list_unsettled(partial(database.reading, db), "shop", course, day, within)
            for place in places
        }
        for number, walk in enumerate(walks, 1):
            if walk.day > day:
                continue  # reviews look ahead
            walk.day, last = day, walk.day
            _, changes = course.as_of(walk.standing, day, walk.counted(), walk.member)
            asked += 1
            if number not in found:
                settled += 1
                assert changes == [], (day, walk.standing, walk.counted())
            else:
                assert found[number].standing == walk.standing
                assert found[number].counted == walk.counted()
            walk.day = last
    assert settled > asked // 10, "it is worth asking"
    db.dispose()


def test_ranges_meet_and_leave_nobody_out(database_url: str) -> None:
    db = database.connect(database_url)
    migrate.upgrade(db, [migrate.CORE])
    with db.begin() as conn:
        for number in range(1, 26):
            for name in ("club", "fresh"):
                conn.execute(sa.insert(tables.own).values(tenant="shop", plugin="tiers", key=f"m:{number}", name=name, member=number, value="{}"))  # fmt: skip
    ranges = list(list_ranges(partial(database.reading, db), "shop", size=7))
    assert (ranges[0].after, ranges[-1].last) == ("", None)
    assert [one.last for one in ranges[:-1]] == [other.after for other in ranges[1:]]
    assert list(list_ranges(partial(database.reading, db), "shop", after=ranges[2].after, size=7)) == ranges[2:]
    assert len(ranges) == 7
    assert list(list_ranges(partial(database.reading, db), "elsewhere")) == [Range("", None)]
    db.dispose()


def written_as_stored(walk: Walk) -> str:
    return msgspec.json.encode(written(walk.standing)).decode()
