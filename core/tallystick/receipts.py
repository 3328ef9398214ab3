"""The public view of an entry, made from the stored record alone: asked again years later, it is the same to the byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from .errors import PluginFailed
from .ledger import EXPIRED, HELD, ISSUED, NEVER, REVERSED, LotGiven, Record, Step, moment
from .problems import Language

_Amount = Annotated[int, Meta(description="smallest part of the unit")]


class UnitChange(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an event did to one unit of its member."""

    gained: _Amount
    spent: _Amount
    balance: Annotated[int, Meta(description="posted balance after the event")]
    taken_back: _Amount = 0
    expired: _Amount = 0
    held: _Amount = 0


class LotOpened(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A lot that the event opened for its member."""

    lot: str
    unit: str
    amount: _Amount
    left: Annotated[int, Meta(description="less than the amount where a deficit absorbed a part")]
    usable_from: datetime | None = None  #: absent while it waits for something
    expires_at: datetime | None = None  #: absent if it never expires
    waits: str = ""


class Reason(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which rule did what, in which version, with which numbers, and a sentence that says so."""

    rule: str
    plugin: str
    version: str = ""
    effect: str
    text: str
    unit: str = ""
    amount: int = 0
    wanted: int | None = None
    note: str = ""
    by: str = ""
    member: str = ""  #: whose gain it is, where it is another member's
    taken_back: int = 0  #: by later entries
    numbers: Mapping[str, Any] | None = None


class Warned(Struct, frozen=True, kw_only=True):
    """What is missing from an entry although it was recorded: a plugin could not answer."""

    plugin: str
    hook: str
    code: Annotated[str, Meta(description="the plugin's own refusal by its code, else `plugin_failed`")]
    text: str


class Receipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to an accepted event."""

    entry: Annotated[str, Meta(description="the entry's name; `dry-run` if nothing was recorded")]
    status: Annotated[str, Meta(description="recorded, held, step_up or parked")]
    id: str
    source: str
    type: str
    time: datetime
    received: datetime
    member: str = ""
    units: Mapping[str, UnitChange] = {}
    lots: tuple[LotOpened, ...] = ()
    explanation: tuple[Reason, ...] = ()
    gives: tuple[Mapping[str, Any], ...] = ()
    #: recorded, and yet somebody should look: what a plugin would have given or noted is not in this entry
    warnings: tuple[Warned, ...] = ()
    cause: str = ""
    programme: str = ""
    generation: int = 0
    #: plugins that had been on then and were off when this late event was judged: they were not asked
    off: tuple[str, ...] = ()


class Explanation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything the house can say about why an entry is as it is, and what became of it."""

    receipt: Receipt
    #: every step, those that concern other members too, and what later entries took back of each
    steps: tuple[Reason, ...] = ()
    related: Annotated[tuple[str, ...], Meta(description="other entries that named the same order")] = ()
    order: str = ""
    value: Annotated[int, Meta(description="value of the order, minor units")] = 0
    verdict: Annotated[str, Meta(description="what risk review said")] = "allow"
    reasons: tuple[Mapping[str, Any], ...] = ()
    transfers: tuple[Mapping[str, Any], ...] = ()
    skipped: tuple[Mapping[str, str], ...] = ()
    seed: Annotated[str, Meta(description="SHA-256 of the seed of the chance drawn, if any was")] = ""
    actor: str = ""


#: HTTP status of an accepted event.
STATUSES: Mapping[str, int] = {"recorded": 200, "held": 202, "step_up": 202, "parked": 202}
DRY_RUN = "dry-run"

_encode = msgspec.json.Encoder(order="deterministic").encode


def receipt(record: Record, language: Language = "en", *, dry: bool = False) -> Receipt:
    """The receipt of a record; with *dry* it names no entry, for there is none."""
    return Receipt(
        entry=DRY_RUN if dry else record.entry,
        status=record.status,
        id=record.id,
        source=record.source,
        type=record.kind,
        time=moment(record.at),
        received=moment(record.received),
        member=record.member,
        units=_units(record),
        lots=tuple([_lot(lot, dry) for lot in record.lots if lot.member == record.member]),
        explanation=tuple([reason(step, language) for step in record.explanation if _own(step, record)]),
        gives=record.gives,
        warnings=tuple([_warned(each, language) for each in record.skipped]),
        cause=record.cause,
        programme=record.programme,
        generation=record.generation,
        off=record.off,
    )


def receipt_document(record: Record, language: Language = "en", *, dry: bool = False) -> dict[str, Any]:
    """The receipt as plain JSON values."""
    document: dict[str, Any] = msgspec.to_builtins(receipt(record, language, dry=dry))
    return document


def receipt_bytes(record: Record, language: Language = "en", *, dry: bool = False) -> bytes:
    """The receipt as JSON; equal records give equal bytes."""
    return _encode(receipt(record, language, dry=dry))


def explanation(
    record: Record,
    language: Language = "en",
    *,
    full: bool = True,
    taken_back: Sequence[int] = (),
    related: Sequence[str] = (),
) -> Explanation:
    """Why an entry is as it is, with what later entries took back of each step.

    *full* adds what is not the member's own business: others' gains, risk reasons, accounts, who sent it.
    """
    back = [*taken_back, *[0] * (len(record.explanation) - len(taken_back))]
    steps = [
        reason(step, language, taken)
        for step, taken in zip(record.explanation, back, strict=True)
        if full or _own(step, record)
    ]
    public = Explanation(
        receipt=receipt(record, language),
        steps=tuple(steps),
        related=tuple(related),
        order=record.order,
        value=record.value,
    )
    if not full:
        return public
    return msgspec.structs.replace(
        public,
        verdict=record.verdict,
        reasons=record.reasons,
        transfers=tuple([_without_nothing(t) for t in record.transfers]),
        skipped=record.skipped,
        seed=record.seed,
        actor=record.actor,
    )


def _warned(skipped: Mapping[str, str], language: Language) -> Warned:
    code = skipped.get("code") or PluginFailed.code
    text = _WARNING[language].format(plugin=skipped["plugin"], hook=skipped["hook"], code=code)
    return Warned(plugin=skipped["plugin"], hook=skipped["hook"], code=code, text=text)


_WARNING: Mapping[Language, str] = {
    "en": "{plugin} could not answer ({hook}: {code}); what it would have given or noted is not in this entry",
    "zh": "{plugin} 未能应答（{hook}：{code}），它本应给出或记录的内容不在本流水中",
}


def _own(step: Step, record: Record) -> bool:
    return not step.member or step.member == record.member


def _units(record: Record) -> dict[str, UnitChange]:
    changes: dict[str, dict[str, int]] = {
        unit: {"gained": 0, "spent": 0, "balance": balance} for unit, balance in sorted(record.balances.items())
    }
    for transfer in record.transfers:
        if transfer.credit == record.member:
            word, sign = _CAME.get(transfer.debit, ("gained", 1))
        elif transfer.debit == record.member:
            word, sign = _WENT.get(transfer.credit, ("spent", 1))
        else:
            continue
        change = changes.setdefault(transfer.unit, {"gained": 0, "spent": 0, "balance": 0})
        change[word] = change.get(word, 0) + sign * transfer.amount
    return {unit: UnitChange(**change) for unit, change in changes.items()}


#: From where it came to the member: what that is called, and whether it adds to it or undoes it.
_CAME = {ISSUED: ("gained", 1), "redeemed": ("spent", -1), HELD: ("held", -1), EXPIRED: ("expired", -1)}
#: Where it went.
_WENT = {REVERSED: ("taken_back", 1), EXPIRED: ("expired", 1), HELD: ("held", 1)}


def _lot(lot: LotGiven, dry: bool) -> LotOpened:
    return LotOpened(
        lot=DRY_RUN if dry else lot.lot,
        unit=lot.unit,
        amount=lot.amount,
        left=lot.left,
        usable_from=None if lot.usable_from >= NEVER else moment(lot.usable_from),
        expires_at=None if lot.expires_at >= NEVER else moment(lot.expires_at),
        waits=lot.waits,
    )


def reason(step: Step, language: Language = "en", taken_back: int = 0) -> Reason:
    """One line of an explanation, in public words."""
    return Reason(
        rule=step.rule,
        plugin=step.rule.partition(".")[0],
        version=step.version,
        effect=step.effect,
        text=sentence(step, language),
        unit=step.unit,
        amount=step.amount,
        wanted=step.wanted,
        note=step.note,
        by=step.by,
        member=step.member,
        taken_back=taken_back,
        numbers=step.data,
    )


def sentence(step: Step, language: Language = "en") -> str:
    """One line of an explanation as a sentence."""
    effects, notes = _EFFECTS[language], _NOTES[language]
    amount = f"{abs(step.amount):,} {step.unit}".strip() if step.unit else ""
    if step.effect == "expire" and not step.unit:  # a sweep is about many members, and its transfers say whose
        return effects["sweep"].format(lots=f"{(step.data or {}).get('lots', 0):,}")
    said = effects.get(step.effect, effects[""]).format(rule=step.rule, amount=amount, effect=step.effect).rstrip()
    if not step.note:
        return said
    note = notes.get(step.note)
    why = step.note if note is None else note.format(by=step.by or step.rule, wanted=step.wanted)
    return notes["("].join((said, why)) + notes[")"]


_EFFECTS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "grant": "{rule} gave {amount}",
        "bonus": "{rule} gave {amount} on top",
        "multiply": "{rule} multiplied: {amount} more",
        "cap": "{rule} set a limit",
        "spend": "{rule} spent {amount}",
        "move": "{rule} handed over {amount}",
        "take_back": "{rule} took back {amount}",
        "give_back": "{rule} gave back {amount}",
        "expire": "{amount} expired",
        "sweep": "{lots} lots that were due expired",
        "usable": "{rule} made a lot usable",
        "awaits": "a lot waits for something else now",
        "released": "{rule} was released",
        "tier": "{rule} set the tier",
        "extend": "{rule} moved an expiry",
        "grace": "{rule} kept a lot usable for a while",
        "": "{rule}: {effect} {amount}",
    },
    "zh": {
        "grant": "{rule} 发放 {amount}",
        "bonus": "{rule} 额外发放 {amount}",
        "multiply": "{rule} 翻倍，多得 {amount}",
        "cap": "{rule} 设定上限",
        "spend": "{rule} 使用 {amount}",
        "move": "{rule} 转出 {amount}",
        "take_back": "{rule} 收回 {amount}",
        "give_back": "{rule} 退还 {amount}",
        "expire": "{amount} 已过期",
        "sweep": "{lots} 个到期的积分批次已过期",
        "usable": "{rule} 使一个积分批次可用",
        "awaits": "一个积分批次改为等待另一件事",
        "released": "{rule} 已放行",
        "tier": "{rule} 设定等级",
        "extend": "{rule} 调整了有效期",
        "grace": "{rule} 使一个积分批次延期可用",
        "": "{rule}：{effect} {amount}",
    },
}
_NOTES: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "(": " (", ")": ")",
        "displaced": "displaced by {by}", "stopped": "stopped by {by}", "capped": "capped by {by}; it would have been {wanted}",
        "kept": "kept by {by}", "shortfall": "not all of it was left", "expired": "it had expired unused", "voided": "the entry was voided",
        "repaired": "given later, for a plugin had failed",
    },
    "zh": {
        "(": "（", ")": "）",
        "displaced": "被 {by} 取代", "stopped": "被 {by} 终止", "capped": "受 {by} 上限限制，原应为 {wanted}",
        "kept": "由 {by} 保留", "shortfall": "余额不足以全部收回", "expired": "未使用即已过期", "voided": "该流水已作废",
        "repaired": "因插件曾出错而补发",
    },
}  # fmt: skip


def _without_nothing(transfer: Any) -> dict[str, Any]:
    fields: Sequence[str] = transfer.__struct_fields__
    return {name: value for name in fields if (value := getattr(transfer, name)) != ""}
