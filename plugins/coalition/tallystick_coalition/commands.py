"""``tally coalition``: keys, agreements, links, transfers by hand, and the end of a month."""

from __future__ import annotations

import secrets
import tomllib
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from tallystick import errands
from tallystick.errors import EventConflict, NotFound
from tallystick.ledger import member_name
from tallystick.values import CURRENCIES

from . import agreement as agreements
from . import events, exchange, pages, settle
from .agreement import Agreement, Signed
from .desk import Desk, Neighbour, introduction, partner_of
from .errors import NotAgreed, OutsideTerms, TransferClosed
from .hooks import Coalition
from .pages import money
from .settlement import Settlement, desks_of, preview_period, settle_period

Answer = tuple[Any, list[str]]
Partner = Annotated[str, {"en": "The partner's brand.", "zh": "合作方品牌。"}]
Period = Annotated[str, {"en": "The month, such as 2026-06.", "zh": "账期（月），例如 2026-06。"}]
Transfer = Annotated[
    str, {"en": "An id of your own: said again, nothing more happens.", "zh": "自定编号；重复提交不会重复处理。"}
]
_WORDS: Final = {
    "en": {
        "key": "private key (keep it secret): {private}", "public": "public key: {public}", "print": "fingerprint: {fingerprint}",
        "agreement": "{label} between {one} and {two}, hash {digest}", "flow": "  {kind} from {source} to {target}: rate {rate}, price {price}",
        "proposed": "written to {file}; {brand} has signed", "signed": "{brand} has signed; compare the hash with your partner before you do",
        "agreed": "{label} is in force for {brand}", "linked": "{partner} knows the member as {alias}", "unlinked": "{partner} does not know the member any more",
        "confirmed": "{amount} left, {gets} arrived; {owed} owed to {partner}", "committed": "{gets} given for {amount} points; {partner} owes {owed}",
        "held": "{partner} has not answered; it is asked again", "released": "not possible: {code}; everything came back",
        "agreed_pair": "{one} and {two}: {entries} entries, {one} owes {there}, {two} owes {back}; both books agree, root {root}",
        "disputed": "{one} and {two}: the books differ; see `tally coalition statement`", "open": "{one} and {two}: not closed ({code})",
        "position": "{brand}: {amount}", "payment": "{source} pays {target} {amount}", "nothing": "nothing to pay", "paid": "{n} pairs noted as paid",
        "written": "written to {file}", "entry": "{transfer}  {kind:<8} {source} to {target}  {amount:>10}  owed {owed}  entry {entry}",
        "owes": "{one} owes {two}: {amount}", "difference": "differs: {transfer}",
        "played": "seed {seed}: {messages} messages, {lost} lost, {transfers} transfers, {forged} forged, {disputes} disputes, digest {digest}",
        "holds": "{n} seeds played; everything held that must",
    },
    "zh": {
        "key": "私钥（请保密）：{private}", "public": "公钥：{public}", "print": "指纹：{fingerprint}",
        "agreement": "{one} 与 {two} 的协议 {label}，哈希 {digest}", "flow": "  {kind}：{source} 到 {target}，比率 {rate}，价格 {price}",
        "proposed": "已写入 {file}；{brand} 已签署", "signed": "{brand} 已签署；生效前请与合作方核对哈希",
        "agreed": "{label} 已对 {brand} 生效", "linked": "{partner} 以 {alias} 识别该会员", "unlinked": "{partner} 不再识别该会员",
        "confirmed": "转出 {amount}，到账 {gets}；应付 {partner} {owed}", "committed": "{amount} 积分抵扣 {gets}；{partner} 应付 {owed}",
        "held": "{partner} 尚未答复，将再次询问", "released": "无法办理：{code}；已全部退回",
        "agreed_pair": "{one} 与 {two}：{entries} 笔，{one} 应付 {there}，{two} 应付 {back}；双方账目一致，根 {root}",
        "disputed": "{one} 与 {two}：账目不符，见 `tally coalition statement`", "open": "{one} 与 {two}：未关闭（{code}）",
        "position": "{brand}：{amount}", "payment": "{source} 付给 {target} {amount}", "nothing": "无需付款", "paid": "已登记 {n} 对付款",
        "written": "已写入 {file}", "entry": "{transfer}  {kind:<8} {source} 到 {target}  {amount:>10}  应付 {owed}  流水 {entry}",
        "owes": "{one} 应付 {two}：{amount}", "difference": "不符：{transfer}",
        "played": "种子 {seed}：消息 {messages}，丢失 {lost}，转移 {transfers}，伪造 {forged}，争议 {disputes}，摘要 {digest}",
        "holds": "已模拟 {n} 个种子；各项不变量全部成立",
    },
}  # fmt: skip


Visit: TypeAlias = errands.Work[Coalition]


# --- keys and agreements ---------------------------------------------------------------------------------------------


