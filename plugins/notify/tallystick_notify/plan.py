"""Whether, when and why a message goes over a channel.  Pure: the same in a test as at night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import attrs

#: Channels that reach a person unasked; the others wait until somebody looks, or speak to the shop.
PUSHES = frozenset({"mail", "sms", "wechat", "webpush", "plugin"})
#: Channels that speak to other systems or to the people of the shop: a member's wishes do not concern them.
SYSTEMS = frozenset({"webhook", "file", "apprise"})


@attrs.frozen(kw_only=True)
class Cap:
    """At most *most* messages of a purpose over a channel within *window*; empty: any."""

    most: int
    window: timedelta
    purpose: str = ""
    channel: str = ""

    def concerns(self, purpose: str, channel: str) -> bool:
        """Whether it counts messages of *purpose* over *channel*."""
        return self.purpose in ("", purpose) and self.channel in ("", channel)


@attrs.frozen(kw_only=True)
class Quiet:
    """From when until when nobody is disturbed, by the member's clock; it may span midnight."""

    since: time
    until: time

    def ends(self, now: datetime, zone: ZoneInfo) -> datetime | None:
        """When it is over, if *now* falls into it."""
        local = now.astimezone(zone)
        clock = local.time()
        if self.since <= self.until:
            inside = self.since <= clock < self.until
        else:
            inside = clock >= self.since or clock < self.until
        if not inside:
            return None
        day = local.date() + timedelta(days=1 if clock >= self.until else 0)
        return datetime.combine(day, self.until, zone)


@attrs.frozen(kw_only=True)
class Wish:
    """What a member last said about a purpose; an empty channel means all."""

    purpose: str
    channel: str
    given: bool
    at: int = 0  #: microseconds since 1970
    wording: str = ""  #: version of the text that was agreed to


@attrs.frozen(kw_only=True)
class Decision:
    """``due`` if it goes, else the ``reason`` why it does not."""

    due: datetime | None = None
    reason: str = ""


def allowed(purpose: str, channel: str, wishes: Sequence[Wish]) -> bool:
    """Marketing needs consent, anything else the absence of a refusal; a word about one channel outweighs one about all."""
    said: Mapping[str, bool] = {wish.channel: wish.given for wish in wishes if wish.purpose == purpose}
    return said.get(channel, said.get("", purpose != "marketing"))


def decide(
    *, purpose: str, channel: str, kind: str, purposes: Sequence[str], now: datetime, expires: datetime | None, zone: ZoneInfo,
    wishes: Sequence[Wish], quiet: Quiet | None, full: bool,
) -> Decision:  # fmt: skip
    """Decide about one message and one channel of *kind*; *full* says that a cap is reached."""
    if purpose not in purposes:
        return Decision(reason="not_offered")
    if expires is not None and expires <= now:
        return Decision(reason="expired")
    if kind in SYSTEMS:
        return Decision(due=now)
    if not allowed(purpose, channel, wishes):
        return Decision(reason="no_consent" if purpose == "marketing" else "withdrawn")
    if full:
        return Decision(reason="cap")
    if quiet is not None and kind in PUSHES and purpose != "service" and (ends := quiet.ends(now, zone)) is not None:
        return Decision(due=ends) if expires is None or ends < expires else Decision(reason="quiet")
    return Decision(due=now)


#: How long an undeliverable message is tried again.
PATIENCE = timedelta(days=3)
_FIRST, _LONGEST = timedelta(seconds=5), timedelta(hours=8)


def next_attempt(attempts: int, created: datetime, now: datetime, chance: float) -> datetime | None:
    """When to try again after *attempts* failures, *chance* in [0, 1) apart from others; None if it was long enough."""
    wait = min(_FIRST * 4 ** min(attempts - 1, 10), _LONGEST) * (0.8 + 0.4 * chance)
    return now + wait if now + wait < created + PATIENCE else None
