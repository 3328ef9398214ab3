"""``tally coalition invite`` and ``partners``: two deployments learn each other's address and key, and people compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from tallystick.errors import InvalidRequest

from . import agreement as agreements
from .commands import Answer, Visit
from .desk import Desk, Introduction, introduction
from .line import Line, private_key
from .settings import Partner, unfit

_WORDS: Final = {
    "en": {
        "address": "address for {partner}: {url}", "print": "fingerprint of our key: {fingerprint}",
        "compare": "read the fingerprint to a person there; they must see the same", "written": "written to {file}",
        "house": "{partner} is the tenant {tenant} of this deployment", "elsewhere": "{partner}: {url}",
        "ours": "  our key {our_key}: {ours}", "theirs": "  theirs: {theirs}", "none": "no fingerprint yet: nothing of {partner} is heard",
        "silent": "  does not answer; the log says why", "clock": "  answers; its clock is {seconds} s off ours",
        "same": "  knows agreement {agreement} as we do", "other": "  knows agreement {agreement}, hash {hash}; ours is {ours}, hash {our_hash}",
        "nobody": "no partners yet",
        "note": "# What {brand} says of itself. Before you trust it, compare the fingerprint with a person there.",
    },
    "zh": {
        "address": "供 {partner} 使用的地址：{url}", "print": "我方密钥指纹：{fingerprint}",
        "compare": "请与对方人员口头核对指纹，双方所见须一致", "written": "已写入 {file}",
        "house": "{partner} 是本部署的租户 {tenant}", "elsewhere": "{partner}：{url}",
        "ours": "  我方密钥 {our_key}：{ours}", "theirs": "  对方指纹：{theirs}", "none": "尚无指纹：不接收 {partner} 的任何消息",
        "silent": "  未答复，原因见日志", "clock": "  已答复；时钟与我方相差 {seconds} 秒",
        "same": "  协议 {agreement} 与我方一致", "other": "  对方协议 {agreement}，哈希 {hash}；我方 {ours}，哈希 {our_hash}",
        "nobody": "尚无合作方",
        "note": "# {brand} 的连接信息。启用前请与对方人员核对指纹。",
    },
}  # fmt: skip


def invite(
    visit: Visit, partner: str,
    at: Annotated[str, {"en": "Where this deployment is reached from outside, such as https://grocer.example.", "zh": "本部署的外部地址，例如 https://grocer.example。"}], *,
    into: Annotated[str, {"en": "Write what the partner puts into its tally.toml into this file.", "zh": "将合作方应加入 tally.toml 的内容写入此文件。"}] = "",
    new_key: Annotated[bool, {"en": "The fingerprint of the next key, which takes the present one's place.", "zh": "显示下一把（替换用）密钥的指纹。"}] = False,
    language: str = "en",
) -> Answer:  # fmt: skip
    """Say where a partner in another deployment reaches this brand, and by which key it knows it."""
    desk, words = Desk(visit), _WORDS[language]
    at = at.rstrip("/")
    url = f"{at}/v1/coalition/partners/{visit.house.pass_for(visit.tenant, 'coalition.hear', partner)}"
    if why := unfit(url):
        raise InvalidRequest(f"{at}: {why}")
    known = visit.plugin.settings.partners.get(partner, Partner(name=partner))
    number = known.our_key + new_key
    fingerprint = _print(desk, partner, number)
    text = (
        f"{words['note'].format(brand=desk.brand)}\n[tenants.{partner}.plugins.coalition.partners.{desk.brand}]\n"
        f'url = "{url}"\nfingerprints = ["{fingerprint}"]\n'
    )
    document = {"partner": partner, "url": url, "key": number, "fingerprint": fingerprint, "settings": text}
    lines = [words["address"].format(**document), words["print"].format(**document), words["compare"]]
    if into:
        Path(into).write_text(text, encoding="utf-8")
        lines.append(words["written"].format(file=into))
    return document, lines


def partners(
    visit: Visit, *,
    ask: Annotated[bool, {"en": "Ask each of them whether it answers.", "zh": "逐一询问是否应答。"}] = False,
    language: str = "en",
) -> Answer:  # fmt: skip
    """Show this brand's partners with the fingerprints that people compare: what is ours here is theirs there."""
    desk, words = Desk(visit), _WORDS[language]
    documents, lines = [], []
    for partner in visit.plugin.settings.partners.values():
        if not partner.url:
            documents.append({"partner": partner.name, "tenant": partner.tenant})
            lines.append(words["house"].format(partner=partner.name, tenant=partner.tenant))
            continue
        ours = _print(desk, partner.name, partner.our_key)
        document: dict[str, Any] = {
            "partner": partner.name, "url": partner.url, "our_key": partner.our_key, "ours": ours, "theirs": list(partner.prints),
        }  # fmt: skip
        theirs = ", ".join(partner.prints) or words["none"].format(partner=partner.name)
        lines += [words[name].format(**{**document, "theirs": theirs}) for name in ("elsewhere", "ours", "theirs")]
        if ask:
            said = introduction(desk, Line(desk.errand, partner))
            document["answers"] = msgspec.to_builtins(said) if said is not None else None
            lines += _heard(desk, partner.name, said, words)
        documents.append(document)
    return documents, lines or [words["nobody"]]


def _heard(desk: Desk, partner: str, said: Introduction | None, words: Any) -> list[str]:
    if said is None:
        return [words["silent"]]
    lines = [words["clock"].format(seconds=round(abs((said.at - desk.now).total_seconds())))]
    agreed = desk.agreement(partner)
    if agreed is not None or said.agreement:
        label, ours = (
            (agreed.label, agreements.digest(agreements.canonical(agreed))) if agreed is not None else ("-", "-")
        )
        word = "same" if ours == said.hash else "other"
        lines.append(words[word].format(agreement=said.agreement or "-", hash=said.hash, ours=label, our_hash=ours))
    return lines


def _print(desk: Desk, partner: str, number: int) -> str:
    return agreements.fingerprint(agreements.public_key(private_key(desk.errand, partner, number)))
