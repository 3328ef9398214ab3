"""What happens in a shop that is watched: each story runs through a whole house, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tallystick import switchboard
from tallystick.errors import Denied, NotFound
from tallystick.ledger import member_name
from tallystick_risk import clerk, docket
from tallystick_risk.errors import CaseDecided, NoChallenge, SamePerson, UnknownCapability, UnknownCase
from tallystick_risk.hooks import Risk

from .conftest import STORES, Shop

Opened = Callable[..., Shop]


# --- policies ------------------------------------------------------------------------------------------------------------


def test_the_fifth_redemption_within_an_hour_waits_and_the_case_says_why(shop: Shop) -> None:
    shop.joins("ada")
    shop.buys("ada", 200)
    for _ in range(4):
        assert shop.spends("ada").status == "recorded"
        shop.goes_by(minutes=3)
    held = shop.spends("ada")
    assert (held.status, shop.stage.usable("ada")) == ("held", 1500)
    (reason,) = held.reasons
    assert reason["rule"] == "risk.points_burst"
    assert reason["reason"] == "Many redemptions within an hour. redemptions_hour 5 (limits: redemptions_hour 5)"
    assert "nothing is lost" in reason["gentle"]
    shop.works()
    (case,) = shop.cases()
    assert (case.policy, case.subject, case.status) == ("points_burst", member_name(shop.stage.number("ada")), "open")
    shop.goes_by(hours=2)
    assert shop.spends("ada").status == "recorded"


@pytest.mark.parametrize("decision, usable", [("release", 900), ("void", 1000), ("restrict", 1000), ("restore", 900)])
def test_a_decision_lets_the_held_redemption_happen_or_gives_the_points_back(
    opened: Opened, decision: str, usable: int
) -> None:
    shop = opened("[plugins.risk.limits]\nredemptions_hour = 1\n")
    shop.joins("ada")
    shop.buys("ada")
    held = shop.spends("ada")
    shop.works()
    (case,) = shop.cases()
    docket.assign(shop.visit, case.number, "eve")
    docket.write_note(shop.visit, case.number, "eve", "called the member")
    docket.decide(shop.visit, case.number, decision, "eve", why="talked to her")  # type: ignore[arg-type]
    assert shop.stage.usable("ada") == usable
    shop.works()
    with shop.stage.house.db.connect() as conn:
        told = docket.told(conn, docket.find_case(conn, "shop", case.number))
    assert (told["status"], told["decision"], told["decided_by"], told["assigned"]) == ("decided", decision, "eve", "eve")  # fmt: skip
    assert [note["text"] for note in told["notes"]] == ["called the member", "talked to her"]
    assert [(one["entry"], one["status"]) for one in told["entries"]] == [
        (held.entry, "released" if decision in ("release", "restore") else "voided")
    ]
    with pytest.raises(CaseDecided):
        docket.decide(shop.visit, case.number, "void", "eve")


def test_thresholds_are_the_tenants_own(opened: Opened) -> None:
    shop = opened("[plugins.risk.limits]\nredemptions_hour = 2\n")
    shop.joins("ada")
    shop.buys("ada")
    assert [shop.spends("ada").status for _ in range(3)] == ["recorded", "held", "held"]


def test_a_new_account_that_spends_at_once_is_held_and_an_old_one_is_not(shop: Shop) -> None:
    shop.joins("new", days=0.1)
    shop.joins("old")
    for name in ("new", "old"):
        shop.buys(name)
    assert shop.spends("new", 300).reasons[0]["rule"] == "risk.fresh_spender"
    assert shop.spends("old", 300).status == "recorded"
    assert shop.spends("old", 100).status == "recorded"


def test_an_account_that_awakes_on_a_new_device_must_pass_a_challenge(shop: Shop) -> None:
    shop.joins("ada", "bob", "cleo")
    for name in ("ada", "bob", "cleo"):
        shop.seen(name, "login", device=f"phone-{name}")
        shop.buys(name)
    shop.goes_by(days=60)
    shop.seen("ada", "login", device="stolen")
    shop.goes_by(minutes=5)
    asked = shop.spends("ada", device="stolen")
    assert (asked.status, asked.reasons[0]["rule"]) == ("step_up", "risk.sleeper")
    assert "confirm that it is you" in asked.reasons[0]["gentle"]
    assert shop.spends("bob", device="phone-bob").status == "recorded", "awake again on the telephone we know"
    assert shop.spends("cleo").status == "recorded", "at the till with the card"
    shop.works()
    docket.pass_challenge(shop.visit, asked.entry, "pin", "till-1")
    assert shop.stage.usable("ada") == 900
    with pytest.raises(NoChallenge):
        docket.pass_challenge(shop.visit, asked.entry, "pin", "till-1")


def test_a_challenge_that_is_not_passed_in_time_has_failed(shop: Shop) -> None:
    shop.joins("ada")
    shop.seen("ada", "login", device="phone")
    shop.buys("ada")
    shop.goes_by(days=60)
    asked = shop.spends("ada", device="other")
    shop.works()
    shop.goes_by(minutes=16)
    with pytest.raises(NoChallenge):
        docket.pass_challenge(shop.visit, asked.entry, "pin", "till-1")
    shop.works()
    assert shop.stage.usable("ada") == 1000
    assert shop.stage.records()[-1].kind == "entry.voided"


def test_a_purchase_split_into_receipts_is_held_and_ends_released_if_nobody_looks(shop: Shop) -> None:
    shop.joins("ada")
    found = []
    for _ in range(4):
        found.append(shop.buys("ada", 10, store="north").status)
        shop.goes_by(minutes=2)
    assert found == ["recorded", "recorded", "recorded", "held"]
    assert shop.buys("ada", 10, store="capital").status == "recorded", "another store is another purchase"
    assert shop.stage.usable("ada") == 400
    shop.works()
    shop.goes_by(hours=71)
    shop.works()
    assert shop.stage.usable("ada") == 400
    shop.goes_by(hours=1)
    shop.works()
    assert shop.stage.usable("ada") == 500
    shop.works()
    assert [record.kind for record in shop.stage.records()].count("entry.released") == 1


@pytest.mark.parametrize("minutes, status", [(30, "held"), (60 * 5, "recorded")])
def test_a_card_cannot_be_in_two_cities_within_half_an_hour(opened: Opened, minutes: int, status: str) -> None:
    shop = opened(STORES)
    shop.joins("ada")
    shop.buys("ada", 10, store="north")
    shop.goes_by(minutes=minutes)
    assert shop.buys("ada", 10, store="capital").status == status


def test_a_sale_far_above_what_the_member_buys_is_held_once_enough_is_known(shop: Shop) -> None:
    shop.joins("ada")
    for place in range(6):
        shop.buys("ada", 20 + place)
        shop.goes_by(days=3)
    assert shop.buys("ada", 60).status == "recorded"
    shop.goes_by(days=3)
    big = shop.buys("ada", 500)
    assert (big.status, big.reasons[0]["rule"]) == ("held", "risk.padded_sale")
    shop.joins("bob")
    assert shop.buys("bob", 500).status == "recorded", "nothing is known of bob yet"


def test_a_large_adjustment_waits_for_a_second_person(shop: Shop) -> None:
    shop.joins("ada")
    kind = "points.adjusted"
    small = shop.stage.send(kind, {"points": 4_999, "reason": "r", "by": "max"}, member="ada")
    approved = shop.stage.send(
        kind, {"points": 9_000, "reason": "r", "by": "max", "approved_by": "eve"}, member="ada"
    )  # fmt: skip
    held = shop.stage.send(kind, {"points": 6_000, "reason": "r", "by": "max"}, member="ada")
    assert [small.status, approved.status, held.status] == ["recorded", "recorded", "held"]
    shop.works()
    (case,) = shop.cases("second_person")
    for name in ("max", " MAX "):
        with pytest.raises(SamePerson):
            docket.decide(shop.visit, case.number, "release", name)
    docket.decide(shop.visit, case.number, "release", "eve")
    assert shop.stage.usable("ada") == 4_999 + 9_000 + 6_000


def test_guessed_passwords_ask_for_a_challenge(shop: Shop) -> None:
    shop.joins("ada")
    shop.buys("ada")
    for _ in range(5):
        shop.seen("ada", "login_failed", device="phone", address="net")
        shop.goes_by(seconds=10)
    assert shop.spends("ada").reasons[0]["rule"] == "risk.guessed_password"


def test_many_members_at_one_device_are_held_from_the_fourth_on(shop: Shop) -> None:
    names = ["ada", "bob", "cleo", "dan"]
    shop.joins(*names)
    found = []
    for name in names:
        shop.buys(name)
        found.append(shop.spends(name, device="burner").status)
        shop.goes_by(minutes=20)
    assert found == ["recorded", "recorded", "recorded", "held"]
    shop.goes_by(days=1)
    assert shop.spends("dan", device="burner").status == "recorded"


def test_an_own_policy_speaks_of_members_lines_and_facts_and_replaces_what_is_shipped(opened: Opened) -> None:
    shop = opened(
        """
        [[plugins.risk.policies]]
        name = "fuel"
        on = ["purchase.completed"]
        when = "goods.exists(g, g.department == 'FUEL') && purchase.total > 5000 && !member.tags.exists(t, t == 'staff')"
        verdict = "deny"
        reason = "Fuel above the limit."
        gentle = { en = "Not that much fuel at once.", zh = "一次加油过多。" }
        [[plugins.risk.policies]]
        name = "points_burst"
        on = ["points.redeemed"]
        when = "facts.store == 'north'"
        """
    )
    shop.joins("ada")
    fuel = [{"sku": "F", "amount": 6000, "department": "FUEL"}]
    with pytest.raises(Denied, match="Not that much fuel"):
        shop.buys("ada", lines=fuel)
    assert shop.stage.records() == [], "what is denied leaves nothing"
    shop.buys("ada")
    assert [shop.spends("ada", store=store).status for store in ("south",) * 5] == ["recorded"] * 5
    assert shop.spends("ada", store="north").status == "held"


def test_a_member_reads_gentle_words_in_their_own_language(opened: Opened) -> None:
    shop = opened("[plugins.risk.limits]\nredemptions_hour = 1\n")
    shop.joins("mei", language="zh")
    shop.buys("mei")
    held = shop.spends("mei")
    assert held.reasons[0]["gentle"] == "我们正在核对这笔操作，您无需做任何事，积分不会丢失。"
    shop.works()
    (pending,) = docket.standing(shop.visit, shop.stage.number("mei"))["pending"]
    assert (pending["entry"], pending["text"][:4]) == (held.entry, "我们正在")


@pytest.mark.parametrize("whole", [True, False])
def test_monitoring_sees_everything_and_holds_nothing(opened: Opened, whole: bool) -> None:
    one = """
        [[plugins.risk.policies]]
        name = "points_burst"
        on = ["points.redeemed"]
        when = "signal.redemptions_hour >= 1"
        monitor = true
        """
    shop = opened('[plugins.risk]\nmode = "monitor"\n[plugins.risk.limits]\nredemptions_hour = 1\n' if whole else one)
    shop.joins("ada")
    shop.buys("ada")
    spent = shop.spends("ada")
    assert (spent.status, spent.reasons[0]["verdict"]) == ("recorded", "allow")
    assert spent.reasons[0]["reason"].startswith("hold: ")
    shop.works()
    (case,) = shop.cases()
    assert (case.policy, case.monitor) == ("points_burst", 1)
    assert shop.stage.usable("ada") == 900


# --- watches -------------------------------------------------------------------------------------------------------------


def test_a_cashier_with_one_card_in_many_sales_is_found_among_guests(shop: Shop) -> None:
    shop.joins("max", "ada", "bob")
    for place in range(40):
        name = "max" if place % 4 == 0 else ("ada", "bob", "")[place % 3]
        shop.buys(name, 10, store="north", cashier="c1")
        shop.buys("ada" if place % 8 == 0 else "", 10, store="north", cashier="c2")
        shop.goes_by(hours=3)
        shop.works()
    (case,) = shop.cases("own_card")
    assert (case.about, case.subject) == ("cashier", "c1")
    assert "top_sales 10" in case.reason and "sales 40" in case.reason
    assert shop.concerned("own_card") <= shop.numbers("max", "ada", "bob")


def test_members_who_spent_on_one_device_are_flagged_and_what_they_spend_next_is_held(opened: Opened) -> None:
    shop = opened('[plugins.risk]\nwithout = ["busy_device"]\n')
    names = ["ada", "bob", "cleo", "dan"]
    shop.joins(*names)
    for name in names:
        shop.buys(name)
        assert shop.spends(name, device="burner").status == "recorded"
        shop.goes_by(hours=7)
    shop.works()
    assert shop.concerned("shared_device") == shop.numbers(*names)
    held = shop.spends("ada")
    assert (held.status, held.reasons[0]["rule"]) == ("held", "risk.watched")
    shop.works()
    (case,) = shop.cases("shared_device")
    docket.decide(shop.visit, case.number, "restore", "eve")
    assert shop.spends("bob").status == "recorded", "the flag is gone"
    shop.goes_by(minutes=5)
    shop.works()
    assert [row.status for row in shop.cases("shared_device")] == ["decided"], (
        "what was decided is not asked again at once"
    )


def test_a_flag_ends(shop: Shop) -> None:
    names = ["ada", "bob", "cleo"]
    shop.joins(*names)
    for giver, taker in zip(names, [*names[1:], "ada"], strict=True):
        shop.buys(giver)
        shop.gives(giver, taker)
        shop.goes_by(hours=5)
    shop.works()
    assert shop.concerned("gift_ring") == shop.numbers(*names)
    assert shop.spends("ada").status == "held"
    shop.goes_by(days=14)
    assert shop.spends("bob").status == "recorded"


def test_gifts_to_and_fro_in_a_family_are_no_ring(shop: Shop) -> None:
    shop.joins("ada", "bob")
    shop.buys("ada")
    shop.buys("bob")
    shop.gives("ada", "bob")
    shop.gives("bob", "ada")
    shop.works()
    assert shop.cases() == []


def test_a_farm_of_invitations_is_found_and_a_popular_member_is_not(shop: Shop) -> None:
    shop.joins("farmer", "popular")
    for place in range(7):
        for inviter in ("farmer", "popular"):
            name = f"{inviter}-{place}"
            shop.joins(name, days=0)
            shop.stage.send("member.enrolled", {"invited_by": inviter}, member=name)
            shop.seen(name, "joined", device="farm" if inviter == "farmer" else f"phone-{place}")
            if inviter == "popular":
                shop.buys(name, 40)
        shop.goes_by(hours=3)
    shop.works()
    assert [case.subject for case in shop.cases("referral_farm")] == [member_name(shop.stage.number("farmer"))]
    assert len(shop.concerned("referral_farm")) == 8


def test_who_returns_most_of_what_they_buy_is_found_and_who_returns_one_thing_is_not(shop: Shop) -> None:
    shop.joins("ada", "bob")
    for place in range(8):
        bought = shop.buys("ada", 50)
        other = shop.buys("bob", 50)
        shop.works()
        shop.goes_by(days=2)
        if place % 4 != 3:
            shop.returns(bought)
        if place == 0:
            shop.returns(other)
        shop.works()
    assert shop.concerned("serial_returner") == shop.numbers("ada")


def test_points_spent_at_once_from_orders_that_come_back_are_found_the_second_time(shop: Shop) -> None:
    shop.joins("ada")
    for _ in range(2):
        bought = shop.buys("ada", 100)
        shop.goes_by(minutes=20)
        shop.spends("ada", 900)
        shop.works()
        assert shop.cases() == []
        shop.goes_by(days=2)
        shop.returns(bought)
    shop.works()
    (case,) = shop.cases()
    assert case.policy == "redeem_and_return"
    shop.buys("ada", 200)
    assert shop.spends("ada", 100).status == "held"


def test_stores_and_addresses_can_be_watched(opened: Opened) -> None:
    shop = opened(
        """
        [[plugins.risk.watches]]
        name = "busy_store"
        subject = "store"
        when = "signal.redemptions_hour >= 3"
        [[plugins.risk.watches]]
        name = "stuffing"
        subject = "address"
        when = "signal.members >= 3"
        flag = "0s"
        """
    )
    for name in ("ada", "bob", "cleo"):
        shop.joins(name)
        shop.buys(name, store="north")
        shop.seen(name, "login_failed", address="net")
        shop.spends(name, store="north")
    shop.works()
    assert {(case.policy, case.subject) for case in shop.cases()} == {("busy_store", "north"), ("stuffing", "net")}
    assert "risk.flagged" not in {record.kind for record in shop.stage.records()}


@pytest.mark.parametrize(
    "subject, where", [("cashier", "eve"), ("store", "north"), ("device", "till-7"), ("address", "net")]
)
def test_events_points_and_redemptions_are_counted_of_whoever_they_go_through(
    opened: Opened, subject: str, where: str
) -> None:
    # purchases are no business of a device or an address: a till's device is everybody's
    events, points = {"cashier": (3, 300), "store": (3, 300), "device": (3, 300), "address": (2, 0)}[subject]
    watch = '[[plugins.risk.watches]]\nname = "{0}"\nsubject = "{1}"\nwhen = "signal.{2} >= {3}"\nflag = "0s"\n'
    wanted = {"events": events, "points": points, "redemptions": 2 if points else 0}
    shop = opened(
        "".join(
            watch.format(f"{name}_{word}", subject, name, number + more)
            for name, number in wanted.items()
            for word, more in (("met", 0), ("beyond", 1))
        )
    )
    shop.joins("ada")
    shop.buys("ada", **({subject: where} if subject in ("cashier", "store") else {}))
    if subject in ("device", "address"):
        shop.seen("ada", "login", **{subject: where})
    if subject == "address":
        shop.seen("ada", "login", address=where)
    else:
        shop.spends("ada", 100, **{subject: where})
        shop.spends("ada", 200, **{subject: where})
    shop.works()
    assert {case.policy for case in shop.cases() if case.subject == where} == {f"{name}_met" for name in wanted}


# --- restrictions ----------------------------------------------------------------------------------------------------------


def test_a_restriction_takes_one_capability_for_a_time_and_says_so_gently(shop: Shop) -> None:
    shop.joins("ada", "bob")
    shop.buys("ada")
    ada, until = shop.stage.number("ada"), shop.stage.now + timedelta(days=10)
    docket.restrict(shop.visit, ada, ["redeem"], until, "card was cloned", "eve")
    with pytest.raises(Denied, match="ask our staff"):
        shop.spends("ada")
    assert shop.gives("ada", "bob").status == "recorded"
    assert shop.buys("ada").status == "recorded"
    assert docket.standing(shop.visit, ada)["restricted"] == {"redeem": until.isoformat()}
    shop.goes_by(days=10)
    assert shop.spends("ada").status == "recorded"
    assert docket.standing(shop.visit, ada)["restricted"] == {}


def test_restricted_members_are_restored_by_the_case_that_restricted_them(shop: Shop) -> None:
    names = ["ada", "bob", "cleo"]
    shop.joins(*names)
    for giver, taker in zip(names, [*names[1:], "ada"], strict=True):
        shop.buys(giver)
        shop.gives(giver, taker)
    shop.works()
    (case,) = shop.cases()
    docket.decide(shop.visit, case.number, "restrict", "eve", capabilities=["gift"])
    for name in names:
        with pytest.raises(Denied):
            shop.gives(name, "ada" if name != "ada" else "bob")
        assert shop.spends(name).status == "held", "flagged, not restricted"
    docket.decide(shop.visit, case.number, "restore", "eve")
    assert shop.gives("ada", "bob").status == "recorded"


def test_unknown_cases_and_capabilities_are_refused_by_name(shop: Shop) -> None:
    shop.joins("ada")
    with pytest.raises(UnknownCase):
        docket.decide(shop.visit, 77, "void", "eve")
    with pytest.raises(NotFound):
        docket.assign(shop.visit, 77, "eve")
    with pytest.raises(UnknownCapability):
        docket.restrict(shop.visit, shop.stage.number("ada"), ["fly"], shop.stage.now, "r", "eve")
    with pytest.raises(UnknownCapability):
        shop.stage.send(
            "risk.restricted", {"capabilities": ["fly"], "until": shop.stage.now.isoformat(), "reason": "r", "by": "eve"},
            member="ada",
        )  # fmt: skip


# --- when things go wrong ------------------------------------------------------------------------------------------------------


def test_a_broken_plugin_holds_what_takes_and_lets_earning_pass(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.joins("ada", "bob")
    shop.buys("ada")

    def fails(*_: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(Risk, "_seen", fails)
    bought, spent, given = shop.buys("ada"), shop.spends("ada"), shop.gives("ada", "bob")
    assert [bought.status, spent.status, given.status] == ["recorded", "held", "held"]
    assert bought.reasons[0]["rule"] == spent.reasons[0]["rule"] == "risk.failed"
    monkeypatch.undo()
    shop.works()
    assert [case.policy for case in shop.cases()] == ["failed"]
    shop.goes_by(hours=73)
    shop.works()
    assert shop.stage.usable("ada") == 2000, "nobody decided: the points are back"


def test_what_was_learned_twice_is_known_once(shop: Shop) -> None:
    shop.joins("ada")
    shop.buys("ada")
    shop.buys("")
    shop.works()
    before = shop.stage.rows("SELECT * FROM risk_trace ORDER BY number")
    with shop.stage.house.db.begin() as conn:
        clerk.take_down(conn, "shop", shop.visit.plugin.settings, shop.stage.records())
    assert shop.stage.rows("SELECT * FROM risk_trace ORDER BY number") == before
    assert len(before) == 2
    assert shop.stage.rows("SELECT 1 FROM own WHERE key = 'guests' AND name <> ''") == []


def test_a_hold_somebody_else_decided_is_closed_and_not_decided_again(opened: Opened) -> None:
    shop = opened("[plugins.risk.limits]\nredemptions_hour = 1\n")
    shop.joins("ada")
    shop.buys("ada")
    held = shop.spends("ada")
    shop.works()
    shop.stage.send("entry.voided", {"entry": held.entry, "reason": "by hand"})
    shop.goes_by(hours=80)
    shop.works()
    assert [row.status for row in shop.stage.rows("SELECT status FROM risk_waiting")] == ["voided"]
    (case,) = shop.cases()
    docket.decide(shop.visit, case.number, "release", "eve")
    assert shop.stage.usable("ada") == 1000


def test_switched_off_it_keeps_its_history_and_switched_on_again_it_goes_on(shop: Shop) -> None:
    shop.joins("ada")
    shop.buys("ada")
    for _ in range(4):
        shop.spends("ada")
    shop.works()
    switchboard.disable(shop.stage.house, "shop", "risk", actor="test")
    assert shop.spends("ada").status == "recorded"
    switchboard.enable(shop.stage.house, "shop", "risk", actor="test")
    assert shop.spends("ada").status == "held", "the four from before count"
    shop.works()
    assert len(shop.cases("points_burst")) == 1


def test_a_forgotten_member_leaves_no_trace_and_an_export_holds_all(shop: Shop) -> None:
    shop.joins("ada", "bob")
    shop.buys("ada")
    shop.buys("bob")
    shop.gives("bob", "ada", device="phone-of-bob")
    for _ in range(5):
        shop.spends("ada", device="phone-of-ada")
    shop.works()
    house, ada = shop.stage.house, shop.stage.number("ada")
    (told,) = [each["plugins"]["risk"] for each in house.export("shop", ada)["members"]]
    assert {trace["what"] for trace in told["traces"]} == {"buy", "spend"}
    assert [case["policy"] for case in told["cases"]] == ["points_burst"]
    house.erase("shop", ada)
    for table, column in (
        ("risk_trace", "member"),
        ("risk_trace", "other"),
        ("risk_concerned", "member"),
        ("risk_waiting", "member"),
    ):
        assert shop.stage.rows(f"SELECT 1 FROM {table} WHERE {column} = :m", m=ada) == []
    assert shop.stage.rows("SELECT 1 FROM risk_case") == []
    assert shop.stage.rows("SELECT 1 FROM risk_trace WHERE device = 'phone-of-ada'") == []
    assert shop.stage.rows("SELECT 1 FROM own WHERE plugin = 'risk' AND key = :k", k=f"m:{ada}") == []


def test_nobody_gets_rid_of_a_restriction_by_becoming_somebody_else(shop: Shop) -> None:
    shop.joins("ada", "anna", "bob")
    shop.buys("ada")
    shop.buys("anna")
    until = shop.stage.now + timedelta(days=1)
    docket.restrict(shop.visit, shop.stage.number("ada"), ["redeem"], until, "r", "eve")
    shop.stage.send("member.merged", {"into": "anna"}, member="ada")
    with pytest.raises(Denied):
        shop.spends("anna")
    assert shop.gives("anna", "bob").status == "recorded"
    docket.restrict(shop.visit, shop.stage.number("ada"), ["gift"], until, "r", "eve")
    with pytest.raises(Denied):
        shop.gives("anna", "bob")
    shop.goes_by(days=1)
    assert [shop.spends("ada").status for _ in range(5)] == [*["recorded"] * 4, "held"]


def test_old_traces_go(shop: Shop) -> None:
    shop.joins("ada")
    shop.buys("ada")
    shop.works()
    shop.goes_by(days=181)
    shop.buys("ada")
    shop.works()
    shop.stage.house.run_jobs(force=True, only="risk.sweep")
    assert len(shop.stage.rows("SELECT 1 FROM risk_trace")) == 1
