"""What a device in public space may send and must not achieve: each with its code, an alarm where one is due, and no ledger
change, nobody logged in, no number used up that was not the device's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from plugins.vr_kiosk.tests.conftest import SETTINGS, START, Shop
from tallystick import proofs
from tallystick.errors import TallyError
from tallystick.testing import make_stage
from tallystick_vr_kiosk import care, codes, store
from tallystick_vr_kiosk.frames import MAX_FRAME, NOTHING, Pen, seal
from tallystick_vr_kiosk.sim import Device

LEDGER = ("record", "transfer", "lot", "stock", "batch", "vr_kiosk_session", "vr_kiosk_found", "vr_kiosk_wish")


class Scene:
    """Ann stands at a kiosk that has said two things; another kiosk stands elsewhere."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        shop.goes_by(minutes=2)  # codes are good once, and tries are counted by the minute
        shop.buys("ann", 300)
        self.kiosk, self.other = shop.pair("Kiosk"), shop.pair("Another")
        self.session = shop.identify(self.kiosk, "ann")
        self.kiosk.say("beat", {})

    def pen(self, whose: Device, /, **changes: Any) -> Pen:
        """The device's pen, or one that somebody else made for it."""
        pen = whose.pen
        given = {"device": pen.device, "epoch": pen.epoch, "key": pen.key, "counter": pen.counter, "last": pen.last}
        return Pen(**(given | changes))

    def frame(self, kind: str = "beat", data: dict[str, Any] | None = None, **changes: Any) -> bytes:
        return self.pen(self.kiosk, **changes).write(kind, data or {}, at=self.shop.stage.now)

    def redeems(self, **changes: Any) -> bytes:
        return self.frame("redeem", {"session": self.session, "reward": "coffee"}, **changes)

    def event(self, kind: str, facts: Any, session: str = "") -> bytes:
        return self.frame("event", {"session": session or self.session, "type": kind, "facts": facts})

    def respelled(self, old: str, new: str) -> bytes:
        """A frame of the device's own key with something in it that its pen would not write."""
        text = msgspec.json.decode(self.redeems())["frame"]
        assert old in text
        return seal(text.replace(old, new, 1), self.kiosk.pen.key)

    def says(self, body: bytes) -> tuple[str, str]:
        """The status and the code that the device is answered with."""
        try:
            answer = msgspec.json.decode(self.kiosk.line(body))
        except TallyError as refusal:
            return "", refusal.code
        return answer["status"], answer.get("code", "")

    def alarms(self) -> list[str]:
        """What somebody hears of these two devices."""
        mine = f"device IN ('{self.kiosk.pen.device}', '{self.other.pen.device}')"
        return [code for (code,) in self.shop.stage.rows(f"SELECT code FROM vr_kiosk_alarm WHERE {mine}")]

    def written(self) -> Any:
        """All that must not change."""
        return {table: sorted(map(repr, self.shop.stage.rows(f"SELECT * FROM {table}"))) for table in LEDGER}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One shop for all of it; afterwards its books prove."""
    folder = tmp_path_factory.mktemp("shop")
    with make_stage(SETTINGS, f"sqlite:///{folder / 'tally.db'}", folder, start=START) as stage:
        stage.enrol("ann")
        found = Shop(stage)
        yield found
        with found.house.reading() as conn:
            assert proofs.verify(conn).findings == ()


BAD = ("", "vr_kiosk_bad_frame")
#: What comes, what it is answered, and the alarm that it raises.
FRAMES: dict[str, tuple[Callable[[Scene], bytes], tuple[str, str], list[str]]] = {
    "a frame of another key": (lambda at: at.redeems(key=Ed25519PrivateKey.generate()), BAD, []),
    "another device's frame": (
        lambda at: at.pen(at.other).write("beat", {}, at=at.shop.stage.now), BAD, [],
    ),
    "a frame in another device's name": (lambda at: at.redeems(device=at.other.pen.device), BAD, []),
    "a frame in nobody's name": (lambda at: at.redeems(device="k-00000000"), BAD, []),
    "no frame": (lambda _: b'{"frame": 1}', BAD, []),
    "nothing": (lambda _: b"", BAD, []),
    "a frame without end": (lambda at: at.redeems() + b" " * MAX_FRAME, BAD, []),
    "a changed frame": (lambda at: at.redeems().replace(b"coffee", b"coffeE"), BAD, []),
    "the number nought": (lambda at: at.respelled('"counter":3', '"counter":0'), BAD, []),
    "a number without end": (lambda at: at.respelled('"counter":3', '"counter":9007199254740993'), BAD, []),
    "a kind that is none": (lambda at: at.respelled('"kind":"redeem"', '"kind":"root"'), BAD, []),
    "a field that is none": (lambda at: at.respelled('"data"', '"date"'), BAD, []),
    "a time without zone": (lambda at: at.respelled('Z"', '"'), BAD, []),
    "a number too far": (lambda at: at.redeems(counter=7), ("gap", ""), []),
    "an earlier pairing": (lambda at: at.redeems(epoch=2), ("refused", "vr_kiosk_device_refused"), ["other_epoch"]),
    "a used number": (lambda at: at.redeems(counter=0, last=NOTHING), ("quarantined", "vr_kiosk_device_refused"), ["copied"]),
    "another past": (lambda at: at.redeems(last="f" * 64), ("quarantined", "vr_kiosk_device_refused"), ["copied"]),
    "a sale": (lambda at: at.event("purchase.completed", {"order": "1"}), ("refused", "vr_kiosk_not_offered"), []),
    "an event of the house": (
        lambda at: at.event("vr_kiosk.redeemed", {"reward": "mug"}), ("refused", "vr_kiosk_not_offered"), [],
    ),
    "facts that are none": (lambda at: at.event("vr_kiosk.touched", "lamp"), ("refused", "vr_kiosk_not_offered"), []),
    "a thing that is not there": (
        lambda at: at.event("vr_kiosk.touched", {"showroom": "spring", "spot": "../lamp"}), ("refused", "vr_kiosk_not_offered"), [],
    ),
    "a deed that is none": (
        lambda at: at.event("vr_kiosk.touched", {"showroom": "spring", "spot": "lamp", "action": "stolen"}),
        ("refused", "invalid_event"), [],
    ),
    "a session of nobody": (
        lambda at: at.event("vr_kiosk.touched", {"showroom": "spring", "spot": "lamp"}, "op-99"),
        ("refused", "vr_kiosk_session_ended"), [],
    ),
    "a reward that is none": (
        lambda at: at.frame("redeem", {"session": at.session, "reward": "car"}), ("refused", "vr_kiosk_not_offered"), [],
    ),
    "bytes that nobody understands": (lambda at: at.frame("raw", {"bytes": "\x00"}), ("refused", "vr_kiosk_bad_frame"), []),
    "a receipt of nobody": (
        lambda at: at.frame("print", {"session": at.session, "entry": "1-1-0"}), ("refused", "vr_kiosk_not_offered"), [],
    ),
    "an answer to a command of nobody": (lambda at: at.frame("done", {"command": "x", "done": True}), ("done", ""), []),
}  # fmt: skip


@pytest.mark.parametrize("what", FRAMES)
def test_what_is_no_frame_of_this_device_now_changes_nothing(shop: Shop, what: str) -> None:
    make, answer, alarms = FRAMES[what]
    scene = Scene(shop)
    before, taken = scene.written(), scene.kiosk.pen.counter
    assert scene.says(make(scene)) == answer
    assert (scene.written(), scene.alarms()) == (before, alarms)
    [(counter, state)] = shop.stage.rows(
        f"SELECT counter, state FROM vr_kiosk_device WHERE id = '{scene.kiosk.pen.device}'"
    )
    assert counter == taken + (answer[0] in ("refused", "done") and "other_epoch" not in alarms)
    assert state == ("quarantined" if "copied" in alarms else "active")


@pytest.mark.parametrize("state", ["revoked", "quarantined"])
def test_who_is_not_listened_to_changes_nothing(shop: Shop, state: str) -> None:
    scene = Scene(shop)
    care.change_state(shop.errand, scene.kiosk.pen.device, state)
    before = scene.written()
    assert scene.says(scene.redeems()) == ("", "vr_kiosk_device_refused")
    assert (scene.written(), scene.alarms()) == (before, [])


def made_elsewhere(shop: Shop, kind: str, how: str) -> str:
    """A code of another tenant of the same house: of an alias that is not here, or that happens to be here, too."""
    with shop.house.db.begin() as conn:
        alias = store.make_alias(conn, "shop", shop.stage.number("ann"), kind, shop.stage.clock[0])
    alias = alias if how == "known here" else "A" * 16
    secret = codes.secret_of(shop.house.secret, "elsewhere", alias)
    step = codes.step_of(shop.stage.clock[0] // 1_000_000)
    return codes.make_card(secret, alias) if kind == "card" else codes.make_code(secret, alias, step)


@pytest.mark.parametrize("kind", ["phone", "card"])
@pytest.mark.parametrize("how", ["unknown here", "known here"])
def test_a_code_of_another_tenant_is_nobodys(shop: Shop, kind: str, how: str) -> None:
    """It is refused as any wrong code, and five of them in a minute are an alarm."""
    scene = Scene(shop)
    code, before = made_elsewhere(shop, kind, how), scene.written()
    answers = [scene.kiosk.say("identify", {"code": code}) for _ in range(6)]
    assert [one and one["code"] for one in answers] == ["vr_kiosk_code_refused"] * 5 + ["vr_kiosk_too_many_tries"]
    assert answers[0] is not None and set(answers[0]) == {"status", "counter", "code"}  # nothing of anybody
    assert (scene.written(), scene.alarms()) == (before, ["guessing"])


def test_the_letters_of_a_device_are_guessed_five_times_a_minute_and_open_nothing(shop: Shop) -> None:
    devices, refused = shop.stage.rows("SELECT * FROM vr_kiosk_device"), []
    for n in range(7):
        with pytest.raises(TallyError) as said:
            care.approve(shop.errand, f"BCDFGHJ{'KLMNPQR'[n]}", "123456", name="x", who="somebody")
        refused.append(said.value.code)
    assert refused == ["vr_kiosk_pairing_ended"] * 5 + ["vr_kiosk_too_many_tries"] * 2
    assert shop.stage.rows("SELECT * FROM vr_kiosk_device") == devices
