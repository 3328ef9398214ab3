"""How tiers say no, each with a public code."""

from __future__ import annotations

from tallystick.errors import Refused


class UnknownTier(Refused):
    """No ladder here has such a tier."""

    code = "tiers_unknown_tier"
    chinese = "没有这样的等级。"


class NotJoinable(Refused):
    """The tier is earned; nobody can join it."""

    code = "tiers_not_joinable"
    chinese = "该等级须靠累积获得，不能购买加入。"


class UnknownRate(Refused):
    """The programme knows no exchange rate for the order's currency on that day."""

    code = "tiers_unknown_rate"
    chinese = "当日没有该订单币种的汇率。"


class BadReviewDay(Refused):
    """A review looks at today or at the last days; other days can only be tried."""

    code = "tiers_bad_review_day"
    chinese = "复核只能针对今天或最近几天；其他日期只能试算。"
