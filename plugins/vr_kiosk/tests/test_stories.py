"""What happens at a kiosk and in a showroom, through a real house."""

from __future__ import annotations

import msgspec
import pytest

from plugins.vr_kiosk.tests.conftest import Shop


def test_a_member_identifies_sees_the_balance_and_takes_a_coffee(shop: Shop) -> None:
    shop.buys("ann", 80)
    kiosk = shop.pair()
    seen = kiosk.say("identify", {"code": shop.code("ann")})
    assert seen is not None and seen["said"]["usable"] == 80
    assert "ann" not in msgspec.json.encode(seen).decode() and str(shop.stage.number("ann")) not in str(seen)
    session = seen["said"]["session"]
    took = kiosk.say("redeem", {"session": session, "reward": "coffee"})
    assert took is not None and (took["status"], took["said"]["usable"], took["said"]["gives"]) == (
        "done",
        30,
        [{"reward": "coffee"}],
    )
    again = kiosk.say("redeem", {"session": session, "reward": "coffee"})
    assert again is not None and (again["status"], again["code"]) == ("refused", "insufficient_balance")
    assert shop.stage.usable("ann") == 30


def test_the_same_frame_is_answered_alike_and_done_once(shop: Shop) -> None:
    shop.buys("ann", 200)
    kiosk = shop.pair()
    session = shop.identify(kiosk, "ann")
    kiosk.say("redeem", {"session": session, "reward": "coffee"})
    first = kiosk.answers[-1]
    for _ in range(3):
        assert msgspec.json.decode(kiosk.line(kiosk.history[-1])) == first
    assert shop.stage.usable("ann") == 150


def test_a_reward_above_the_limit_needs_the_pin(shop: Shop) -> None:
    shop.buys("ann", 500)
    shop.stage.send("vr_kiosk.stocked", {"reward": "mug", "pieces": 1}, member="")
    shop.pin("ann", "4711")
    kiosk = shop.pair()
    session = shop.identify(kiosk, "ann")
    codes = []
    for pin in ("", "0000", "4711", ""):
        answer = kiosk.say("redeem", {"session": session, "reward": "mug", "pin": pin})
        assert answer is not None
        codes.append(answer.get("code", answer["status"]))
    assert codes == ["vr_kiosk_confirmation_needed", "vr_kiosk_code_refused", "done", "out_of_stock"]
    assert shop.stage.usable("ann") == 300


def test_a_session_ends_and_is_nobody_elses(shop: Shop) -> None:
    shop.buys("ann", 80)
    kiosk, other = shop.pair("one"), shop.pair("two")
    session = shop.identify(kiosk, "ann")
    answer = other.say("redeem", {"session": session, "reward": "coffee"})
    assert answer is not None and answer["code"] == "vr_kiosk_session_ended"
    shop.goes_by(seconds=121)
    answer = kiosk.say("redeem", {"session": session, "reward": "coffee"})
    assert answer is not None and answer["code"] == "vr_kiosk_session_ended"
    assert shop.stage.usable("ann") == 80


