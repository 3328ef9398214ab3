"""How risk says no, each with a public code."""

from __future__ import annotations

from tallystick.errors import NotFound, Refused


class UnknownCase(NotFound):
    """There is no such case."""

    code = "risk_unknown_case"
    chinese = "没有这样的案件。"


class CaseDecided(Refused):
    """The case was decided already."""

    code = "risk_case_decided"
    chinese = "该案件已有结论。"


class SamePerson(Refused):
    """Whoever made an adjustment cannot decide about it."""

    code = "risk_same_person"
    chinese = "经办人不能审批自己的操作。"


class NoChallenge(Refused):
    """Nothing waits for a challenge under this entry."""

    code = "risk_no_challenge"
    chinese = "该流水没有待完成的验证。"


class UnknownCapability(Refused):
    """This programme knows no such capability."""

    code = "risk_unknown_capability"
    chinese = "没有这样的权限项。"
