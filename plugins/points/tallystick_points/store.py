"""Which members have points that are about to expire: read from the core's lots, through their index."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from tallystick.ledger import instant, moment
from tallystick.queries import Reading
from tallystick.tables import lot


def list_expiring(
    reading: Reading,
    tenant: str,
    unit: str,
    after: datetime,
    until: datetime,
    *,
    behind: int = -1,
    limit: int = 100_000,
) -> list[tuple[int, datetime]]:
    """(member, last of their expiries) for members with something left in a lot that expires in (*after*, *until*].

    In the order of members, at most *limit* of those *behind* a number.
    """
    query = (
        sa.select(lot.c.member, sa.func.max(lot.c.expires_at))
        .where(lot.c.tenant == tenant, lot.c.expires_at > instant(after), lot.c.expires_at <= instant(until))
        .where(lot.c.remaining > 0, lot.c.unit == unit, lot.c.member > behind)
        .group_by(lot.c.member)
        .order_by(lot.c.member)
        .limit(limit)
    )
    with reading() as conn:
        return [(member, moment(last)) for member, last in conn.execute(query)]
