"""What a merchant can set, what holds if nothing is set, and the frozen objects that everything else reads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal

import attrs

from tallystick import values
from tallystick.values import Text

from .signals import FOUND

PURCHASE: Final = "purchase.completed"
REDEEMED: Final = "points.redeemed"
GIFTED: Final = "points.gifted"
ADJUSTED: Final = "points.adjusted"
OBSERVED: Final = "risk.observed"
Verdict = Literal["hold", "step_up", "deny"]
End = Literal["released", "voided"]

#: The numbers that the shipped policies and watches compare with; a merchant sets them under ``limits``.
LIMITS: Final[Mapping[str, int]] = {
    "fresh_hours": 24,
    "fresh_points": 200,
    "sleep_days": 45,
    "redemptions_hour": 5,
    "receipts": 4,
    "travel_km": 50,
    "travel_kmh": 200,
    "amount_percent": 1_000,
    "amount": 20_000,
    "device_members": 4,
    "failed_logins": 5,
    "adjustment": 5_000,
    "card_sales": 10,
    "card_percent": 8,
    "redeeming_members": 4,
    "invited": 6,
    "invited_idle_percent": 70,
    "invited_shared": 4,
    "ring_size": 3,
    "returns": 5,
    "returned_percent": 40,
    "redeemed_returns": 2,
}


@attrs.frozen(kw_only=True)
class Policy:
    """What is said of an event, before it is written, if the condition holds."""

    name: str
    on: tuple[str, ...]
    when: str
    verdict: Verdict
    reason: Text
    gentle: Text
    after: timedelta
    end: End
    monitor: bool


@attrs.frozen(kw_only=True)
class Watch:
    """What is looked for after the commit; who is found is flagged for a while, and a case is opened."""

    name: str
    subject: str
    when: str
    reason: Text
    flag: timedelta  #: 0: nobody is flagged
    monitor: bool


@attrs.frozen(kw_only=True)
class Settings:
    """The plugin as one merchant has set it up."""

    policies: tuple[Policy, ...]
    watches: tuple[Watch, ...]
    limits: Mapping[str, int]
    stores: Mapping[str, tuple[str, str]] = {}
    capabilities: Mapping[str, tuple[str, ...]] = {}
    keep: timedelta = timedelta(days=180)
    monitor: bool = False
    after: timedelta = timedelta(hours=72)  #: how long a hold waits that no policy of ours speaks for
    end: End = "voided"


#: What members read where nothing better is said.
GENTLE: Final = Text(
    {
        "en": "We are looking at this before it is completed. You need not do anything; nothing is lost.",
        "zh": "我们正在核对这笔操作，您无需做任何事，积分不会丢失。",
    }
)
CHALLENGE: Final = Text(
    {
        "en": "Please confirm that it is you, in the app or with your PIN at the till.",
        "zh": "请在应用内或在收银台输入密码，确认是您本人操作。",
    }
)
RESTRICTED: Final = Text(
    {
        "en": "This is not available for your account at present. Please ask our staff.",
        "zh": "您的账户暂时无法使用此功能，请联系工作人员。",
    }
)
CAPABILITIES: Final = {"redeem": (REDEEMED,), "gift": (GIFTED,)}

#: The shipped policies, as a merchant would write them.
POLICIES: Final[tuple[Mapping[str, Any], ...]] = (
    {
        "name": "fresh_spender", "on": [REDEEMED, GIFTED],
        "when": "signal.age_hours < limit.fresh_hours && signal.points_taken_day >= limit.fresh_points",
        "reason": {"en": "The account is new and spends already.", "zh": "新账户入会不久即使用积分。"},
    },
    {
        "name": "sleeper", "on": [REDEEMED, GIFTED], "verdict": "step_up",
        "when": "signal.idle_days >= limit.sleep_days && signal.new_device == 1",
        "reason": {"en": "The account was silent for long and is used on a new device.", "zh": "账户长期沉默后在新设备上使用。"},
    },
    {
        "name": "points_burst", "on": [REDEEMED, GIFTED], "when": "signal.redemptions_hour >= limit.redemptions_hour",
        "reason": {"en": "Many redemptions within an hour.", "zh": "一小时内多次兑换。"},
    },
    {
        "name": "busy_device", "on": [REDEEMED, GIFTED], "when": "signal.device_members_day >= limit.device_members",
        "reason": {"en": "Many members use one device to spend.", "zh": "多个会员在同一设备上使用积分。"},
    },
    {
        "name": "guessed_password", "on": [REDEEMED, GIFTED], "verdict": "step_up",
        "when": "signal.failed_logins_hour >= limit.failed_logins",
        "reason": {"en": "Many logins failed just before.", "zh": "此前多次登录失败。"},
    },
    {
        "name": "watched", "on": [REDEEMED, GIFTED], "when": "signal.flags > 0",
        "reason": {"en": "A watch has found something about the member.", "zh": "监测曾标记该会员。"},
    },
    {
        "name": "split_receipts", "on": [PURCHASE], "when": "signal.receipts >= limit.receipts", "end": "released",
        "reason": {"en": "One purchase seems to be split into many receipts.", "zh": "疑似将一笔购买拆成多张小票。"},
    },
    {
        "name": "cloned_card", "on": [PURCHASE, REDEEMED],
        "when": "signal.travel_km >= limit.travel_km && signal.travel_kmh >= limit.travel_kmh", "end": "released",
        "reason": {"en": "The card was used in two places too far apart.", "zh": "同一会员卡短时间内在相距过远的两地使用。"},
    },
    {
        "name": "padded_sale", "on": [PURCHASE], "end": "released",
        "when": "signal.amount_percent >= limit.amount_percent && signal.amount >= limit.amount",
        "reason": {"en": "The purchase is far above what the member usually buys.", "zh": "购买金额远高于会员平常水平。"},
    },
    {
        "name": "second_person", "on": [ADJUSTED], "after": "14d",
        "when": "facts.approved_by == '' && signal.points_given + signal.points_taken >= limit.adjustment",
        "reason": {"en": "A large adjustment by hand waits for a second person.", "zh": "大额手动调整须由第二人复核。"},
    },
)  # fmt: skip

#: The shipped watches.
WATCHES: Final[tuple[Mapping[str, Any], ...]] = (
    {
        "name": "own_card", "subject": "cashier",
        "when": "signal.top_sales >= limit.card_sales && signal.top_percent >= limit.card_percent",
        "reason": {"en": "One card stands in many of a cashier's sales.", "zh": "同一会员卡在某收银员的销售中占比过高。"},
    },
    {
        "name": "shared_device", "subject": "device", "when": "signal.redeeming >= limit.redeeming_members",
        "reason": {"en": "Many members spend on one device.", "zh": "多个会员在同一设备上使用积分。"},
    },
    {
        "name": "referral_farm", "subject": "inviter",
        "when": "signal.invited >= limit.invited && signal.idle_percent >= limit.invited_idle_percent && signal.shared >= limit.invited_shared",
        "reason": {"en": "Invited members share a device and hardly buy.", "zh": "受邀会员共用设备且几乎不消费。"},
    },
    {
        "name": "gift_ring", "subject": "ring", "when": "signal.size >= limit.ring_size",
        "reason": {"en": "Points went around and came back.", "zh": "积分在多个会员之间循环转赠。"},
    },
    {
        "name": "serial_returner", "subject": "member",
        "when": "signal.returns >= limit.returns && signal.returned_percent >= limit.returned_percent",
        "reason": {"en": "Much of what the member buys comes back.", "zh": "会员购买的商品大多被退回。"},
    },
    {
        "name": "redeem_and_return", "subject": "member", "when": "signal.redeemed_returns >= limit.redeemed_returns",
        "reason": {"en": "Points were spent at once, and the purchase was returned.", "zh": "积分随即用掉，订单随后退回。"},
    },
)  # fmt: skip


def read(document: Mapping[str, Any]) -> Settings:
    """Make the frozen settings of a document that :data:`SCHEMA` and the check have accepted."""
    holds = document.get("holds", {})
    without = set(document.get("without", ()))
    capabilities = {name: tuple(kinds) for name, kinds in document.get("capabilities", {}).items()}
    return Settings(
        policies=tuple([_policy(fields, holds) for fields in _all(POLICIES, document.get("policies", ()), without)]),
        watches=tuple([_watch(fields) for fields in _all(WATCHES, document.get("watches", ()), without)]),
        limits={**LIMITS, **document.get("limits", {})},
        stores={name: (place["latitude"], place["longitude"]) for name, place in document.get("stores", {}).items()},
        capabilities={**CAPABILITIES, **capabilities},
        keep=values.duration(document.get("keep", "180d")),
        monitor=document.get("mode") == "monitor",
        after=values.duration(holds.get("after", "72h")),
        end=holds.get("end", "voided"),
    )


def _all(
    shipped: tuple[Mapping[str, Any], ...], own: Any, without: set[str]
) -> list[Mapping[str, Any]]:  # what a merchant wrote takes the place of what was shipped under the name
    mine = {fields["name"] for fields in own}
    return [*[fields for fields in shipped if fields["name"] not in mine | without], *own]


def _policy(fields: Mapping[str, Any], holds: Mapping[str, Any]) -> Policy:
    verdict = fields.get("verdict", "hold")
    after = holds.get("step_up_after", "15min") if verdict == "step_up" else holds.get("after", "72h")
    return Policy(
        name=fields["name"],
        on=tuple(fields["on"]),
        when=fields["when"],
        verdict=verdict,
        reason=values.text(fields.get("reason", fields["name"])),
        gentle=values.text(fields["gentle"]) if "gentle" in fields else CHALLENGE if verdict == "step_up" else GENTLE,
        after=values.duration(fields.get("after", after)),
        end=fields.get("end", "voided" if verdict == "step_up" else holds.get("end", "voided")),
        monitor=fields.get("monitor", False),
    )


def _watch(fields: Mapping[str, Any]) -> Watch:
    return Watch(
        name=fields["name"],
        subject=fields["subject"],
        when=fields["when"],
        reason=values.text(fields.get("reason", fields["name"])),
        flag=values.duration(fields.get("flag", "14d")),
        monitor=fields.get("monitor", False),
    )


# --- what may be written ---------------------------------------------------------------------------------------------


def _says(meaning: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    return {**rule, "meta": {**rule.get("meta", {}), "doc": meaning}}


def _table(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "dict", "schema": dict(fields)}


def _choice(*values_: str) -> dict[str, Any]:
    return {"type": "string", "allowed": list(values_)}


_FLAG: Final = {"type": "boolean"}
_NAME: Final = {"type": "id", "required": True}
_DEGREES: Final = {
    "type": "string",
    "required": True,
    "regex": r"-?[0-9]{1,3}(\.[0-9]{1,6})?",
    "meta": {"expected": 'degrees in quotes, such as "40.80" or "-73.95"'},
}
_POLICY: Final = {
    "name": _says("Its name, on receipts and cases. A shipped policy of that name is replaced.", _NAME),
    "on": _says(
        "The kinds of events it looks at.",
        {"type": "list", "schema": {"type": "name"}, "required": True, "minlength": 1, "maxlength": 32},
    ),
    "when": _says(
        "When it fires, in the rule language: about `signal`, `limit`, `event`, `member`, and `purchase` or `facts`.",
        {"type": "rule", "required": True},
    ),
    "verdict": _says(
        "`hold` (the default): pending until somebody decides; `step_up`: pending until a challenge is passed; `deny`.",
        _choice("hold", "step_up", "deny"),
    ),
    "reason": _says("What staff read.", {"type": "text"}),
    "gentle": _says("What the member reads.", {"type": "text"}),
    "after": _says("A hold that nobody decides ends after that long.", {"type": "duration"}),
    "end": _says("How it ends then: `voided` or `released`.", _choice("released", "voided")),
    "monitor": _says("Whether it only writes cases and holds nothing.", _FLAG),
}
_WATCH: Final = {
    "name": _says("Its name, on cases. A shipped watch of that name is replaced.", _NAME),
    "subject": _says("What it looks at.", {**_choice(*FOUND), "required": True}),
    "when": _says(
        "When it fires, in the rule language: about `signal` and `limit`.", {"type": "rule", "required": True}
    ),
    "reason": _says("What staff read.", {"type": "text"}),
    "flag": _says(
        'For how long the members concerned are flagged. By default "14d"; "0s": they are not.', {"type": "duration"}
    ),
    "monitor": _says("Whether it only writes cases and flags nobody.", _FLAG),
}

#: The Cerberus schema of the plugin's settings.
SCHEMA: Final[Mapping[str, Any]] = {
    "mode": _says(
        "`enforce` (the default), or `monitor`: everything is seen and nothing is held.", _choice("enforce", "monitor")
    ),
    "policies": _says(
        "Policies beside or instead of those that are shipped.",
        {"type": "list", "schema": _table(_POLICY), "maxlength": 200},
    ),
    "watches": _says(
        "Watches beside or instead of those that are shipped.",
        {"type": "list", "schema": _table(_WATCH), "maxlength": 100},
    ),
    "without": _says(
        "Shipped policies and watches that do not run.",
        {"type": "list", "schema": {"type": "id"}, "maxlength": 64},
    ),
    "limits": _says(
        "Numbers that policies and watches name as `limit.NAME`: those that are shipped, and your own.",
        {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": {"type": "integer", "min": 0, "max": 10**12}},
    ),
    "holds": _says(
        "How holds end that nobody decides.",
        _table(
            {
                "after": _says('After how long. By default "72h".', {"type": "duration"}),
                "end": _says("`voided` (the default) or `released`.", _choice("released", "voided")),
                "step_up_after": _says(
                    'After how long a challenge that is not passed counts as failed. By default "15min".',
                    {"type": "duration"},
                ),
            }
        ),
    ),
    "stores": _says(
        "Where stores are, for journeys.",
        {
            "type": "dict",
            "keysrules": {"type": "string", "minlength": 1, "maxlength": 128},
            "valuesrules": _table(
                {
                    "latitude": _says("North of the equator.", _DEGREES),
                    "longitude": _says("East of Greenwich.", _DEGREES),
                }
            ),
            "maxlength": 2_000,
        },
    ),
    "capabilities": _says(
        "What can be restricted, and the kinds of events it means. By default `redeem` and `gift`.",
        {
            "type": "dict",
            "keysrules": {"type": "id"},
            "valuesrules": {"type": "list", "schema": {"type": "name"}, "minlength": 1, "maxlength": 32},
        },
    ),
    "keep": _says('How long traces are kept for watches. By default "180d".', {"type": "duration"}),
}
