"""Members play: each story runs through a whole house, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from tallystick.commands import visit
from tallystick.testing import Stage, play
from tallystick_gamification import api

Opened = Callable[[str], Stage]

CALENDAR = """
[plugins.gamification.check_in]
days = [
    { rewards = [{ unit = "points", amount = 5 }] },
    { rewards = [{ unit = "points", amount = 10 }] },
    { rewards = [{ unit = "points", amount = 20 }, { unit = "freezes", amount = 1 }] },
]
freeze_unit = "freezes"
"""


def rows_of(stage: Stage, member: str) -> api.Errand:
    return visit(stage.house, "shop", "gamification", "test")


def test_a_second_check_in_on_a_day_is_refused_a_gap_begins_anew_and_so_does_the_calendar(opened: Opened) -> None:
    stage = opened(CALENDAR)
    play(
        """
        2025-01-02 12:00  ada does gamification.checked_in   earns 5 points
        2025-01-02 23:00  ada does gamification.checked_in   refused gamification_already_checked_in
        2025-01-03 23:00  ada does gamification.checked_in   earns 10 points
        2025-01-05 12:00  ada does gamification.checked_in   earns 5 points       # the 4th was missed
        2025-01-06 12:00  ada does gamification.checked_in   earns 10 points
        2025-01-07 12:00  ada does gamification.checked_in   earns 20 points, 1 freezes
        2025-01-08 12:00  ada does gamification.checked_in   earns 5 points       # the calendar starts anew
        2025-01-10 12:00  ada does gamification.checked_in   earns 10 points, -1 freezes
        2025-01-12 12:00  ada does gamification.checked_in   earns 5 points       # no token is left
        """,
        stage=stage,
    )
    found = visit(stage.house, "shop", "gamification", "test")
    streak = api.streak_of(found, stage.number("ada"))
    assert (streak.length, streak.best, streak.total) == (1, 5, 8)


def test_a_night_of_another_length_is_one_day(opened: Opened) -> None:
    """In New York clocks went forward on 9 March 2025 and back on 2 November."""
    play(
        """
        2025-03-08 15:00  ada does gamification.checked_in   earns 5 points
        2025-03-09 04:30  ada does gamification.checked_in   refused gamification_already_checked_in
        2025-03-09 05:30  ada does gamification.checked_in   earns 10 points
        2025-03-10 03:30  ada does gamification.checked_in   refused gamification_already_checked_in
        2025-03-10 04:30  ada does gamification.checked_in   earns 20 points, 1 freezes
        2025-11-01 12:00  bob does gamification.checked_in   earns 5 points
        2025-11-02 04:30  bob does gamification.checked_in   earns 10 points
        2025-11-03 04:30  bob does gamification.checked_in   refused gamification_already_checked_in
        2025-11-03 05:30  bob does gamification.checked_in   earns 20 points, 1 freezes
        """,
        stage=opened(CALENDAR),
    )


# --- tasks ---------------------------------------------------------------------------------------------------------


def task(refund: str = "progress", **more: str) -> str:
    lines = "\n".join(f"{key} = {value}" for key, value in more.items())
    return f'[[plugins.gamification.tasks]]\nname = "t"\nrefund = "{refund}"\nrewards = [{{ unit = "points", amount = 100 }}]\n{lines}\n'


@pytest.mark.parametrize("refund, loses, again", [("keep", 10, 10), ("progress", 10, 10), ("reward", 110, 110)])
def test_a_return_takes_back_what_the_task_says(opened: Opened, refund: str, loses: int, again: int) -> None:
    stage = opened(task(refund, goal="2"))
    play(
        f"""
        2025-01-02  ada buys 10.00 as A   earns 10 points
        2025-01-02  ada buys 10.00 as B   earns 110 points
        2025-01-03  ada returns B         loses {loses} points
        2025-01-04  ada buys 10.00 as C   earns {again} points
        2025-01-05  ada buys 10.00 as D   earns 10 points
        """,
        stage=stage,
    )
    (view,) = api.tasks_of(visit(stage.house, "shop", "gamification", "t"), stage.number("ada"))
    assert (view.progress, view.level) == (4 if refund == "keep" else 3, 1)


def test_a_sum_goes_back_by_the_share_that_came_back(opened: Opened) -> None:
    stage = opened(task("reward", measure='"sum"', goal="10000"))
    play(
        """
        2025-01-02  ada buys 60.00 as A     earns 60 points
        2025-01-02  ada buys 40.00 as B     earns 140 points
        2025-01-03  ada returns 10.00 of A  loses 110 points
        2025-01-04  ada buys 5.00 as C      earns 5 points
        2025-01-05  ada buys 5.00 as D      earns 105 points
        2025-01-05  ada returns A           loses 150 points
        """,
        stage=stage,
    )


def test_what_comes_late_counts_for_its_own_month(opened: Opened) -> None:
    stage = opened(task(goal="2", repeat='"month"'))
    play(
        "2025-01-30  ada buys 1.00 as A   earns 1 points\n2025-02-01  ada buys 1.00 as B   earns 1 points", stage=stage
    )
    stage.send(
        "purchase.completed", {"order": "L", "currency": "USD", "lines": [{"sku": "s", "amount": 100}]}, member="ada",
        at=datetime(2025, 1, 31, 12, tzinfo=UTC),
    )  # fmt: skip
    assert stage.usable("ada") == 103
    play(
        "2025-02-02  ada buys 1.00 as C   earns 101 points\n2025-02-03  ada buys 1.00 as D   earns 1 points",
        stage=stage,
    )


@pytest.mark.parametrize("repeat, earned", [("never", [0, 100, 0, 0]), ("completion", [0, 100, 0, 100])])
def test_a_task_begins_anew_on_completion_where_it_says_so(opened: Opened, repeat: str, earned: list[int]) -> None:
    stage = opened(task(goal="2", repeat=f'"{repeat}"'))
    for place, points in enumerate(earned):
        play(f"2025-01-0{place + 2}  ada buys 1.00 as R{place}   earns {points + 1} points", stage=stage)


def test_levels_rules_audience_and_windows_of_a_task(opened: Opened) -> None:
    stage = opened(
        task(
            goal='"2 * level"', levels="3", when='"purchase.total >= 1000"', audience='"!member.tags.exists(t, t == \\"staff\\")"',
            **{"from": "2025-01-03", "until": "2025-01-05"},
        )
    )  # fmt: skip
    stage.enrol("eve", tags=["staff"])
    play(
        """
        2025-01-02  ada buys 10.00   earns 10 points
        2025-01-03  ada buys 10.00   earns 10 points
        2025-01-03  ada buys 9.99    earns 9 points
        2025-01-03  ada buys 10.00   earns 110 points
        2025-01-04  ada buys 10.00   earns 10 points
        2025-01-05  ada buys 10.00   earns 110 points
        2025-01-06  ada buys 10.00   earns 10 points
        2025-01-04  eve buys 10.00   earns 10 points
        2025-01-04  eve buys 10.00   earns 10 points
        """,
        stage=stage,
    )


def test_a_budget_ends_what_a_task_gives(opened: Opened) -> None:
    settings = task(goal="1").replace("amount = 100", "amount = 100, budget = 150")
    play(
        """
        2025-01-02  ada buys 1.00   earns 101 points
        2025-01-02  bob buys 1.00   earns 51 points
        2025-01-02  eve buys 1.00   earns 1 points
        """,
        stage=opened(settings),
    )


QUEST = """
[plugins.gamification.badges.explorer]
[[plugins.gamification.tasks]]
name = "arrive"
on = "gamification.checked_in"
goal = 2
[[plugins.gamification.tasks]]
name = "shops"
measure = "distinct"
value = "purchase.store"
goal = 2
rewards = [{ unit = "tickets", amount = 1 }]
[[plugins.gamification.quests]]
name = "tour"
steps = ["arrive", "shops"]
rewards = [{ unit = "points", amount = 500 }, { badge = "explorer" }, { coupon = "TEA" }]
"""


def test_a_quest_is_done_when_its_steps_were_done_one_after_the_other(opened: Opened) -> None:
    stage = opened(CALENDAR + QUEST)
    shop = '{"store": "%s", "lines": [{"sku": "s", "amount": 50}]}'
    play(
        f"""
        2025-01-02  ada does gamification.checked_in   earns 5 points
        2025-01-02  ada buys {shop % "north"}          earns nothing
        2025-01-03  ada does gamification.checked_in   earns 10 points
        2025-01-03  ada buys {shop % "south"}          earns nothing
        2025-01-03  ada buys {shop % "south"}          earns nothing
        2025-01-04  ada buys {shop % "north"}          earns 500 points, 1 tickets
        """,
        stage=stage,
    )
    told = [record for record in stage.records("ada") if record.kind == "gamification.rewarded"]
    assert len(told) == 2
    errand = visit(stage.house, "shop", "gamification", "t")
    assert api.badges_of(errand, stage.number("ada")) == {"explorer": 1}
    assert [(view.task, view.level) for view in api.tasks_of(errand, stage.number("ada"))] == [
        ("arrive", 1),
        ("shops", 1),
        ("tour", 1),
    ]


# --- answers -------------------------------------------------------------------------------------------------------

FORMS = """
[[plugins.gamification.forms]]
name = "tea"
kind = "quiz"
questions = { origin = ["fujian", "assam"], colour = ["green", "black"] }
solution = { origin = "fujian", colour = "green" }
passing = 1
rewards = [{ unit = "points", amount = 30 }]
[[plugins.gamification.forms]]
name = "favourite"
kind = "vote"
questions = { tea = ["oolong", "sencha"] }
rewards = [{ unit = "points", amount = 3 }]
[[plugins.gamification.forms]]
name = "visit"
kind = "survey"
questions = { why = [] }
until = 2025-01-31
rewards = [{ unit = "points", amount = 7 }]
"""


def test_answers_fit_the_questions_are_given_once_and_pay(opened: Opened) -> None:
    stage = opened(FORMS)
    play(
        """
        2025-01-02  ada does gamification.quizzed {"form": "tea", "answers": {"origin": "fujian"}}    refused gamification_bad_answer
        2025-01-02  ada does gamification.quizzed {"form": "tea", "answers": {"origin": "mars", "colour": "green"}}  refused gamification_bad_answer
        2025-01-02  ada does gamification.quizzed {"form": "tea", "answers": {"origin": "fujian", "colour": "black"}}  earns 30 points
        2025-01-03  ada does gamification.quizzed {"form": "tea", "answers": {"origin": "fujian", "colour": "green"}}  refused gamification_already_answered
        2025-01-02  bob does gamification.quizzed {"form": "tea", "answers": {"origin": "assam", "colour": "black"}}   earns nothing
        2025-01-02  ada does gamification.voted {"form": "favourite", "answers": {"tea": "oolong"}}   earns 3 points
        2025-01-02  bob does gamification.voted {"form": "favourite", "answers": {"tea": "oolong"}}   earns 3 points
        2025-01-02  ada does gamification.surveyed {"form": "favourite", "answers": {"tea": "oolong"}}   refused gamification_not_offered
        2025-01-31  ada does gamification.surveyed {"form": "visit", "answers": {"why": "tea"}}   earns 7 points
        2025-02-02  bob does gamification.surveyed {"form": "visit", "answers": {"why": "tea"}}   refused gamification_not_offered
        """,
        stage=stage,
    )
    assert stage.rows("SELECT name, value FROM counter WHERE name LIKE 'gamification.vote.%'") == [
        ("gamification.vote.favourite/tea/oolong", 2)
    ]


# --- invitations ---------------------------------------------------------------------------------------------------

REFERRAL = """
[plugins.gamification.referral]
days = 14
limit = 2
when = "purchase.total >= 2000"
inviter = [{ unit = "points", amount = 300 }]
friend = [{ unit = "points", amount = 100 }]
"""


def test_both_sides_are_paid_once_the_friends_purchase_has_stood(opened: Opened) -> None:
    stage = opened(REFERRAL)
    stage.enrol("ada")
    play(
        """
        2025-01-02  bob does member.enrolled {"invited_by": "ada"}
        2025-01-02  eve does member.enrolled {"invited_by": "eve"}    refused gamification_self_referral
        2025-01-03  bob buys 19.99 as A   earns 19 points
        2025-01-04  bob buys 20.00 as B   earns 20 points
        2025-01-05  bob returns 1.00 of B  loses 1 points
        2025-01-06  bob buys 30.00 as C   earns 30 points
        2025-01-07  bob buys 30.00 as D   earns 30 points
        """,
        stage=stage,
    )

    def days_later(day: int) -> tuple[int, int]:
        stage.at(datetime(2025, 1, day, 12, tzinfo=UTC))
        stage.house.run_jobs(force=True, only="gamification.referrals")
        return stage.usable("ada"), stage.usable("bob")

    assert days_later(18) == (0, 98)
    assert days_later(19) == (0, 98)
    assert days_later(20) == (300, 198)
    assert days_later(21) == (300, 198)
    play("2025-01-22  bob returns C   loses 30 points", stage=stage)
    assert days_later(23) == (300, 168)


def test_an_invitation_pays_nobody_by_hand_and_no_inviter_without_end(opened: Opened) -> None:
    stage = opened(REFERRAL.replace("limit = 2", "limit = 1"))
    stage.enrol("ada")
    play(
        """
        2025-01-02  bob does member.enrolled {"invited_by": "ada"}
        2025-01-02  eve does member.enrolled {"invited_by": "ada"}
        2025-01-02  bob buys 20.00   earns 20 points
        2025-01-02  eve buys 20.00   earns 20 points
        2025-01-03  bob does gamification.referred {"inviter": "ada"}   refused gamification_referral_not_due
        """,
        stage=stage,
    )
    stage.at(datetime(2025, 2, 1, 12, tzinfo=UTC))
    stage.house.run_jobs(force=True, only="gamification.referrals")
    assert [stage.usable(name) for name in ("ada", "bob", "eve")] == [300, 120, 120]


# --- leaderboards --------------------------------------------------------------------------------------------------

BOARDS = """
[[plugins.gamification.leaderboards]]
name = "spend"
value = "purchase.total"
scope = "purchase.store"
[[plugins.gamification.leaderboards]]
name = "visits"
window = "lifetime"
"""


def test_lists_are_kept_per_scope_and_window_with_ties_and_without_those_who_hide(opened: Opened) -> None:
    stage = opened(BOARDS)
    shop = '{"store": "%s", "lines": [{"sku": "s", "amount": %d}]}'
    play(
        f"""
        2025-01-02  ada buys {shop % ("north", 500)} as A
        2025-01-02  bob buys {shop % ("north", 500)} as B
        2025-01-02  eve buys {shop % ("north", 300)} as C
        2025-01-02  joe buys {shop % ("north", 900)} as D
        2025-01-03  ada buys {shop % ("south", 700)} as E
        2025-02-01  eve buys {shop % ("north", 400)} as F
        2025-02-02  eve returns 1.00 of C
        2025-02-02  ada does gamification.shown {{"name": "Blue Teapot"}}
        2025-02-02  joe does gamification.shown {{"hidden": true}}
        """,
        stage=stage,
    )
    stage.house.run_jobs()
    errand = visit(stage.house, "shop", "gamification", "t")

    def scores(board: str, scope: str = "", month: int = 1) -> list[tuple[int, int]]:
        on = datetime(2025, month, 10, tzinfo=UTC).date()
        return [(view.rank, view.score) for view in api.top(errand, board, scope=scope, on=on)]

    assert scores("spend", "north") == [(1, 500), (1, 500), (3, 200)]
    assert scores("spend", "south") == [(1, 700)]
    assert scores("spend", "north", 2) == [(1, 400)]
    assert scores("visits") == [(1, 2), (1, 2), (3, 1)]
    names = {view.name for view in api.top(errand, "spend", scope="south", on=datetime(2025, 1, 10, tzinfo=UTC).date())}
    assert names == {"Blue Teapot"}
    on = datetime(2025, 1, 10, tzinfo=UTC).date()
    assert (
        found := api.place(errand, "spend", stage.number("joe"), scope="north", on=on)
    ) is not None and found.rank == 1
    stage.house.run_jobs()
    assert scores("spend", "north") == [(1, 500), (1, 500), (3, 200)]


def test_ones_own_place_is_the_number_of_those_ahead_however_scores_move(opened: Opened) -> None:
    """Places are counted by spans of scores: what they say is what counting everybody says."""
    stage, draw = opened(BOARDS), Random(7)
    names = [f"m{n}" for n in range(24)]
    stage.enrol(*names)
    orders: list[tuple[str, str]] = []
    errand = visit(stage.house, "shop", "gamification", "t")
    for turn in range(5):
        for n, name in enumerate(names):
            cents = draw.choice([1, 2, 127, 128, 129, 130, 5_000, 5_010, 99_999])
            order = f"R{turn}-{n}"
            lines = [{"sku": "s", "amount": cents}]
            data = {"order": order, "currency": "USD", "store": "north", "lines": lines}
            stage.send("purchase.completed", data, member=name)
            orders.append((name, order))
        for name, order in draw.sample(orders, 5):  # some come back whole: scores fall, to nothing as well
            orders.remove((name, order))
            stage.send("purchase.refunded", {"order": order}, member=name)
        if turn == 4:  # behind the last turn's own orders
            stage.house.run_jobs()
            stage.house.erase("shop", stage.number(names[0]))
        hidden = {stage.number(name) for name in names[1:4]} if turn else set[int]()
        for name in names[1:4] if turn == 1 else ():
            stage.send("gamification.shown", {"hidden": True}, member=name)
        stage.house.run_jobs()
        rows = stage.rows("SELECT member, score FROM gamification_score WHERE board = 'spend' AND score > 0")
        for member, mine in rows:
            ahead = sum(score > mine for other, score in rows if other not in hidden or other == member)
            found = api.place(errand, "spend", member, scope="north")
            assert found is not None and (found.rank, found.score) == (ahead + 1, mine)
        (counted,) = stage.rows("SELECT sum(members) FROM gamification_span WHERE board = 'spend'")
        assert int(counted[0]) == len(rows)


def test_a_late_purchase_counts_in_the_month_in_which_it_happened(opened: Opened) -> None:
    stage = opened(BOARDS)
    play('2025-02-02  ada buys {"store": "north", "lines": [{"sku": "s", "amount": 100}]} as A', stage=stage)
    late = {"order": "L", "currency": "USD", "store": "north", "lines": [{"sku": "s", "amount": 700}]}
    stage.send("purchase.completed", late, member="ada", at=stage.now - timedelta(days=3))
    stage.house.run_jobs()
    errand = visit(stage.house, "shop", "gamification", "t")
    january, february = (datetime(2025, month, 10, tzinfo=UTC).date() for month in (1, 2))
    assert [view.score for view in api.top(errand, "spend", scope="north", on=january)] == [700]
    assert [view.score for view in api.top(errand, "spend", scope="north", on=february)] == [100]
