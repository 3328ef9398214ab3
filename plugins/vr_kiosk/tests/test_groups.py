"""Frames taken together come to the same as one by one; and a house that dies in between does nothing twice."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from plugins.vr_kiosk.tests.conftest import Shop
from tallystick.errors import TallyError
from tallystick_vr_kiosk import desk, store
from tallystick_vr_kiosk.commands import card
from tallystick_vr_kiosk.desk import Desk
from tallystick_vr_kiosk.sim import Device


def at(shop: Shop) -> Desk:
    return Desk(shop.house, "shop", shop.errand.plugin.settings, shop.stage.now)


def told(taken: desk.Taken) -> Any:
    """What a device would read, without what differs between twins: numbers of entries, and balances of the moment."""
    found: Any = taken
    if not isinstance(found, desk.Answer | TallyError):
        found = found.result()
    if isinstance(found, TallyError):
        return found.code
    said = dict(found.said)
    for name in ("entry", "usable", "pending", "allowances"):
        said.pop(name, None)
    return found.status, found.counter, found.code, found.expected, msgspec.json.encode(said)


class Twin:
    """Four devices and three members of one of two worlds in which the same happens."""

    def __init__(self, shop: Shop, world: str) -> None:
        self.shop = shop
        self.members = [f"{world}-{name}" for name in ("ann", "bob", "cyd")]
        shop.stage.enrol(*self.members)
        for name in self.members:
            shop.buys(name, 120)
            shop.pin(name, "4711")
        self.cards = [card(shop.errand, name)[0]["code"] for name in self.members]
        self.devices = [shop.pair(f"{world} {n}") for n in range(4)]
        self.grants = [shop.grant(device, 100) for device in self.devices]

    def write(self, chance: random.Random) -> list[tuple[int, bytes]]:
        """What the network brings, in its order: late, again, with holes, and from a copy of a device."""
        brought = []
        for place, device in enumerate(self.devices):
            self._say(chance, device, place)
            written = [(place, body) for body in device.history]
            if place == 3:  # somebody copied this one
                copy = type(device.pen)(device.pen.device, device.pen.epoch, device.pen.key)
                written.insert(6, (place, copy.write("beat", {"version": "copy"}, at=self.shop.stage.now)))
            brought.append(written)
        order = []
        while any(brought):
            lane = chance.choice([lane for lane in brought if lane])
            if chance.random() < 0.1 and len(lane) > 1:
                order.append(lane[1])  # the next one is here before it
            order.append(lane.pop(0))
            if chance.random() < 0.2:
                order.append(chance.choice(order))
        return order

    def _say(self, chance: random.Random, device: Device, place: int) -> None:
        self.shop.cut = True
        member = chance.randrange(3)
        device.say("identify", {"code": self.cards[member]}, operation="here")
        for n in range(10):
            match chance.randrange(9):
                case 0:
                    device.say("beat", {"version": f"v{n}"})
                case 1 | 2 | 3:
                    facts = {"showroom": "spring", "spot": chance.choice(("teapot", "lamp", "sofa"))}
                    offline = chance.random() < 0.5
                    data = {"session": "here", "type": "vr_kiosk.touched", "facts": facts}
                    device.say("event", data, operation=chance.choice((f"t{n}", "same")), offline=offline)
                case 4:
                    facts = {"showroom": "spring", "product": "lamp", "odd": 1.5}
                    device.say("event", {"session": "here", "type": "vr_kiosk.wished", "facts": facts})
                case 5:
                    device.say("event", {"session": "here", "type": "gamification.checked_in", "facts": {"x": n}})
                case 6:
                    device.say(
                        "redeem", {"session": "here", "reward": "coffee", "pin": chance.choice(("", "4711", "1"))}
                    )
                case 7:
                    data = {"session": "here", "reward": "coffee", "grant": self.grants[place]}
                    device.say("redeem", data, offline=True)
                case _:
                    device.say("identify", {"code": chance.choice((self.cards[member], "TC1.X", "nonsense"))})
        device.say("end", {"session": "here"})
        self.shop.cut = False
        device.queue.clear()

    def left(self) -> Any:
        """What is written in the end, in the words of both worlds."""
        names = {device.pen.device: n for n, device in enumerate(self.devices)}
        stage, rows = self.shop.stage, []
        for n, name in enumerate(self.members):
            number = stage.number(name)
            rows.append((n, stage.usable(name), sorted(record.kind for record in stage.records(name))))
            for table, columns in (("found", "showroom, spot"), ("wish", "product")):
                found = stage.rows(f"SELECT {columns} FROM vr_kiosk_{table} WHERE member = {number}")
                rows.append((n, table, sorted(map(tuple, found))))
        for id, n in names.items():
            device = f"device = '{id}'"
            states = f"SELECT state, counter, offline_events, version FROM vr_kiosk_device WHERE id = '{id}'"
            rows.append((n, [tuple(row) for row in stage.rows(states)]))
            frames = stage.rows(f"SELECT counter FROM vr_kiosk_frame WHERE {device} AND answer <> ''")
            alarms = stage.rows(f"SELECT code FROM vr_kiosk_alarm WHERE {device}")
            tries = stage.rows(f"SELECT count FROM vr_kiosk_attempt WHERE who = '{id}'")
            rows.append((n, sorted(map(tuple, frames)), sorted(map(tuple, alarms)), sorted(map(tuple, tries))))
        return rows


@pytest.mark.parametrize("seed", range(3))
def test_frames_taken_together_come_to_the_same_as_one_by_one(shop: Shop, seed: int) -> None:
    single, many = Twin(shop, "one"), Twin(shop, "many")
    order = single.write(random.Random(seed))
    chance = random.Random(seed + 100)
    expected = []
    for place, body in order:
        try:
            expected.append(told(at(shop).take(single.devices[place].pen.device, body)))
        except TallyError as refusal:
            expected.append(refusal.code)
    waiting = many.write(random.Random(seed))
    assert [place for place, _ in waiting] == [place for place, _ in order]
    found: list[Any] = []
    while waiting:
        group: list[tuple[int, bytes]] = []
        while waiting and len(group) < chance.randrange(1, 5) and waiting[0][0] not in {place for place, _ in group}:
            group.append(waiting.pop(0))
        answers = at(shop).take_all([(many.devices[place].pen.device, body) for place, body in group])
        found += [told(answer) for answer in answers]
    assert found == expected
    assert many.left() == single.left()
    assert len({answer[0] if isinstance(answer, tuple) else answer for answer in expected}) >= 4


def fork_and_die(shop: Shop, work: Callable[[], None]) -> None:
    """Do *work* in a copy of this process, which is killed at the place that it chose."""
    child = os.fork()
    if not child:
        try:
            shop.house.db.dispose(close=False)  # the connections are the parent's
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def die(*_args: object, **_more: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("where", ["numbers taken", "recorded", "answers kept"])
def test_a_house_killed_within_a_group_does_nothing_twice_and_answers_alike(
    shop: Shop, where: str, tmp_path: Path
) -> None:
    kiosks = [shop.pair(f"kiosk {n}") for n in range(3)]
    for name in ("ann", "bob"):
        shop.buys(name, 100)
    kiosks[0].say("identify", {"code": shop.code("ann")}, operation="here")
    kiosks[1].say("identify", {"code": shop.code("bob")}, operation="here")
    shop.cut = True
    facts = {"showroom": "spring", "spot": "lamp"}
    kiosks[0].say("event", {"session": "here", "type": "vr_kiosk.touched", "facts": facts})
    kiosks[1].say("redeem", {"session": "here", "reward": "coffee"})
    kiosks[2].say("beat", {"version": "1"})
    group = [(kiosk.pen.device, kiosk.history[-1]) for kiosk in kiosks]

    def sent(answers: Sequence[desk.Taken]) -> list[bytes]:
        return [answer.encoded() for answer in answers if isinstance(answer, desk.Answer)]

    def work() -> None:
        if where == "numbers taken":
            Desk._record = die  # type: ignore[method-assign,assignment]
        elif where == "recorded":
            store.keep_found = die  # type: ignore[assignment]
        answers = sent(at(shop).take_all(group))
        (tmp_path / "said").write_bytes(b"\n".join(answers))
        die()

    fork_and_die(shop, work)
    if where == "answers kept":
        shop.buys("ann", 7)  # what she has changes: what she was told then does not
    again = sent(at(shop).take_all(group))
    assert [msgspec.json.decode(one)["status"] for one in again] == ["done"] * 3
    if where == "answers kept":
        assert b"\n".join(again) == (tmp_path / "said").read_bytes()
    assert sent(at(shop).take_all(group)) == again
    assert (shop.stage.usable("ann"), shop.stage.usable("bob")) == (110 if where == "answers kept" else 103, 50)
    assert [record.kind for record in shop.stage.records("bob")].count("vr_kiosk.redeemed") == 1


def test_the_same_operation_under_another_number_is_done_once(shop: Shop) -> None:
    shop.buys("ann", 200)
    kiosk = shop.pair()
    session = shop.identify(kiosk, "ann")
    said = [kiosk.say("redeem", {"session": session, "reward": "coffee"}, operation="one coffee") for _ in range(3)]
    assert [one and one["status"] for one in said] == ["done"] * 3
    assert len({one["said"]["entry"] for one in said if one}) == 1 and shop.stage.usable("ann") == 150
