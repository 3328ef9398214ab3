"""What happens by the clock: every few seconds deliveries, every minute the mail that came back."""

from __future__ import annotations

import hmac
from concurrent.futures import FIRST_COMPLETED, wait
from time import monotonic

from tallystick.ledger import instant

from . import store
from .errands import Errand, proof
from .mail import read_bounce
from .planning import plan
from .sending import begin, lane_of

#: Seconds a turn goes on while there is something to do, and waits for its last deliveries; slower ones go on without it.
TURN, PATIENCE = 1.5, 0.5
#: Bytes of a letter that came back, and how many are read in one turn.
LARGEST, LETTERS = 256 * 1024, 500


def deliver(errand: Errand) -> int:
    """Plan, then send, as long as there is something to do; how many deliveries were begun."""
    ends, number = monotonic() + TURN, 0
    ways = errand.plugin.settings.ways
    while True:
        planned, begun = plan(errand), [begin(errand, way) for way in ways]
        number += sum(begun)
        under_way = [future for way in ways for future in lane_of(errand, way).under_way]
        if not (planned or any(begun)) or monotonic() > ends:
            wait(under_way, PATIENCE)
            return number
        wait(under_way, 0.05, FIRST_COMPLETED)


def read_bounces(errand: Errand) -> int:
    """Read what lies in the Maildirs of mail channels; how many letters there were."""
    number = 0
    for way in errand.plugin.settings.ways:
        for path in sorted((way.bounces / "new").iterdir())[:LETTERS] if way.bounces is not None else ():
            with path.open("rb") as file:
                take_bounce(errand, file.read(LARGEST))
            path.rename(way.bounces / "cur" / f"{path.name}:2,S")  # type: ignore[operator]  # seen: mypy forgets the if
            number += 1
    return number


def take_bounce(errand: Errand, raw: bytes) -> str:
    """Write down what a mail server tells; ``bounced``, ``delivered``, or empty where it is no news of a letter of ours."""
    told = read_bounce(raw)
    if told is None or told.action not in ("failed", "delivered"):
        return ""
    for way in errand.plugin.settings.ways:
        right = proof(errand.house.secret, errand.tenant, way.name, told.message)
        if way.kind != "mail" or not hmac.compare_digest(right, told.proof):
            continue
        with errand.house.db.begin() as conn:
            now = instant(errand.now)
            if told.action == "delivered":
                return "delivered" * store.note(conn, errand.tenant, told.message, way.name, "delivered", now)
            reason = f"bounced_{told.status or 'failed'}"
            return "bounced" * store.bounced(conn, errand.tenant, told.message, way.name, reason, now)
    return ""
