"""How gamification says no, each with a public code."""

from __future__ import annotations

from tallystick.errors import Refused


class NotOffered(Refused):
    """This programme does not offer that, or not now."""

    code = "gamification_not_offered"
    chinese = "本计划不提供此项，或目前不提供。"


class NotEligible(Refused):
    """The member does not meet the condition."""

    code = "gamification_not_eligible"
    chinese = "会员不符合参与条件。"


class AlreadyCheckedIn(Refused):
    """The member has checked in on that local day, or on a later one."""

    code = "gamification_already_checked_in"
    chinese = "当日已签到。"


class AlreadyAnswered(Refused):
    """The member has answered this before."""

    code = "gamification_already_answered"
    chinese = "已参与过，不能重复提交。"


class BadAnswer(Refused):
    """The answers do not fit the questions."""

    code = "gamification_bad_answer"
    chinese = "答案与题目不符。"


class LimitReached(Refused):
    """The member has drawn as often as is allowed."""

    code = "gamification_limit_reached"
    chinese = "已达到抽奖次数上限。"


class DrawNotOpen(Refused):
    """No round of this draw is open: its seed has not been committed."""

    code = "gamification_draw_not_open"
    chinese = "该抽奖活动尚未开启或已结束。"


class DrawOpen(Refused):
    """A round of this draw is open already."""

    code = "gamification_draw_open"
    chinese = "该抽奖活动正在进行中。"


class DrawChanged(Refused):
    """The prizes are not those that the open round was committed with: close the round and open the next."""

    code = "gamification_draw_changed"
    chinese = "奖品设置已变更，请结束本轮后重新开启。"


class SelfReferral(Refused):
    """Nobody can invite themselves."""

    code = "gamification_self_referral"
    chinese = "不能邀请自己。"


class ReferralNotDue(Refused):
    """The invitation gives nothing, or not yet: no qualifying purchase stands long enough."""

    code = "gamification_referral_not_due"
    chinese = "邀请奖励的条件尚未满足。"