def test_check_in_goes_through_gamification(shop: Shop) -> None:
    kiosk = shop.pair()
    session = shop.identify(kiosk, "ann")
    said = [
        kiosk.say("event", {"session": session, "type": "gamification.checked_in", "facts": {"store": "main"}})
        for _ in range(2)
    ]
    assert [one and (one["status"], one.get("code")) for one in said] == [
        ("done", None), ("refused", "gamification_already_checked_in"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["purchase.completed", "points.adjusted", "vr_kiosk.redeemed", "vr_kiosk.task_done", ""]
)
def test_a_device_sends_only_what_the_merchant_lets_it(shop: Shop, kind: str) -> None:
    kiosk = shop.pair()
    session = shop.identify(kiosk, "ann")
    answer = kiosk.say("event", {"session": session, "type": kind, "facts": {}})
    assert answer is not None and answer["code"] == "vr_kiosk_not_offered"


def test_touching_products_earns_and_finding_all_is_a_task(shop: Shop) -> None:
    kiosk = shop.pair()
    session = shop.identify(kiosk, "ann")
    for spot in ("teapot", "teapot", "lamp", "lamp"):
        answer = kiosk.say(
            "event", {"session": session, "type": "vr_kiosk.touched", "facts": {"showroom": "spring", "spot": spot}}
        )
        assert answer is not None and answer["status"] == "done", answer
    assert shop.stage.usable("ann") == 4 * 3 + 20
    assert kiosk.answers[0]["said"]["found"] == {}
    again = kiosk.say("identify", {"code": shop.code("ann", seconds=30)})  # progress is the house's to tell
    assert again is not None and again["said"]["found"] == {"spring": ["lamp", "teapot"]}
    record = next(one for one in shop.stage.records("ann") if one.kind == "vr_kiosk.touched")
    assert record.source.startswith("vr_kiosk/k-")


def test_only_what_is_in_the_showroom_can_be_touched_or_wished_for(shop: Shop) -> None:
    kiosk = shop.pair()
    session = shop.identify(kiosk, "ann")
    for kind, facts, status in (
        ("vr_kiosk.touched", {"showroom": "spring", "spot": "sofa"}, "refused"),
        ("vr_kiosk.touched", {"showroom": "autumn", "spot": "lamp"}, "refused"),
        ("vr_kiosk.wished", {"showroom": "spring", "product": "lamp"}, "done"),
        ("vr_kiosk.wished", {"showroom": "spring", "product": "sofa"}, "refused"),
    ):
        answer = kiosk.say("event", {"session": session, "type": kind, "facts": facts})
        assert answer is not None and answer["status"] == status, (facts, answer)
    seen = kiosk.say("identify", {"code": shop.code("ann", seconds=30)})
    assert seen is not None and seen["said"]["wishes"] == ["lamp"]


def test_a_happening_is_for_its_guests_while_it_lasts(shop: Shop) -> None:
    shop.stage.enrol("cyd", tags=("vip",))
    kiosk = shop.pair()
    facts = {"showroom": "spring", "happening": "opening"}
    said = []
    for member in ("ann", "cyd"):
        answer = kiosk.say(
            "event", {"session": shop.identify(kiosk, member), "type": "vr_kiosk.attended", "facts": facts}
        )
        said.append(answer and answer["status"])
    shop.goes_by(hours=2)
    answer = kiosk.say("event", {"session": shop.identify(kiosk, "cyd"), "type": "vr_kiosk.attended", "facts": facts})
    assert [*said, answer and answer["status"]] == ["refused", "done", "refused"]


def test_commands_come_again_until_they_are_answered(shop: Shop) -> None:
    from tallystick_vr_kiosk.commands import tell

    kiosk = shop.pair()
    tell(shop.errand, kiosk.pen.device, "show", facts='{"text": "Back soon"}')
    beats = []
    for _ in range(3):
        answer = kiosk.say("beat", {"version": "1", "queue": 0})
        assert answer is not None
        beats.append([one["command"] for one in answer["said"]["commands"]])
        shop.goes_by(seconds=12)
    assert beats == [["show"], [], ["show"]]
    kiosk.say("done", {"command": answer["said"]["commands"][0]["id"], "done": True})
    shop.goes_by(seconds=60)
    answer = kiosk.say("beat", {})
    assert answer is not None and answer["said"]["commands"] == []


def test_who_is_erased_is_forgotten_here_too(shop: Shop) -> None:
    kiosk = shop.pair()
    code = shop.code("ann")
    shop.pin("ann", "4711")
    shop.identify(kiosk, "ann")
    shop.house.erase("shop", shop.stage.number("ann"))
    answer = kiosk.say("identify", {"code": code})
    assert answer is not None and answer["code"] == "vr_kiosk_code_refused"
    for table in ("alias", "pin", "session", "wish", "found", "used"):
        assert shop.stage.rows(f"SELECT * FROM vr_kiosk_{table}") == []
