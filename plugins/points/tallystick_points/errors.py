"""How points say no, each with a public code."""

from __future__ import annotations

from tallystick.errors import Refused


class UnknownRate(Refused):
    """The programme knows no exchange rate for the order's currency on that day."""

    code = "points_unknown_rate"
    chinese = "当日没有该订单币种的汇率。"


class NotOffered(Refused):
    """This programme does not offer that, or not now."""

    code = "points_not_offered"
    chinese = "本计划不提供此项，或目前不提供。"


class NotEligible(Refused):
    """The member does not meet the condition for this reward."""

    code = "points_not_eligible"
    chinese = "会员不符合兑换该礼品的条件。"


class BadGift(Refused):
    """Points cannot be given like that."""

    code = "points_bad_gift"
    chinese = "不能这样转赠积分。"
