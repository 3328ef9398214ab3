"""How the coalition says no, each with a public code.

What a partner is told is one and the same for a member it does not know, who did not agree, or was forgotten: not_possible.
"""

from __future__ import annotations

from tallystick.errors import Refused


class NotAgreed(Refused):
    """The agreement is not what both brands must have signed."""

    code = "coalition_not_agreed"
    chinese = "协议无效：须由双方签署，且内容合规。"


class NotPossible(Refused):
    """This cannot be done with this partner, or not for this member."""

    code = "coalition_not_possible"
    chinese = "无法与该合作方为此会员办理。"


class OutsideTerms(Refused):
    """The agreement in force has no terms for this."""

    code = "coalition_outside_terms"
    chinese = "现行协议未约定此项。"


class ExposureReached(Refused):
    """The partner's limit, or the member's for that day, would be exceeded."""

    code = "coalition_limit_reached"
    chinese = "超出与该合作方的额度或会员当日限额。"


class TransferClosed(Refused):
    """This transfer was decided otherwise."""

    code = "coalition_transfer_closed"
    chinese = "该笔转移已按其他方式了结。"


class UnknownTransfer(Refused):
    """There is no such transfer."""

    code = "coalition_unknown_transfer"
    chinese = "没有这笔转移。"


class Mismatch(Refused):
    """The two sides do not say the same of a transfer."""

    code = "coalition_mismatch"
    chinese = "双方对该笔转移的记载不一致。"


class AliasTaken(Refused):
    """The code belongs to another member, or the member has another code."""

    code = "coalition_alias_taken"
    chinese = "该联盟码已被占用，或会员已有其他联盟码。"


class NotHeard(Refused):
    """The message is not signed by this partner, not of this time, or was heard before."""

    code = "coalition_not_heard"
    chinese = "消息未经该合作方签署、已过时或重复。"
