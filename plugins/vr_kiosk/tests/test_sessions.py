"""Sessions: what is typed is done and written down, and comes to the same when it is played again."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest

from plugins.vr_kiosk.tests.conftest import Shop
from tallystick.errors import InvalidRequest, NotFound
from tallystick_vr_kiosk import sim, store, tape
from tallystick_vr_kiosk.commands import card, play, record

TYPED = """\
beat version=7

identify code={code}
event type=vr_kiosk.touched showroom=spring spot=lamp
event type=vr_kiosk.touched showroom=spring spot=lamp offline=yes
redeem reward=coffee pin=4711
redeem reward=mug
end
"""


def test_what_was_recorded_can_be_played_with_another_member(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bob"):
        shop.buys(name, 80)
        shop.pin(name, "4711")
    file = tmp_path / "visit.jsonl"
    monkeypatch.setattr("sys.stdin", io.StringIO(TYPED.format(code=card(shop.errand, "ann")[0]["code"])))
    recorded, lines = record(shop.errand, str(file))
    assert lines[-1] == "6 / 7 done" and shop.stage.usable("ann") == 80 + 3 + 3 - 50
    text = file.read_text()
    assert "4711" not in text and "TC1" not in text
    assert [line.kind for line in sim.read_session(file)] == [line.split()[0] for line in TYPED.splitlines() if line]
    played, _ = play(shop.errand, str(file), fast=True, code=card(shop.errand, "bob")[0]["code"], pin="4711")
    assert shop.stage.usable("bob") == shop.stage.usable("ann")
    for one, again in zip(recorded["answers"], played["answers"], strict=True):
        assert (one["kind"], one["status"], one.get("code")) == (again["kind"], again["status"], again.get("code"))


def test_a_session_keeps_the_pauses(shop: Shop, tmp_path: Path) -> None:
    ticks = iter([10.0, 10.0, 10.0, 12.52, 12.52, 13.0, 13.0])
    with (tmp_path / "s.jsonl").open("wb") as file:
        for _ in sim.record(["beat", "beat version=1", "end"], shop.pair(), file, lambda: next(ticks)):
            pass
    assert [one.after for one in sim.read_session(tmp_path / "s.jsonl")] == [0.0, 2.5, 0.5]


def test_what_a_paired_device_sends_is_recorded_and_can_be_played(shop: Shop, tmp_path: Path) -> None:
    """Nothing of the member stands in the session, nor what only this device could say; played, it comes to the same."""
    for name in ("ann", "bob"):
        shop.buys(name, 80)
        shop.pin(name, "4711")
    kiosk, other = shop.pair("Kiosk"), shop.pair("Another")
    grant = shop.grant(kiosk, 500)
    kiosk.say("identify", {"phone": "bob", "pin": "4711"}, operation="before")
    touched = {"type": "vr_kiosk.touched", "facts": {"showroom": "spring", "spot": "lamp"}}

    def visited() -> None:
        kiosk.say("event", {"session": "before", **touched})  # of a visit that was not recorded from its begin
        kiosk.say("identify", {"phone": "ann", "pin": "4711"}, operation="11111111-2222")
        shop.goes_by(seconds=2.5)
        kiosk.say("event", {"session": "11111111-2222", **touched})
        kiosk.say("event", {"session": "11111111-2222", **touched}, offline=True)
        kiosk.say("redeem", {"session": "11111111-2222", "reward": "coffee", "pin": "4711"})
        kiosk.say("redeem", {"session": "11111111-2222", "reward": "coffee", "grant": grant}, offline=True)
        kiosk.say("raw", {"session": "11111111-2222", "bytes": "TC1.SECRET"})
        kiosk.say("end", {"session": "11111111-2222"})
        kiosk.line(kiosk.history[-1])  # again, as the network likes
        other.say("beat", {"version": "other"})

    rounds = [visited, lambda: kiosk.say("beat", {"version": "7"}), lambda: None]

    def ended(seconds: float) -> bool:
        assert seconds == 1.0
        rounds.pop(0)()
        return not rounds

    heard = list(tape.listen(shop.errand, kiosk.pen.device, ended))
    assert [one.kind for one in heard] == ["identify", "event", "event", "redeem", "end", "beat"]
    assert [one.after for one in heard] == [0.0, 2.5, 0.0, 0.0, 0.0, 0.0]
    file = tmp_path / "visit.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in heard))
    assert [one for one in ("ann", "4711", "1111", "SECRET", kiosk.pen.device) if one in file.read_text()] == []
    kiosk.say("beat", {})
    assert shop.stage.rows("SELECT * FROM vr_kiosk_recorded") == []
    assert shop.stage.rows("SELECT max(recorded_until) FROM vr_kiosk_device") == [(0,)]
    before = shop.stage.usable("bob")
    played, lines = play(shop.errand, str(file), fast=True, phone="bob", pin="4711")
    assert [one["status"] for one in played["answers"]] == ["done"] * 6 and lines[-1] == "6 / 6 done"
    assert shop.stage.usable("bob") == before + 3 + 3 - 50


def test_a_recorder_that_died_records_no_longer_than_a_minute(shop: Shop) -> None:
    kiosk = shop.pair()
    listening = tape.listen(shop.errand, kiosk.pen.device, lambda _: bool(kiosk.say("beat", {})))
    assert [one.kind for one in listening] == ["beat"]
    with shop.house.db.begin() as conn:
        store.change_device(conn, "shop", kiosk.pen.device, recorded_until=shop.stage.clock[0] + tape.LEASE)
    for seconds in (59, 2):
        shop.goes_by(seconds=seconds)
        kiosk.say("beat", {})
    assert len(shop.stage.rows("SELECT * FROM vr_kiosk_recorded")) == 1
    with pytest.raises(NotFound):
        next(tape.listen(shop.errand, "k-nobody", lambda _: True))


@pytest.mark.parametrize("text", ["dance", "redeem coffee", "raw bytes=1", 'beat "version=1'])
def test_what_cannot_be_done_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="expected"):
        sim.read_words(text)


@pytest.mark.parametrize("line", ["[]", '{"kind": 1}', '{"kind": "beat", "more": 1}', "{"])
def test_a_session_that_is_none_names_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "s.jsonl").write_text(msgspec.json.encode({"kind": "beat"}).decode() + "\n\n" + line)
    with pytest.raises(InvalidRequest, match=r"s\.jsonl, line 3"):
        sim.read_session(tmp_path / "s.jsonl")
