"""What a merchant can set: the brand, its key, what a point costs it, and where its partners are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

import attrs

from tallystick import values


@attrs.frozen(kw_only=True)
class Partner:
    """A brand that this one deals with."""

    name: str
    tenant: str  #: of the same deployment


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
            "schema": {"tenant": _says("The partner's tenant in this deployment.", type="string", required=True)},
        },
    ),
}  # fmt: skip


def check(document: Mapping[str, Any], context: Any) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Mistakes that the schema cannot see."""
    brand = document.get("brand") or brand_of(context.tenant)
    for name, partner in document.get("partners", {}).items():
        if name == brand:
            yield ("partners", name), f'found the brand itself; expected another one than "{brand}"'
        if partner["tenant"] == context.tenant:
            yield ("partners", name, "tenant"), "found this tenant; expected the partner's"
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
            name: Partner(name=name, tenant=partner["tenant"]) for name, partner in document.get("partners", {}).items()
        },
    )


def brand_of(tenant: str) -> str:
    """A brand's name made of a tenant's id."""
    return re.sub("[^a-z0-9-]", "-", tenant.lower())[:40]