def key(
    visit: Visit, *, into: Annotated[str, {"en": "Write the private key into this file.", "zh": "私钥写入的文件。"}] = "",  # noqa: ARG001
    language: str = "en",
) -> Answer:  # fmt: skip
    """Make a key for a brand; nothing is kept of it here."""
    words = _WORDS[language]
    private = agreements.new_key(secrets.token_bytes(32))
    public = agreements.public_key(private)
    document = {"public": public, "fingerprint": agreements.fingerprint(public)}
    lines = [words["public"].format(public=public), words["print"].format(**document)]
    if into:
        file = Path(into)
        file.touch(mode=0o600)
        file.write_text(private + "\n", encoding="utf-8")
        return document, [*lines, words["written"].format(file=into)]
    return {**document, "private": private}, [*lines, words["key"].format(private=private)]


def propose(visit: Visit, terms: str, agreement: str, *, language: str = "en") -> Answer:
    """Make an agreement of a file with its terms (TOML), with this brand's signature."""
    desk, words = Desk(visit), _WORDS[language]
    made = _made(desk, Path(terms))
    text = agreements.canonical(made)
    agreements.read(text)
    _write(agreement, Signed(text=text, signatures={desk.brand: _signature(desk, text)}))
    return _shown(made, text), [*_lines(made, text, words), words["proposed"].format(file=agreement, brand=desk.brand)]


def sign(visit: Visit, agreement: str, *, language: str = "en") -> Answer:
    """Show an agreement that a partner proposed, and add this brand's signature."""
    desk, words = Desk(visit), _WORDS[language]
    signed = _read(agreement)
    made = agreements.read(signed.text)
    if desk.brand not in made.brands:
        raise NotAgreed(f"this agreement is between {' and '.join(made.brands)}")
    both = {**signed.signatures, desk.brand: _signature(desk, signed.text)}
    _write(agreement, Signed(text=signed.text, signatures=both))
    return _shown(made, signed.text), [*_lines(made, signed.text, words), words["signed"].format(brand=desk.brand)]


def agree(visit: Visit, agreement: str, *, language: str = "en") -> Answer:
    """Put an agreement in force that both brands have signed."""
    desk, words = Desk(visit), _WORDS[language]
    signed = _read(agreement)
    made = agreements.read(signed.text)
    data = {"partner": made.other(desk.brand), "text": signed.text, "signatures": dict(signed.signatures)}
    desk.record("coalition.agreed", f"{made.label}/{agreements.digest(signed.text)[:16]}", desk.now, 0, data)
    return _shown(made, signed.text), [
        *_lines(made, signed.text, words),
        words["agreed"].format(label=made.label, brand=desk.brand),
    ]


def _made(desk: Desk, file: Path) -> Agreement:
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
        partner = str(said.pop("partner"))
    except (OSError, ValueError, KeyError) as error:
        raise NotAgreed(f"{file.name} holds no terms: {error}") from None
    theirs = _key_of(desk, partner) if "keys" not in said else ""
    one, two = sorted((desk.brand, partner))
    before = desk.agreement(partner)
    document = {
        "format": agreements.FORMAT, "name": before.name if before else f"{one}-{two}"[:40], "version": before.version + 1 if before else 1,
        "brands": (one, two), "currency": desk.errand.plugin.programme.currency,
        "keys": {desk.brand: (agreements.public_key(desk.key()),), partner: (theirs,)}, **said,
    }  # fmt: skip
    try:
        return msgspec.convert(document, type=Agreement)
    except msgspec.ValidationError as error:
        raise NotAgreed(f"{file.name} holds no terms: {error}") from None


def _key_of(desk: Desk, partner: str) -> str:
    """The key by which a partner signs agreements: one in another deployment tells it over the line."""
    way = partner_of(desk, partner)
    if isinstance(way, Neighbour):
        return agreements.public_key(way.desk.key())
    said = introduction(desk, way)
    if said is None or not said.key:
        raise NotAgreed(f"{partner} does not say by which key it signs; write it into the terms under [keys]")
    return said.key


def _signature(desk: Desk, text: str) -> str:
    return agreements.sign(desk.key(), agreements.PURPOSE, text.encode())


def _read(file: str) -> Signed:
    try:
        return msgspec.json.decode(Path(file).read_bytes(), type=Signed)
    except (OSError, msgspec.MsgspecError) as error:
        raise NotAgreed(f"{file} holds no agreement: {error}") from None


def _write(file: str, signed: Signed) -> None:
    Path(file).write_bytes(msgspec.json.format(msgspec.json.encode(signed, order="deterministic")) + b"\n")


def _shown(made: Agreement, text: str) -> dict[str, Any]:
    return {"agreement": made.label, "hash": agreements.digest(text), "terms": msgspec.to_builtins(made)}


