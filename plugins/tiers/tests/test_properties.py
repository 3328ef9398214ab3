"""A review of everybody finds what each member's own events would find, whoever looks first and however often."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.house import Errand
from tallystick.jobs import Turn
from tallystick.testing import Stage, make_stage
from tallystick_tiers.review import list_moves
from tallystick_tiers.standing import read_standing, written

from .conftest import ZONE, Shop, Walk

START = date(2025, 1, 1)
TIERS = 'tiers = [{ name = "base" }, { name = "silver", at = 20, bonus = 1 }, { name = "gold", at = 30, keep = 25 }]'
LADDERS = st.builds(
    lambda *parts: "\n".join(part for part in parts if part),
    st.sampled_from([
        'window = "year"', 'window = "quarter"', 'window = "anniversary"', 'window = "review"\nreview = "P45D"', 'window = "P60D"',
        'window = "P60D"\ndowngrade = "at_once"', "", 'downgrade = "at_once"', 'window = "month"\nupgrade = "at_review"',
        'window = "quarter"\ngrace_days = 20', 'window = "quarter"\nvalid = "period"', 'window = "quarter"\ndowngrade = "never"',
    ]),
    st.sampled_from(["", "soft_landing = true"]),
    st.sampled_from(["", 'returns = "policy"']),
    st.just(TIERS),
)  # fmt: skip
#: (days since the last, what is spent or, below 0, returned)
STEPS = st.lists(st.tuples(st.integers(0, 50), st.integers(-30, 40).filter(bool)), max_size=12)


@given(ladder=LADDERS, steps=STEPS, looks=st.lists(st.integers(0, 600), max_size=6), end=st.integers(0, 400))
@settings(max_examples=400, deadline=None)
def test_reviews_in_between_change_nothing_where_the_calendar_decides(
    ladder: str, steps: list[tuple[int, int]], looks: list[int], end: int
) -> None:
    """Whoever is reviewed on some days stands in the end where one stands who was never looked at.

    Of windows that look back over days this holds on the days of reviews alone, which the nightly job keeps.
    """
    if "P60D" in ladder:
        looks = []
    often, never = Walk(ladder), Walk(ladder)
    day, waiting = START, sorted(looks)
    for wait, amount in steps:
        day += timedelta(days=wait)
        while waiting and START + timedelta(days=waiting[0]) <= day:
            often.reviewed(START + timedelta(days=waiting.pop(0)))
        for walk in (often, never):
            walk.on(day)
            if amount > 0:
                walk.spends(amount)
            else:
                walk.returns(min(-amount, walk.counted()["spend"]))
    last = day + timedelta(days=end)
    assert often.reviewed(last).standing == never.reviewed(last).standing
    assert often.changes == never.changes


def test_a_look_is_no_loss_with_a_soft_landing() -> None:
    walk = Walk('downgrade = "at_once"\nsoft_landing = true\n' + TIERS).spends(40).returns(39)
    assert walk.tier == "silver"
    assert walk.reviewed(START + timedelta(days=1)).reviewed(START + timedelta(days=2)).tier == "silver"
    assert walk.on(START + timedelta(days=3)).spends(1).tier == "silver"
    assert walk.returns(1).tier == "base"


@given(ladder=LADDERS, steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_a_tier_is_never_held_without_reason(ladder: str, steps: list[tuple[int, int]]) -> None:
    """Each change begins where the one before ended, and only a climb pays."""
    walk = Walk(ladder)
    for wait, amount in steps:
        walk.on(walk.day + timedelta(days=wait)).spends(max(0, amount))
    tiers = ["base", *[change.tier for change in walk.changes]]
    assert [change.was for change in walk.changes] == tiers[:-1] and tiers[-1] == walk.tier
    assert all(walk.course.rank(change.tier) > walk.course.rank(change.was) for change in walk.changes if change.bonus)


HOUSE = """
[[plugins.tiers.ladders]]
name = "club"
window = "quarter"
soft_landing = true
grace_days = 10
tiers = [{ name = "base" }, { name = "silver", at = 2000 }, { name = "gold", at = 3000, keep = 2500 }]
[[plugins.tiers.ladders]]
name = "fresh"
window = "P30D"
downgrade = "at_once"
tiers = [{ name = "base" }, { name = "silver", at = 2000 }, { name = "gold", at = 3000 }]
"""
MEMBERS = ("ada", "bob", "cleo")
EVENTS = st.lists(
    st.tuples(st.sampled_from(MEMBERS), st.integers(0, 40), st.integers(-2, 40).filter(bool)), min_size=1, max_size=10
)


@contextmanager
def a_shop(folder: Path) -> Iterator[Shop]:
    folder.mkdir()
    with make_stage(HOUSE, f"sqlite:///{folder / 'books.db'}", folder) as stage:
        yield Shop(stage)


def errand(stage: Stage) -> Any:
    """What the house hands to a job of tiers."""
    job = next(job for job in stage.house.jobs() if job.name == "tiers.review")
    generation = stage.house.registry.latest(stage.tenant)
    part = next(part for part in generation.pipeline.parts if part.id == "tiers")
    return Errand(stage.house, Turn(job, stage.now, "", lambda _: None), part.plugin, generation)


@given(events=EVENTS, later=st.integers(1, 200))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_review_of_everybody_equals_the_review_event_by_event(
    events: list[tuple[str, int, int]], later: int
) -> None:
    """One shop is reviewed in one reading of the database; in the other each member is sent an own event."""
    with (
        tempfile.TemporaryDirectory() as folder,
        a_shop(Path(folder, "one")) as at_once,
        a_shop(Path(folder, "two")) as one_by_one,
    ):
        day = START
        orders: dict[str, list[str]] = {}
        for n, (member, wait, amount) in enumerate(events):
            day += timedelta(days=wait)
            bought = orders.setdefault(member, [])
            for shop in (at_once, one_by_one):
                shop.on(day.isoformat())
                if amount > 0:
                    lines = [{"sku": "a", "amount": amount * 100}]
                    shop.says("purchase.completed", member, order=f"O-{n}", currency="USD", lines=lines)
                elif bought:
                    shop.says("purchase.refunded", member, order=bought[amount % len(bought)])
            if amount > 0:
                bought.append(f"O-{n}")
        day += timedelta(days=later)
        midnight = datetime.combine(day, time(0), ZONE)
        before = {
            member: [at_once.tier(member, name) for name in ("club", "fresh")] for member in orders if orders[member]
        }
        at_once.stage.at(midnight)
        moves = list(list_moves(errand(at_once.stage), day))
        at_once.on(day.isoformat()).runs("tiers.review")
        assert list(list_moves(errand(at_once.stage), day)) == []
        for member in before:
            one_by_one.on(day.isoformat())
            one_by_one.says("tiers.reviewed", member, day=day.isoformat())
        for member, tiers in before.items():
            for n, ladder in enumerate(("club", "fresh")):
                mine = [
                    move.change
                    for move in moves
                    if move.member == at_once.stage.number(member) and move.ladder == ladder
                ]
                held = one_by_one.tier(member, ladder)
                assert at_once.tier(member, ladder) == held == (mine[-1].tier if mine else tiers[n])
        for shop in (at_once, one_by_one):
            shop.nothing_was_skipped()


def test_a_standing_survives_being_written() -> None:
    walk = Walk('window = "year"\ntiers = [{ name = "base" }, { name = "gold", at = 30 }]').spends(30).gets("gold")
    assert read_standing(written(walk.standing)) == walk.standing


def test_whoever_stays_is_not_written_down(tmp_path: Path) -> None:
    settings_ = HOUSE.replace('downgrade = "at_once"', 'downgrade = "never"')
    with make_stage(settings_, f"sqlite:///{tmp_path / 'books.db'}", tmp_path) as stage:
        shop = Shop(stage)
        shop.play("2025-01-02  ada buys 20.00")
        entries = len(stage.records())
        shop.on("2025-04-01").runs("tiers.review")
        assert len(stage.records()) == entries
