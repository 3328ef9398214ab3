"""Frames: only those of this device, in this order, in this epoch; everything else changes nothing."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.vr_kiosk.tests.conftest import Shop
from tallystick_vr_kiosk import codes, frames, pairing
from tallystick_vr_kiosk.errors import BadFrame, DeviceRefused
from tallystick_vr_kiosk.frames import NOTHING, Pen, hash_of, judge

NOW = datetime(2025, 6, 15, 16, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def believed(body: bytes, public_key: str = PUBLIC) -> bool:
    try:
        sealed, _ = frames.read_wire(body)
        frames.check_signature(sealed, public_key)
    except BadFrame:
        return False
    return True


@settings(max_examples=2_000, deadline=None)
@given(st.data())
def test_no_frame_with_another_byte_is_believed(data: st.DataObject) -> None:
    """Flipped, cut, doubled or put in: whatever was not written by the device is not believed, and breaks nothing."""
    body = Pen("k-1", 1, KEY).write("beat", {"version": "1"}, at=NOW)
    place = data.draw(st.integers(0, len(body) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "put"]))
    if how == "flip":
        other = body[:place] + bytes([body[place] ^ data.draw(st.integers(1, 255))]) + body[place + 1 :]
    else:
        other = (
            body[:place]
            + (b"" if how == "cut" else data.draw(st.binary(min_size=1, max_size=3)))
            + body[place + (how == "cut") :]
        )
    if believed(other):  # only what says the same in other bytes: spaces around JSON, an escape
        assert msgspec.json.decode(other) == msgspec.json.decode(body)


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    assert not believed(body)


def test_a_frame_of_another_key_is_not_believed() -> None:
    assert not believed(Pen("k-1", 1, Ed25519PrivateKey.generate()).write("beat", {}, at=NOW))
    assert believed(Pen("k-1", 1, KEY).write("beat", {}, at=NOW))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=80))
def test_in_any_order_and_repetition_each_frame_is_taken_once_and_in_its_order(order: list[int]) -> None:
    pen = Pen("k-1", 1, KEY)
    written = [frames.read_wire(pen.write("beat", {"n": n}, at=NOW)) for n in range(10)]
    taken: dict[int, str] = {}
    counter, last = 0, NOTHING
    for n in order:
        sealed, frame = written[n]
        verdict = judge(frame, sealed.frame, epoch=1, counter=counter, last=last, known=taken.get(frame.counter))
        assert verdict == ("new" if n == counter else "again" if n < counter else "gap")
        if verdict == "new":
            counter, last = frame.counter, hash_of(sealed.frame)
            taken[counter] = last
    assert list(taken) == list(range(1, counter + 1))


def test_a_copied_device_is_noticed_by_its_number_and_by_its_chain() -> None:
    first, copy = Pen("k-1", 1, KEY), Pen("k-1", 1, KEY)
    sealed, frame = frames.read_wire(first.write("beat", {"n": 1}, at=NOW))
    other_sealed, other = frames.read_wire(copy.write("beat", {"n": 2}, at=NOW))
    known = hash_of(sealed.frame)
    assert judge(other, other_sealed.frame, epoch=1, counter=1, last=known, known=known) == "copied"
    sealed, frame = frames.read_wire(copy.write("beat", {"n": 3}, at=NOW))
    assert judge(frame, sealed.frame, epoch=1, counter=1, last=known, known=None) == "copied"
    assert judge(frame, sealed.frame, epoch=2, counter=0, last=NOTHING, known=None) == "other_epoch"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace(b'\\"counter\\":1', b'\\"counter\\":0'),
        lambda text: text.replace(b'\\"kind\\":\\"beat\\"', b'\\"kind\\":\\"root\\"'),
        lambda text: text.replace(b"Z\\", b"\\"),
        lambda text: text.replace(b'\\"data\\"', b'\\"more\\"'),
        lambda text: text + b" " * frames.MAX_FRAME,
        lambda _: b"[]",
    ],
)
def test_what_is_no_frame_is_refused_by_name(spoil: object) -> None:
    body = Pen("k-1", 1, KEY).write("beat", {"n": 1}, at=NOW)
    with pytest.raises(BadFrame):
        frames.read_wire(spoil(body))  # type: ignore[operator]


# --- through a house ---------------------------------------------------------------------------------------------------


def test_a_copy_of_the_device_is_set_aside_with_an_alarm(shop: Shop) -> None:
    kiosk = shop.pair()
    kiosk.say("beat", {})
    copy = Pen(kiosk.pen.device, kiosk.pen.epoch, kiosk.pen.key)
    answer = msgspec.json.decode(kiosk.line(copy.write("identify", {"code": shop.code("ann")}, at=shop.stage.now)))
    assert answer["status"] == "quarantined"
    with pytest.raises(DeviceRefused):
        kiosk.say("beat", {})
    assert shop.alarms() == ["copied"]
    assert shop.stage.rows("SELECT * FROM vr_kiosk_session") == []


def test_a_device_that_says_too_much_of_itself_breaks_no_list(shop: Shop) -> None:
    from tallystick_vr_kiosk import routes

    kiosk = shop.pair()
    kiosk.say("beat", {"version": "v" * 900, "more": "\u4e2d" * 900, **{f"field {n}": n for n in range(200)}})
    [found] = routes.devices(shop.errand)
    assert (len(found.version), len(found.health), found.health["field 9"]) == (40, 12, 9)


def test_a_gap_asks_for_what_is_missing_and_nothing_is_lost(shop: Shop) -> None:
    kiosk = shop.pair()
    shop.buys("ann", 100)
    session = shop.identify(kiosk, "ann")
    shop.cut = True
    kiosk.say("redeem", {"session": session, "reward": "coffee"})
    waiting = kiosk.queue.pop(0)  # the device lost it out of its queue
    shop.cut = False
    answer = kiosk.say("beat", {})
    assert answer is not None and answer["status"] == "done"
    assert waiting in kiosk.history and shop.stage.usable("ann") == 50


def test_a_revoked_device_is_refused_at_once_and_may_be_paired_anew(shop: Shop) -> None:
    from tallystick.errors import NotFound
    from tallystick.ledger import instant
    from tallystick_vr_kiosk import store
    from tallystick_vr_kiosk.commands import approve, revoke

    kiosk = shop.pair()
    revoke(shop.errand, kiosk.pen.device)
    with pytest.raises(DeviceRefused):
        kiosk.say("beat", {})
    from tallystick_vr_kiosk.commands import release

    with pytest.raises(NotFound):
        release(shop.errand, kiosk.pen.device)
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()
    with shop.house.db.begin() as conn:
        until = instant(shop.stage.now) + pairing.LIFE
        store.add_pairing(
            conn, "shop", letters="BCDFGHJK", public_key=public, version="", state="waiting", expires_at=until
        )
    found, _ = approve(shop.errand, "bcdf-ghjk", pairing.number_of(public), device=kiosk.pen.device)
    assert found == {"device": kiosk.pen.device, "epoch": 2}
    fresh = Pen(kiosk.pen.device, 2, key)
    assert msgspec.json.decode(kiosk.line(fresh.write("beat", {}, at=shop.stage.now)))["status"] == "done"
    with pytest.raises(BadFrame):  # the old key opens nothing
        kiosk.say("beat", {})


# --- member codes -------------------------------------------------------------------------------------------------------


def test_a_screenshot_dies(shop: Shop) -> None:
    """S14: one identification per step; afterwards, elsewhere, later and changed the code is nobody's."""
    one, two = shop.pair("one"), shop.pair("two")
    code = shop.code("ann")
    said = []
    for till, text in ((one, code), (two, code), (one, code)):
        answer = till.say("identify", {"code": text})
        said.append(answer and answer["status"])
    assert said == ["done", "refused", "refused"]
    fresh = shop.code("bob")
    shop.goes_by(seconds=61)
    answers = [one.say("identify", {"code": text}) for text in (fresh, fresh[:-1] + ("A" if fresh[-1] != "A" else "B"))]
    assert [answer and answer["code"] for answer in answers] == ["vr_kiosk_code_refused"] * 2