def _lines(made: Agreement, text: str, words: Any) -> list[str]:
    one, two = made.brands
    head = words["agreement"].format(label=made.label, one=one, two=two, digest=agreements.digest(text))
    return [head, *[words["flow"].format(**msgspec.to_builtins(flow)) for flow in made.flows]]


# --- members ---------------------------------------------------------------------------------------------------------


def link(
    visit: Visit, member: str, partner: str, *,
    alias: Annotated[str, {"en": "The code the member has from the partner.", "zh": "会员从合作方取得的联盟码。"}] = "",
    withdraw: Annotated[bool, {"en": "Take it back: from now on nothing is shared.", "zh": "撤回：此后不再共享。"}] = False,
    language: str = "en",
) -> Answer:  # fmt: skip
    """Link a member with a partner, or take that back."""
    desk, number = Desk(visit), visit.member(member)
    partner_of(desk, partner)
    code = desk.link(partner, number, alias, given=not withdraw)
    told = _WORDS[language]["unlinked" if withdraw else "linked"].format(partner=partner, alias=code)
    return {"member": member_name(number), "partner": partner, "alias": "" if withdraw else code}, [told]


def convert(
    visit: Visit, member: str, partner: str, points: int, *, transfer: Transfer = "", language: str = "en"
) -> Answer:
    """Convert points of a member into points of a partner."""
    desk = Desk(visit)
    way = partner_of(desk, partner)
    id_ = transfer or secrets.token_hex(16)
    done = exchange.send(desk, way, transfer=id_, kind="convert", amount=points, member=visit.member(member))
    return _told(desk, done, partner, points, language)


def pay(
    visit: Visit, partner: str, alias: str, points: int, *,
    order: Annotated[str, {"en": "What is paid for: its refund gives the points back.", "zh": "所付订单；退款时积分退回。"}] = "",
    transfer: Transfer = "", language: str = "en",
) -> Answer:  # fmt: skip
    """Take points of a partner as payment from whoever shows this code."""
    desk = Desk(visit)
    way = partner_of(desk, partner)
    done = exchange.take(desk, way, transfer=transfer or secrets.token_hex(16), alias=alias, points=points, order=order)
    return _told(desk, done, partner, points, language)


def earn(
    visit: Visit, partner: str, alias: str, amount: int, *, transfer: Transfer = "", language: str = "en"
) -> Answer:
    """Let whoever shows this code earn points of a partner for a purchase of so many minor units."""
    desk = Desk(visit)
    way = partner_of(desk, partner)
    done = exchange.send(desk, way, transfer=transfer or secrets.token_hex(16), kind="earn", amount=amount, alias=alias)
    return _told(desk, done, partner, amount, language)


def _told(desk: Desk, done: exchange.Done, partner: str, amount: int, language: str) -> Answer:
    currency = desk.errand.plugin.programme.currency
    owed = money(done.owed, CURRENCIES.get(currency, 2), currency)
    line = _WORDS[language][done.state].format(
        amount=amount, gets=done.gets, owed=owed, partner=partner, code=done.code
    )
    return msgspec.to_builtins(done), [line]


# --- the end of a month ----------------------------------------------------------------------------------------------


def settle_month(
    visit: Visit, *, period: Period = "",
    preview: Annotated[bool, {"en": "Only compare the books so far; nothing is closed.", "zh": "仅核对目前账目，不关闭账期。"}] = False,
    early: Annotated[bool, {"en": "Close the month before it is over: until then nothing more leaves for partners.", "zh": "提前关闭当月账期：月底前不再向合作方转出。"}] = False,
    language: str = "en",
) -> Answer:  # fmt: skip
    """Close a month with all partners: who owes whom, what that nets to, and what does not agree."""
    currency, desks, month = visit.plugin.programme.currency, desks_of(visit), _period(visit, period)
    done = preview_period(desks, month, currency) if preview else settle_period(desks, month, currency, early=early)
    return msgspec.to_builtins(done), _report(done, _WORDS[language])


def _report(done: Settlement, words: Any) -> list[str]:
    decimals = CURRENCIES.get(done.currency, 2)

    def shown(amount: int) -> str:
        return money(amount, decimals, done.currency)

    lines = []
    for pair in done.pairs:
        one, two = pair.brands
        text = words["agreed_pair" if pair.state == "agreed" else pair.state]
        lines.append(
            text.format(one=one, two=two, entries=pair.entries, there=shown(pair.owed[0]), back=shown(pair.owed[1]), root=pair.root, code=pair.code)
        )  # fmt: skip
    lines += [words["position"].format(brand=brand, amount=shown(amount)) for brand, amount in done.positions.items()]
    lines += [words["payment"].format(source=p.source, target=p.target, amount=shown(p.amount)) for p in done.payments]
    return lines if done.payments else [*lines, words["nothing"]]


