"""Sessions: what is typed is done and written down, and comes to the same when it is played again."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest

from plugins.vr_kiosk.tests.conftest import Shop
from tallystick.errors import InvalidRequest
from tallystick_vr_kiosk import sim
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


@pytest.mark.parametrize("text", ["dance", "redeem coffee", "raw bytes=1", 'beat "version=1'])
def test_what_cannot_be_done_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="expected"):
        sim.read_words(text)


@pytest.mark.parametrize("line", ["[]", '{"kind": 1}', '{"kind": "beat", "more": 1}', "{"])
def test_a_session_that_is_none_names_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "s.jsonl").write_text(msgspec.json.encode({"kind": "beat"}).decode() + "\n\n" + line)
    with pytest.raises(InvalidRequest, match=r"s\.jsonl, line 3"):
        sim.read_session(tmp_path / "s.jsonl")
