"""How devices are refused, each way with a public code.  What a stranger could learn from a difference, is said alike."""

from __future__ import annotations

from tallystick.errors import Refused


class BadFrame(Refused):
    """The message is not from this device, or not as devices write."""

    code = "vr_kiosk_bad_frame"
    chinese = "设备消息无效。"


class DeviceRefused(Refused):
    """The device was revoked or set aside; it must be paired anew."""

    code = "vr_kiosk_device_refused"
    chinese = "设备已停用，请重新配对。"


class CodeRefused(Refused):
    """The code identifies nobody."""

    code = "vr_kiosk_code_refused"
    chinese = "识别码无效。"


class TooManyTries(Refused):
    """Too many wrong codes; wait a minute."""

    code = "vr_kiosk_too_many_tries"
    chinese = "尝试次数过多，请一分钟后再试。"


class SessionEnded(Refused):
    """The session has ended; identify again."""

    code = "vr_kiosk_session_ended"
    chinese = "会话已结束，请重新识别。"


class ConfirmationNeeded(Refused):
    """This needs the member's PIN."""

    code = "vr_kiosk_confirmation_needed"
    chinese = "此操作需要会员输入 PIN。"


class NotOffered(Refused):
    """The kiosk does not offer that."""

    code = "vr_kiosk_not_offered"
    chinese = "本设备不提供此项。"


class AllowanceSpent(Refused):
    """The device has no allowance left for that, or it has ended."""

    code = "vr_kiosk_allowance_spent"
    chinese = "设备的离线额度不足或已到期。"


class OfflineLimit(Refused):
    """The device has sent as many events from the time without network as it may."""

    code = "vr_kiosk_offline_limit"
    chinese = "设备离线事件数量已达上限。"


class NoPrinter(Refused):
    """No receipt printer stands where the device stands, or none was heard of in the last minute."""

    code = "vr_kiosk_no_printer"
    chinese = "此处没有可用的小票打印机。"


class PairingEnded(Refused):
    """The letters are wrong, used, or older than ten minutes."""

    code = "vr_kiosk_pairing_ended"
    chinese = "配对码错误、已使用或已过期。"
