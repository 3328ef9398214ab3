"""What a receipt says, from records written by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tallystick.ledger import NEVER, LotGiven, Record, Step, Transfer, canonical, read_record
from tallystick.receipts import STATUSES, explanation, receipt, receipt_bytes, receipt_document, sentence

ANN, BOB = "m-000000000001", "m-000000000002"
NOON = 1_795_262_400_000_000


def record(**more: Any) -> Record:
    return Record(
        entry="1-7-0",
        tenant="oak",
        id="e-1",
        source="till",
        kind="purchase.completed",
        at=NOON,
        received=NOON + 1,
        status="recorded",
        generation=3,
        programme="abc",
        member=ANN,
        **more,
    )


@pytest.mark.parametrize(
    "transfers, says",
    [
        ([("issued", ANN, 12)], {"gained": 12}),
        ([("issued", ANN, 12), ("issued", ANN, 3)], {"gained": 15}),
        ([(ANN, "redeemed", 5)], {"spent": 5}),
        ([(ANN, "partner:elm", 5)], {"spent": 5}),
        ([(ANN, BOB, 5)], {"spent": 5}),
        ([(BOB, ANN, 5)], {"gained": 5}),
        ([(ANN, "expired", 4), (ANN, "redeemed", 5)], {"expired": 4, "spent": 5}),
        ([(ANN, "reversed", 4)], {"taken_back": 4}),
        ([("redeemed", ANN, 5)], {"spent": -5}),
        ([(ANN, "held", 5)], {"held": 5}),
        ([("held", ANN, 5)], {"held": -5}),
        ([("held", "redeemed", 5)], {}),
        ([("issued", BOB, 5)], {}),
    ],
)
def test_a_unit_says_what_became_of_the_members_own_points(
    transfers: list[tuple[str, str, int]], says: dict[str, int]
) -> None:
    moved = tuple(Transfer(debit, credit, "points", amount, "shop.rule") for debit, credit, amount in transfers)
    units = receipt_document(record(transfers=moved, balances={"points": 40}))["units"]
    assert units == {"points": {"gained": 0, "spent": 0, "balance": 40, **says}}


def test_a_late_event_says_which_plugins_were_not_asked() -> None:
    assert receipt_document(record(off=("points",)))["off"] == ("points",)
    assert "off" not in receipt_document(record())


def test_a_receipt_tells_nothing_of_another_member() -> None:
    """A gift: the sender's receipt names neither the receiver's lots nor balances."""
    given = LotGiven(lot="1-7-0.0", member=BOB, unit="points", amount=5, left=5, usable_from=NOON)
    gift = record(transfers=(Transfer(ANN, BOB, "points", 5, "shop.gift"),), lots=(given,), balances={"points": 7})
    assert BOB not in receipt_bytes(gift).decode()
    assert BOB not in msgspec.json.encode(explanation(gift, full=False)).decode()
    assert BOB in msgspec.json.encode(explanation(gift)).decode()


def test_what_another_member_gained_is_not_on_the_receipt() -> None:
    """Who was invited is not told what the inviter got; the merchant is."""
    steps = (
        Step(rule="shop.welcome", effect="grant", unit="points", amount=5),
        Step(rule="shop.invited", effect="grant", unit="points", amount=9, member=BOB),
    )
    invited = record(explanation=steps)
    assert [step.rule for step in receipt(invited).explanation] == ["shop.welcome"]
    told, full = (explanation(invited, full=full, taken_back=(0, 4)) for full in (False, True))
    assert [(step.rule, step.taken_back) for step in told.steps] == [("shop.welcome", 0)]
    assert [(step.rule, step.member, step.taken_back) for step in full.steps] == [
        ("shop.welcome", "", 0),
        ("shop.invited", BOB, 4),
    ]


def test_a_lot_that_waits_or_never_expires_has_no_such_time() -> None:
    open_ended = LotGiven(
        lot="1-7-0.0", member=ANN, unit="points", amount=5, left=3, usable_from=NEVER, waits="R/delivered"
    )
    expiring = LotGiven(
        lot="1-7-0.1", member=ANN, unit="points", amount=5, left=5, usable_from=NOON, expires_at=NOON + 1_000_000
    )
    first, second = receipt_document(record(lots=(open_ended, expiring)))["lots"]
    assert first == {"lot": "1-7-0.0", "unit": "points", "amount": 5, "left": 3, "waits": "R/delivered"}
    assert (second["usable_from"], second["expires_at"]) == ("2026-11-21T12:00:00Z", "2026-11-21T12:00:01Z")


def test_a_dry_run_names_no_entry() -> None:
    given = LotGiven(lot="0-0-0.0", member=ANN, unit="points", amount=5, left=5, usable_from=NOON)
    document = receipt_document(record(lots=(given,)), dry=True)
    assert (document["entry"], document["lots"][0]["lot"]) == ("dry-run", "dry-run")


def test_a_stored_record_gives_the_same_bytes_for_ever() -> None:
    steps = (
        Step(rule="shop.base", effect="grant", version="1.0", unit="points", amount=5, data={"b": 1, "a": [2, "x"]}),
    )
    fresh = record(explanation=steps, balances={"z": 1, "a": 2}, gives=({"hat": 1},))
    stored = read_record(canonical(fresh))
    assert receipt_bytes(stored) == receipt_bytes(read_record(canonical(stored)))
    assert msgspec.json.decode(receipt_bytes(stored)) == msgspec.json.decode(receipt_bytes(fresh))


@pytest.mark.parametrize(
    "step, english, chinese",
    [
        (
            Step(rule="shop.base", effect="grant", unit="points", amount=1234),
            "shop.base gave 1,234 points",
            "shop.base 发放 1,234 points",
        ),
        (
            Step(rule="shop.base", effect="grant", unit="points", amount=5, wanted=9, note="capped", by="shop.cap"),
            "shop.base gave 5 points (capped by shop.cap; it would have been 9)",
            "shop.base 发放 5 points（受 shop.cap 上限限制，原应为 9）",
        ),
        (Step(rule="core.expire", effect="expire", unit="points", amount=-3), "3 points expired", "3 points 已过期"),
        (Step(rule="tiers.up", effect="tier"), "tiers.up set the tier", "tiers.up 设定等级"),
        (Step(rule="x.y", effect="new", note="odd {thing}"), "x.y: new (odd {thing})", "x.y：new（odd {thing}）"),
        (
            Step(rule="core.expire", effect="expire", data={"due": NOON, "lots": 1_200}),
            "1,200 lots that were due expired",
            "1,200 个到期的积分批次已过期",
        ),
    ],
)
def test_a_step_is_a_sentence_in_both_languages(step: Step, english: str, chinese: str) -> None:
    assert (sentence(step, "en"), sentence(step, "zh")) == (english, chinese)


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_has_its_http_status(status: str) -> None:
    assert STATUSES[receipt(msgspec.structs.replace(record(), status=status)).status] in {200, 202}


@pytest.mark.parametrize(
    "code, said", [({}, "plugin_failed"), ({"code": "points_unknown_rate"}, "points_unknown_rate")]
)
def test_what_a_plugin_could_not_answer_is_a_warning(code: dict[str, str], said: str) -> None:
    """Without its place in the code: that is for staff, who see the whole entry."""
    skipped = (
        {"plugin": "points", "version": "1.0", "hook": "earn", "error": "UnknownRate in points.earning:285", **code},
    )
    for language in ("en", "zh"):
        (warning,) = receipt(record(skipped=skipped), language).warnings  # type: ignore[arg-type]
        assert (warning.plugin, warning.hook, warning.code) == ("points", "earn", said)
        assert said in warning.text
        assert "285" not in warning.text
    assert "warnings" not in receipt_document(record())
