"""Every minute: ask how transfers ended that wait for an answer, and tell partners what came back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from tallystick.errors import TallyError
from tallystick.ledger import instant

from . import store
from .convoy import resolve_many
from .desk import Desk, Errand, Neighbour, partner_of
from .exchange import Done, Unreachable, resolve, tell_return

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
    with errand.house.reading() as conn:
        found = store.list_waiting(conn, errand.tenant, instant(errand.now - patience), AT_ONCE)
    ended, held = 0, dict[str, list[str]]()
    for row in found:
        if not row.n:
            held.setdefault(row.partner, []).append(row.transfer)
            continue
        with suppress(
            Unreachable, TallyError
        ):  # it is told again; if the partner never takes it, the month ends in a dispute
            if tell_return(desk, partner_of(desk, row.partner), row.transfer, row.n, row.before, row.period):
                _over(desk, row.partner, [row.transfer], row.n)
                ended += 1
    return ended + sum(_resolve(desk, partner, transfers) for partner, transfers in held.items())


def _resolve(desk: Desk, name: str, transfers: Sequence[str]) -> int:
    """Ask a partner about transfers that are held; how many came to an end.  The others are asked about again."""
    over = []
    with suppress(Unreachable, TallyError):
        partner = partner_of(desk, name)
        if isinstance(partner, Neighbour):
            found = resolve_many(desk, partner, transfers)
            over = [each.transfer for each in found if isinstance(each, Done) and each.state != "held"]
        else:
            for transfer in transfers:
                with suppress(Unreachable, TallyError):
                    resolve(desk, partner, transfer)
                    over.append(transfer)
    _over(desk, name, over, 0)  # where several processes write, the books may hear of an end before its beginning
    return len(over)


def _over(desk: Desk, partner: str, transfers: Sequence[str], n: int) -> None:
    with desk.errand.house.db.begin() as conn:
        for transfer in transfers:
            store.heard(conn, desk.errand.tenant, partner, transfer, n)