def paid(visit: Visit, *, period: Period = "", language: str = "en") -> Answer:
    """Note that a settled month was paid: what was owed frees the limits of the agreements again."""
    month, n = _period(visit, period), 0
    desks = desks_of(visit)
    for desk in desks.values():
        for partner in desk.errand.plugin.settings.partners:
            found = desk.find(partner, month)
            if found is None or found.state != "agreed":
                continue
            signed = msgspec.json.decode(found.ours, type=settle.SignedStatement)
            statement = msgspec.json.decode(signed.text, type=settle.Statement)
            owed = statement.owed[statement.brands.index(desk.brand)]
            if owed > 0:
                data = {"partner": partner, "period": month, "amount": owed}
                with suppress(EventConflict, TransferClosed):  # it was noted before
                    desk.record("coalition.paid", f"{partner}/paid/{month}/{owed}", desk.now, 0, data)
                    n += 1
    return {"period": month, "pairs": n}, [_WORDS[language]["paid"].format(n=n)]


def statement(
    visit: Visit, partner: str, *, period: Period = "",
    into: Annotated[str, {"en": "Write it into a file: .json, .csv or .html.", "zh": "写入文件：.json、.csv 或 .html。"}] = "",
    language: str = "en",
) -> Answer:  # fmt: skip
    """Show the statement of a month with a partner, down to the entries of the journal; if it is disputed, with both proofs."""
    desk, words = Desk(visit), _WORDS[language]
    desk.errand.house.relay()
    month = _period(visit, period)
    drawn, entries = desk.draw_up(partner, month), desk.list_entries(partner, month)
    found, places = desk.find(partner, month), desk.places(partner, month)
    decimals = CURRENCIES.get(drawn.currency, 2)
    document: dict[str, Any] = {
        "statement": msgspec.to_builtins(desk.sign(drawn)), "state": found.state if found else "not settled",
        "entries": [{**row._asdict(), "entry": places[row.transfer, row.n]} for row in settle.rows(month, entries)],
        "dispute": msgspec.json.decode(found.dispute) if found and found.dispute else None,
    }  # fmt: skip
    if into:
        Path(into).write_text(_text(into, drawn, entries, document, decimals, language), encoding="utf-8")
        return document, [words["written"].format(file=into)]
    lines = [
        words["entry"].format(**{**row, "owed": money(row["owed"], decimals, drawn.currency)})
        for row in document["entries"]
    ]
    one, two = drawn.brands
    for debtor, creditor, owed in ((one, two, drawn.owed[0]), (two, one, drawn.owed[1])):
        lines.append(words["owes"].format(one=debtor, two=creditor, amount=money(owed, decimals, drawn.currency)))
    if document["dispute"]:
        lines += [words["difference"].format(transfer=each["transfer"]) for each in document["dispute"]["differences"]]
    return document, lines


def _text(into: str, drawn: settle.Statement, entries: Any, document: Any, decimals: int, language: str) -> str:
    match Path(into).suffix:
        case ".csv":
            return pages.to_csv(drawn.period, entries)
        case ".html":
            return pages.to_html(drawn, entries, document["state"], decimals, language)
        case ".json":
            return msgspec.json.format(msgspec.json.encode(document, order="deterministic")).decode() + "\n"
    raise NotFound(f"{into} ends in none of .json, .csv and .html")


def _period(visit: Visit, period: str) -> str:
    """The month that was said; by default the last one that is over, in UTC."""
    if not period:
        first = visit.now.replace(day=1)
        return (date(first.year, first.month, 1) - date.resolution).strftime("%Y-%m")
    try:
        msgspec.convert(period, type=events.Period)
    except msgspec.ValidationError:
        raise OutsideTerms(f"{period} is no month such as 2026-06") from None
    return period


# --- a coalition in memory -------------------------------------------------------------------------------------------


def simulate(
    visit: Visit, *,  # noqa: ARG001
    seed: Annotated[int, {"en": "The first seed.", "zh": "第一个种子。"}] = 1,
    seeds: Annotated[int, {"en": "How many seeds.", "zh": "种子数量。"}] = 1,
    brands: Annotated[int, {"en": "How many brands; the last one cheats.", "zh": "品牌数量，最后一个会作弊。"}] = 4,
    steps: Annotated[int, {"en": "How much happens.", "zh": "步数。"}] = 60,
    language: str = "en",
) -> Answer:  # fmt: skip
    """Play a coalition in memory: cuts, delays, repetitions, wrong clocks and a cheat, all from the seed; nothing is recorded."""
    from . import simulate as simulation

    words = _WORDS[language]
    played = [simulation.play(each, brands, steps) for each in range(seed, seed + seeds)]
    lines = [words["played"].format(**msgspec.to_builtins(one)) for one in played]
    return msgspec.to_builtins(played), [*lines, words["holds"].format(n=len(played))]
