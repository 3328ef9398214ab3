"""How points say no, each with a public code."""

from __future__ import annotations

from tallystick.errors import Refused


class UnknownRate(Refused):
    """The programme knows no exchange rate for the order's currency on that day."""

    code = "points_unknown_rate"


class NotOffered(Refused):
    """This programme does not offer that, or not now."""

    code = "points_not_offered"


class NotEligible(Refused):
    """The member does not meet the condition for this reward."""

    code = "points_not_eligible"


class BadGift(Refused):
    """Points cannot be given like that."""

    code = "points_bad_gift"
