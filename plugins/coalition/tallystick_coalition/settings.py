"""What a merchant can set: the brand, its key, what a point costs it, and where its partners are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from tallystick import values


@attrs.frozen(kw_only=True)
class Partner:
    """A brand that this one deals with."""

    name: str
    tenant: str = ""  #: of the same deployment; empty if it has one of its own
    url: str = ""  #: where it listens, if it has a deployment of its own
    prints: tuple[str, ...] = ()  #: fingerprints of its keys for this line; two while one replaces the other
    our_key: int = 1  #: which of our keys for this line we sign with


@attrs.frozen(kw_only=True)
class Settings:
    """The plugin as one merchant has set it up."""

    brand: str
    unit: str = "points"
    unit_cost: Fraction = Fraction(0)  #: minor units one own point costs, as lots carry it to partners
    key: Mapping[str, str] = {}  #: where the brand's private key is, base64: ``{"file": ...}`` or ``{"env": ...}``
    partners: Mapping[str, Partner] = {}


def _says(meaning: str, **rule: Any) -> dict[str, Any]:
    return {**rule, "meta": {**rule.get("meta", {}), "doc": meaning}}


_BRAND: Final = {
    "type": "string",
    "regex": "[a-z][a-z0-9-]{0,39}",
    "meta": {"expected": "small letters, digits and dashes, at most 40"},
}
#: The Cerberus schema of the plugin's settings.
SCHEMA: Final[Mapping[str, Any]] = {
    "brand": _says("What partners call this brand. By default the tenant's id.", **_BRAND),
    "unit": _says("The unit that travels. By default `points`.", type="unit"),
    "unit_cost": _says(
        "What one point costs this brand, in minor units, as an exact number; lots that go to partners carry it. By default 0.",
        type="exact",
    ),
    "key": _says("The brand's private key, as `tally coalition key` makes it: it signs agreements and statements.", type="secret"),
    "partners": _says(
        "The brands this one deals with, by the name that agreements give them.",
        type="dict", keysrules=_BRAND, maxlength=200,
        valuesrules={
            "type": "dict",
            "schema": {
                "tenant": _says("The partner's tenant in this deployment.", type="string"),
                "url": _says(
                    "Where the partner listens, if it has a deployment of its own: what its `tally coalition invite` says.",
                    type="string", maxlength=1_000,
                ),
                "fingerprints": _says(
                    "The fingerprints of the partner's keys, compared with a person there. Two while one replaces the other; without one nothing of it is heard.",
                    type="list", maxlength=2,
                    schema={
                        "type": "string", "regex": "[0-9a-f]{4}( [0-9a-f]{4}){7}",
                        "meta": {"expected": "eight groups of four of 0-9 and a-f"},
                    },
                ),
                "our_key": _says(
                    "Which of our keys for this partner signs what we say: one more than before, once the partner has its fingerprint. By default 1.",
                    type="integer", min=1, max=10_000,
                ),
            },
        },
    ),
}  # fmt: skip


def check(document: Mapping[str, Any], context: Any) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Mistakes that the schema cannot see."""
    brand = document.get("brand") or brand_of(context.tenant)
    for name, partner in document.get("partners", {}).items():
        if name == brand:
            yield ("partners", name), f'found the brand itself; expected another one than "{brand}"'
        if partner.get("tenant") == context.tenant:
            yield ("partners", name, "tenant"), "found this tenant; expected the partner's"
        if ("tenant" in partner) is ("url" in partner):
            yield ("partners", name), 'expected either "tenant", of this deployment, or "url", of another one'
        elif "tenant" in partner and ("fingerprints" in partner or "our_key" in partner):
            yield ("partners", name), '"fingerprints" and "our_key" are for a partner with a "url"'
        elif "url" in partner and (why := unfit(partner["url"])):
            yield ("partners", name, "url"), why
    if "unit_cost" in document and values.exact(document["unit_cost"]) < 0:
        yield ("unit_cost",), "expected an exact number of at least 0"


def read(document: Mapping[str, Any], context: Any) -> Settings:
    """A checked document as the plugin uses it."""
    return Settings(
        brand=document.get("brand") or brand_of(context.tenant),
        unit=document.get("unit", "points"),
        unit_cost=values.exact(document.get("unit_cost", 0)),
        key=dict(document.get("key", {})),
        partners={
            name: Partner(
                name=name, tenant=partner.get("tenant", ""), url=partner.get("url", ""),
                prints=tuple(partner.get("fingerprints", ())), our_key=partner.get("our_key", 1),
            )
            for name, partner in document.get("partners", {}).items()
        },
    )  # fmt: skip


def unfit(url: str) -> str:
    """Why this is no address for messages, or nothing: TLS is required everywhere but on this very machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        return f"this is no address: {error}"
    here = host in ("localhost", "::1") or re.fullmatch(r"127\.[0-9.]+", host) is not None
    if parts.scheme != "https" and not (parts.scheme == "http" and here):
        return "expected an address that begins with https://"
    if (
        not host
        or parts.query
        or parts.fragment
        or parts.username is not None
        or not re.fullmatch("/[A-Za-z0-9/_.~-]+", parts.path)
    ):
        return "expected an address without a password, a query and a fragment"
    return ""


def brand_of(tenant: str) -> str:
    """A brand's name made of a tenant's id."""
    return re.sub("[^a-z0-9-]", "-", tenant.lower())[:40]
