"""``tally demo --kiosk``: a kiosk that pairs itself, and members of the demo who may try it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from tallystick import people, queries
from tallystick.errors import TallyError
from tallystick.ledger import instant

from . import care, store

#: How long the address pairs a kiosk by itself.
LINK: Final = timedelta(hours=1)
#: The PIN of the members who may try it.
PIN: Final = "2017"
#: So many members may, those with the most points; households of the data are numbered from 1.
MEMBERS: Final = 3
HOUSEHOLDS: Final = 2_500


def open_kiosk(visit: Any, *, url: str, language: str = "en") -> tuple[Any, list[str]]:
    """A link that pairs the first browser that opens it, and whom to try it with."""
    _stock(visit)
    until = visit.now + LINK
    address = f"{url}/v1/vr_kiosk/kiosk/#{care.invite(visit, 'Demo', until)}"
    members = [{"member": name, "pin": PIN, "usable": usable} for name, usable in _richest(visit)]
    said = (
        "在浏览器中打开，一小时内首次打开会自动配对。选择“手机号与 PIN”：" if language == "zh"
        else 'Open it in a browser: within an hour, the first to open it is paired. Choose "Phone and PIN":'
    )  # fmt: skip
    word = ("会员", "积分") if language == "zh" else ("member", "points")
    lines = [
        address,
        said,
        *(f"{word[0]} {one['member']}   PIN {PIN}   {one['usable']:,} {word[1]}" for one in members),
    ]
    return {"url": address, "until": until.isoformat(), "members": members}, lines


def _stock(visit: Any) -> None:
    """Bring two dozen mugs, once."""
    with visit.house.reading() as conn:
        if store.stock_left(conn, visit.tenant, ["vr_kiosk:reward/mug"]):
            return
    brought = {"reward": "mug", "pieces": 24}
    event = {"id": "demo/mugs", "source": "demo", "type": "vr_kiosk.stocked", "data": brought}
    [outcome] = visit.record([{**event, "time": visit.now.isoformat()}])
    if isinstance(outcome, TallyError):
        raise outcome


def _richest(visit: Any) -> list[tuple[str, int]]:
    """The members with the most points, by the numbers of their households; each gets the PIN."""
    now, unit = instant(visit.now), visit.plugin.settings.unit
    with visit.house.db.begin() as conn:
        known = people.find(conn, visit.house.secret, visit.tenant, [str(n) for n in range(1, HOUSEHOLDS + 1)])
        purses = queries.balances_of(conn, visit.tenant, {row.number for row in known.values()}, now)
        usable = {
            name: purse[unit].usable for name, row in known.items() if unit in (purse := purses.get(row.number, {}))
        }
        found = sorted(usable, key=lambda name: (-usable[name], int(name)))[:MEMBERS]
        for name in found:
            store.set_pin(conn, visit.tenant, known[name].number, PIN, now)
    return [(name, usable[name]) for name in found]