def test_guesses_are_few_and_somebody_hears_of_them(shop: Shop) -> None:
    kiosk = shop.pair()
    said = []
    for n in range(8):
        answer = kiosk.say("identify", {"code": f"TS1.{'A' * 16}.{n + 1}.{'B' * 10}"})
        said.append(answer and answer["code"])
    assert said == ["vr_kiosk_code_refused"] * 5 + ["vr_kiosk_too_many_tries"] * 3
    assert shop.alarms() == ["guessing"]
    shop.goes_by(seconds=61)
    assert shop.identify(kiosk, "ann")


def test_a_card_identifies_and_does_no_more_without_a_pin(shop: Shop) -> None:
    from tallystick_vr_kiosk.commands import card

    shop.buys("ann", 100)
    kiosk = shop.pair()
    first, _ = card(shop.errand, "ann")
    second, _ = card(shop.errand, "ann")
    answers = [kiosk.say("identify", {"code": text["code"]}) for text in (first, second, second)]
    assert [answer and answer["status"] for answer in answers] == ["refused", "done", "done"]
    answer = kiosk.say("redeem", {"session": f"op-{kiosk.pen.counter}", "reward": "coffee"})
    assert answer is not None and answer["code"] == "vr_kiosk_confirmation_needed"


@given(st.binary(min_size=32, max_size=32), st.integers(1_700_000_000, 1_900_000_000), st.integers(-400, 400))
def test_a_code_is_good_in_its_step_and_beside_it(secret: bytes, now: int, later: int) -> None:
    step = codes.step_of(now)
    code = codes.read_code(codes.make_code(secret, "A" * 16, step))
    assert code is not None
    assert codes.is_right(secret, code, now + later) is (abs(codes.step_of(now + later) - step) <= 1)
    assert not codes.is_right(bytes(32) if secret != bytes(32) else b"1" * 32, code, now)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "TS1",
        "TS1.a.1.b",
        "TS1." + "A" * 16 + ".0." + "B" * 10,
        "TC1." + "A" * 16 + ".x",
        "TS1." + "A" * 16 + ".1." + "B" * 11,
    ],
)
def test_what_is_no_code_is_none(text: str) -> None:
    assert codes.read_code(text) is None


def test_a_code_is_read_from_its_picture() -> None:
    zxingcpp = pytest.importorskip("zxingcpp")
    import io

    import segno
    from PIL import Image

    text = codes.make_code(b"s" * 32, "ABCDEFGHIJKLMNOP", 58_000_000)
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(out, kind="png", scale=6)
    [found] = zxingcpp.read_barcodes(Image.open(io.BytesIO(out.getvalue())))
    assert found.text == text


def test_letters_and_signature_are_of_one_alphabet() -> None:
    made = {pairing.make_letters() for _ in range(200)}
    assert len(made) == 200 and all(pairing.read_letters(pairing.show_letters(one)) == one for one in made)
    assert base64.b32encode(b"x" * 10).decode().isascii()
