"""Every minute: ask how transfers ended that wait for an answer, and tell partners what came back."""

from __future__ import annotations

from datetime import timedelta

from tallystick.errors import TallyError
from tallystick.ledger import instant

from . import store
from .desk import Desk, Errand, partner_of
from .exchange import Unreachable, resolve, tell_return

#: A transfer is left alone so long: whoever began it ends it, as a rule.
PATIENCE = timedelta(seconds=30)
#: What is asked about in one turn.
AT_ONCE = 500


def ask(errand: Errand) -> int:
    """Ask about what has waited long enough; how much came to an end."""
    return settle_waiting(errand, PATIENCE)


def settle_waiting(errand: Errand, patience: timedelta) -> int:
    """Bring to an end what has waited for *patience*; how much did."""
    desk = Desk(errand)
    with errand.house.db.connect() as conn:
        found = store.list_waiting(conn, errand.tenant, instant(errand.now - patience), AT_ONCE)
    ended = 0
    for row in found:
        try:
            partner = partner_of(desk, row.partner)
            if row.n:
                if not tell_return(desk, partner, row.transfer, row.n, row.before, row.period):
                    continue  # it is told again; if the partner never takes it, the month ends in a dispute
                with errand.house.db.begin() as conn:
                    store.heard(conn, errand.tenant, row.partner, row.transfer, row.n)
            else:
                resolve(desk, partner, row.transfer)
            ended += 1
        except (Unreachable, TallyError):
            continue  # it is asked again
    return ended
