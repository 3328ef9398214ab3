"""Signals: numbers about one event that policies may name, each with a sentence that says what it is.  Pure.

Windows end with the event itself, which counts.  What is not known is 0: a policy that fires on 0 fires on everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from math import asin, cos, radians, sin, sqrt
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from tallystick.values import Text

from .memory import AWAKE, DAY, HOUR, NEW, Memory, Touch

#: The radius of the earth, in kilometres.
EARTH: Final = 6371
MINUTE: Final = 60
#: Receipts within that time may be one purchase.
RECEIPTS: Final = 15 * MINUTE
#: Purchases before the usual amount says anything.
KNOWN: Final = 5


class Moment(NamedTuple):
    """One event as signals see it."""

    at: int  #: seconds since 1970
    when: datetime
    what: str
    member: int
    enrolled: int
    memory: Memory
    store: str = ""
    device: str = ""
    cents: int = 0
    given: int = 0
    taken: int = 0
    flags: int = 0
    places: Mapping[tuple[str, str], int] = {}  #: kilometres between stores
    zone: ZoneInfo = ZoneInfo("UTC")
    devices: tuple[Touch, ...] = ()  #: what is remembered of the event's device, cashier and address
    cashiers: tuple[Touch, ...] = ()
    addresses: tuple[Touch, ...] = ()


class Signal(NamedTuple):
    """One number."""

    summary: Text
    measure: Callable[[Moment], int]
    shared: str = ""  #: whose memory it reads beside the member's: device, cashier or address


def distance(one: tuple[str, str], other: tuple[str, str]) -> int:
    """Kilometres between two places given as degrees of latitude and longitude in text.

    >>> distance(("40.80", "-73.95"), ("38.90", "-77.03"))
    339
    """
    north, east = radians(float(one[0])), radians(float(one[1]))
    north_, east_ = radians(float(other[0])), radians(float(other[1]))
    half = sin((north_ - north) / 2) ** 2 + cos(north) * cos(north_) * sin((east_ - east) / 2) ** 2
    return round(2 * EARTH * asin(sqrt(half)))


def _count(span: int, *whats: str) -> Callable[[Moment], int]:
    def measure(now: Moment) -> int:
        at, found = now.at, int(not whats or now.what in whats)
        for seen in now.memory.events:
            if at - span < seen.at <= at and (not whats or seen.what in whats):
                found += 1
        return found

    return measure


def _taken_day(now: Moment) -> int:
    return now.taken - sum([seen.points for seen in now.memory.since(now.at, DAY) if seen.points < 0])


def _given_day(now: Moment) -> int:
    return now.given + sum([seen.points for seen in now.memory.since(now.at, DAY) if seen.points > 0])


def _idle_days(now: Moment) -> int:
    memory = now.memory
    if not memory.last:
        return 0
    silent = now.at - memory.last
    if memory.gap and 0 <= now.at - memory.woke < AWAKE:
        silent = max(silent, memory.gap)
    return max(0, silent) // DAY


def _new_device(now: Moment) -> int:
    """A device counts as new for a week; the first one that is ever seen only if the member had been here before."""
    if not now.device or not now.memory.last:
        return 0
    known = {device.name: device.since for device in now.memory.devices}
    first = known.get(now.device, now.at)
    before = min(known.values(), default=now.at)
    return int(now.at - first < NEW and (before < first or now.memory.bought > 0))


def _devices_day(now: Moment) -> int:
    found = {seen.device for seen in now.memory.since(now.at, DAY) if seen.what != "buy"} | {now.device}
    return len(found - {""})


def _receipts(now: Moment) -> int:
    if now.what != "buy":
        return 0
    at, store, found = now.at, now.store, 1
    for seen in now.memory.events:
        if at - RECEIPTS < seen.at <= at and seen.what == "buy" and seen.store == store:
            found += 1
    return found


def _journey(now: Moment) -> tuple[int, int]:
    """The fastest journey of the last day that ends at this store: kilometres an hour, and kilometres."""
    if not now.store or not now.places:
        return 0, 0
    ways = []
    for seen in now.memory.since(now.at, DAY):
        apart = now.places.get((seen.store, now.store), 0)
        if apart:
            ways.append((apart * HOUR // max(MINUTE, now.at - seen.at), apart))
    return max(ways, default=(0, 0))


def _amount_percent(now: Moment) -> int:
    memory = now.memory
    return now.cents * 100 // memory.usual if memory.bought >= KNOWN and memory.usual and now.what == "buy" else 0


def _returned_percent(now: Moment) -> int:
    return now.memory.returned * 100 // now.memory.sold if now.memory.sold else 0


def _members_day(room: str) -> Callable[[Moment], int]:
    def measure(now: Moment) -> int:
        touches: tuple[Touch, ...] = getattr(now, room)
        return len({touch.member for touch in touches if now.at - DAY < touch.at <= now.at} | {now.member} - {0})

    return measure


def _touches_hour(room: str, what: str) -> Callable[[Moment], int]:
    def measure(now: Moment) -> int:
        touches: tuple[Touch, ...] = getattr(now, room)
        return (now.what == what) + sum(
            [touch.what == what and now.at - HOUR < touch.at <= now.at for touch in touches]
        )

    return measure


def _says(en: str, zh: str, measure: Callable[[Moment], int], shared: str = "") -> Signal:
    return Signal(Text({"en": en, "zh": zh}), measure, shared)


#: Every signal by the name that policies use: ``signal.redemptions_hour``.
SIGNALS: Final[Mapping[str, Signal]] = {
    "age_hours": _says("Hours since the member joined.", "入会小时数。", lambda now: max(0, now.at - now.enrolled) // HOUR),
    "age_days": _says("Days since the member joined.", "入会天数。", lambda now: max(0, now.at - now.enrolled) // DAY),
    "hour": _says("The hour of the day in the programme's zone.", "当地小时（0-23）。", lambda now: now.when.astimezone(now.zone).hour),
    "idle_days": _says("Days of silence before this event, or before the member awoke in the last two days.", "本次之前（或最近两天内恢复活动之前）的沉默天数。", _idle_days),
    "events_hour": _says("Events of the member within an hour.", "会员一小时内的事件数。", _count(HOUR)),
    "events_day": _says("Events of the member within a day.", "会员一天内的事件数。", _count(DAY)),
    "purchases_hour": _says("Purchases within an hour.", "一小时内的购买次数。", _count(HOUR, "buy")),
    "purchases_day": _says("Purchases within a day.", "一天内的购买次数。", _count(DAY, "buy")),
    "receipts": _says("Receipts of the same store within a quarter of an hour.", "一刻钟内同一门店的小票数。", _receipts),
    "redemptions_hour": _says("Redemptions within an hour.", "一小时内的兑换次数。", _count(HOUR, "spend")),
    "redemptions_day": _says("Redemptions within a day.", "一天内的兑换次数。", _count(DAY, "spend")),
    "gifts_day": _says("Gifts within a day.", "一天内的转赠次数。", _count(DAY, "give")),
    "points_taken": _says("Points this event takes from the member.", "本次扣除的积分。", lambda now: now.taken),
    "points_given": _says("Points this event gives.", "本次给予的积分。", lambda now: now.given),
    "points_taken_day": _says("Points taken within a day.", "一天内扣除的积分。", _taken_day),
    "points_given_day": _says("Points given within a day.", "一天内给予的积分。", _given_day),
    "failed_logins_hour": _says("Logins that failed within an hour.", "一小时内登录失败次数。", _count(HOUR, "fail")),
    "new_device": _says("1 on a device that was first seen within a week, if the member was here before.", "使用一周内首次出现的设备时为 1。", _new_device),
    "devices_day": _says("Devices of the member within a day.", "一天内使用的设备数。", _devices_day),
    "travel_km": _says("Kilometres from the store of an earlier event of the day, on the fastest journey.", "与当天此前门店的距离（公里，取最快行程）。", lambda now: _journey(now)[1]),
    "travel_kmh": _says("How fast the member must have travelled for it.", "所需的行进速度（公里/小时）。", lambda now: _journey(now)[0]),
    "amount": _says("What the purchase costs, in minor units.", "购买金额（最小货币单位）。", lambda now: now.cents),
    "amount_percent": _says("The purchase in percent of the member's usual one; 0 until five are known.", "购买金额占会员平常金额的百分比；少于五笔时为 0。", _amount_percent),
    "returned_percent": _says("How much of what the member ever bought came back, in percent of money.", "历来退货金额占比（百分比）。", _returned_percent),
    "returns": _says("Returns of the member so far.", "历来退货次数。", lambda now: now.memory.returns),
    "flags": _says("Watches that found something about the member, as long as it counts.", "仍然有效的监测标记数。", lambda now: now.flags),
    "device_members_day": _says("Members on the same device within a day.", "同一设备一天内的会员数。", _members_day("devices"), "device"),
    "device_redemptions_hour": _says("Redemptions on the same device within an hour.", "同一设备一小时内的兑换次数。", _touches_hour("devices", "spend"), "device"),
    "cashier_redemptions_hour": _says("Redemptions at the same cashier within an hour.", "同一收银员一小时内的兑换次数。", _touches_hour("cashiers", "spend"), "cashier"),
    "address_members_day": _says("Members at the same address within a day.", "同一地址一天内的会员数。", _members_day("addresses"), "address"),
    "address_failed_logins_hour": _says("Logins that failed at the same address within an hour.", "同一地址一小时内登录失败次数。", _touches_hour("addresses", "fail"), "address"),
}  # fmt: skip


def _found(en: str, zh: str) -> Text:
    return Text({"en": en, "zh": zh})


#: What is known of a subject after the commit, by the names that watches use.
FOUND: Final[Mapping[str, Mapping[str, Text]]] = {
    "cashier": {
        "sales": _found("Sales of the cashier within 30 days.", "收银员 30 天内的销售笔数。"),
        "members": _found("Members among them.", "涉及的会员数。"),
        "top_sales": _found("Sales with the card that is used most.", "使用最多的会员卡的笔数。"),
        "top_percent": _found("Their share of all sales, in percent.", "其占比（百分比）。"),
        "returns": _found("Returns at the cashier.", "退货笔数。"),
        "returned_percent": _found("Returned money in percent of sold.", "退货金额占比（百分比）。"),
        "redemptions": _found("Redemptions at the cashier.", "兑换次数。"),
        "adjusted": _found("Points the cashier gave by hand.", "手动给予的积分。"),
        "events": _found("Events at the cashier, of any kind.", "各类事件总数。"),
        "points": _found("Points taken at the cashier.", "扣除的积分。"),
    },
    "store": {
        "sales": _found("Sales of the store within 30 days.", "门店 30 天内的销售笔数。"),
        "returns": _found("Returns.", "退货笔数。"),
        "returned_percent": _found("Returned money in percent of sold.", "退货金额占比（百分比）。"),
        "redemptions": _found("Redemptions.", "兑换次数。"),
        "redemptions_hour": _found("Redemptions within an hour.", "一小时内的兑换次数。"),
        "events": _found("Events in the store, of any kind.", "各类事件总数。"),
        "points": _found("Points taken in the store.", "扣除的积分。"),
    },
    "device": {
        "members": _found("Members seen on the device within 7 days.", "7 天内使用该设备的会员数。"),
        "redeeming": _found("Members who redeemed or gave on it.", "在其上兑换或转赠的会员数。"),
        "joined": _found("Members who joined on it.", "在其上入会的会员数。"),
        "redemptions": _found("Redemptions and gifts on it.", "兑换与转赠次数。"),
        "points": _found("Points taken on it.", "扣除的积分。"),
        "events": _found("Events on it, of any kind.", "各类事件总数。"),
    },
    "address": {
        "members": _found("Members seen at the address within 7 days.", "7 天内在该地址出现的会员数。"),
        "redeeming": _found("Members who redeemed or gave there.", "在该地址兑换或转赠的会员数。"),
        "joined": _found("Members who joined there.", "在该地址入会的会员数。"),
        "redemptions": _found("Redemptions and gifts there.", "兑换与转赠次数。"),
        "points": _found("Points taken there.", "扣除的积分。"),
        "events": _found("Events there, of any kind.", "各类事件总数。"),
    },
    "member": {
        "purchases": _found("Purchases within 90 days.", "90 天内的购买次数。"),
        "returns": _found("Orders of those 90 days that came back, whole or in part.", "90 天内退回（含部分退回）的订单数。"),
        "returned_percent": _found("Returned money in percent of bought.", "退货金额占比（百分比）。"),
        "redeemed_returns": _found("Orders returned after points were spent within a day of the purchase.", "购买后一天内使用积分、随后退货的订单数。"),
        "givers": _found("Members who gave points to this one.", "向其转赠积分的会员数。"),
        "gifts": _found("Gifts the member made.", "转赠次数。"),
    },
    "inviter": {
        "invited": _found("Members whom this one invited within 30 days.", "30 天内邀请的会员数。"),
        "invited_idle": _found("Of them, who bought at most once, or for less than ten units of the currency.", "其中至多购买一次或金额不足十元者。"),
        "idle_percent": _found("Their share, in percent.", "其占比（百分比）。"),
        "shared": _found("Of them, who joined on one device or at one address.", "其中在同一设备或同一地址入会的人数。"),
    },
    "ring": {
        "size": _found("Members through whose hands points came back to where they started within 14 days.", "14 天内积分绕回起点所经过的会员数。"),
        "points": _found("Points given along the ring.", "沿环转赠的积分。"),
        "gifts": _found("Gifts along the ring.", "沿环转赠的次数。"),
    },
}  # fmt: skip
