"""What a merchant can set: rewards, limits, what devices may send, and showrooms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from tallystick import values
from tallystick.values import Text

from . import showroom
from .showroom import Showroom

WELCOME: Final = Text({"en": "Welcome", "zh": "欢迎光临"})


@attrs.frozen(kw_only=True)
class Reward:
    """Something a kiosk gives for points."""

    name: str
    title: Text
    points: int
    stock: bool = False  #: whether pieces are counted
    picture: str = ""  #: one of the kiosk page's own pictures


@attrs.frozen(kw_only=True)
class Settings:
    """All of it."""

    unit: str = "points"
    title: Text = WELCOME
    rewards: Mapping[str, Reward] = {}
    pin_above: int = 500  #: rewards for more points need the member's PIN
    idle: int = 30  #: seconds after the last touch until the session ends
    offline_events: int = 200  #: events a device may send per day from the time without network
    sends: tuple[str, ...] = ()  #: kinds of events that devices may send
    check_in: str = ""  #: the kind that the button "check in" sends
    draw: str = ""  #: the draw of gamification that the kiosk offers
    showrooms: Mapping[str, Showroom] = {}
    models: str = ""  #: the folder of the merchant's own models


#: Kinds that devices may always send.
OWN: Final = ("vr_kiosk.touched", "vr_kiosk.attended", "vr_kiosk.wished", "vr_kiosk.task_done")


def _says(doc: str, type_: str, **rules: Any) -> dict[str, Any]:
    """A key of the schema with what it means."""
    return {"type": type_, **rules, "meta": {**rules.get("meta", {}), "doc": doc}}


SCHEMA: Final = {
    "unit": _says("The unit that rewards cost, by default `points`.", "id"),
    "title": _says("What the kiosk says while nobody stands there.", "text"),
    "rewards": _says(
        "What kiosks give for points, by names you choose.", "dict",
        keysrules={"type": "id"},
        valuesrules={"type": "dict", "schema": {
            "title": _says("What it is called.", "text", required=True),
            "points": _says("What it costs.", "integer", min=1, max=10**9, required=True),
            "stock": _says("Whether pieces are counted; then bring them with `vr_kiosk.stocked`.", "boolean"),
            "picture": _says("One of the pictures that come with the page.", "string", allowed=list(showroom.PICTURES)),
        }},
    ),
    "pin_above": _says("A reward for more points than this needs the member's PIN; 0: every reward does.", "integer", min=0),
    "idle": _says("Seconds after the last touch until a session ends, by default 30.", "integer", min=10, max=300),
    "offline_events": _says(
        "How many events of the time without network a device may send per day, by default 200.", "integer", min=0, max=10_000
    ),
    "sends": _says(
        "Further kinds of events that devices may send, such as `gamification.checked_in`.", "list",
        schema={"type": "name"}, maxlength=100,
    ),
    "check_in": _says("The kind of event that checking in at a kiosk sends; nothing: no such button.", "name"),
    "draw": _says("The draw of gamification that kiosks offer; nothing: none.", "id"),
    "sample": _says("Whether the sample showroom can be visited, as `sample`.", "boolean"),
    "models": _says("The folder of your own models, for showrooms that name any.", "string"),
    "showrooms": _says(
        "Virtual showrooms, by names you choose.", "dict",
        keysrules={"type": "id"}, valuesrules={"type": "dict", "schema": showroom.SCHEMA},
    ),
}  # fmt: skip


def check(document: Mapping[str, Any], context: Any) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Mistakes that a schema cannot express."""
    unit = document.get("unit", "points")
    if document.get("rewards") and unit not in context.units:
        yield ("unit",), f'there is no unit "{unit}"; expected one of {", ".join(sorted(context.units))}'
    for index, kind in enumerate(document.get("sends", ())):
        plugin = kind.partition(".")[0]
        if plugin in ("purchase", "order", "entry", "member", "vr_kiosk"):
            yield ("sends", index), f'"{kind}" is no business of a device in public space'
        elif plugin not in context.plugins:
            yield ("sends", index), f'the plugin "{plugin}" is not enabled'
    if (kind := document.get("check_in")) and kind not in document.get("sends", ()):
        yield ("check_in",), f'"{kind}" is missing in "sends"'
    if document.get("draw") and "gamification.drawn" not in document.get("sends", ()):
        yield ("draw",), '"gamification.drawn" is missing in "sends"'
    if document.get("sample") and "sample" in document.get("showrooms", {}):
        yield ("showrooms", "sample"), '"sample" is the name of the sample showroom'
    yield from _check_showrooms(document)


def _check_showrooms(document: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    for name, said in document.get("showrooms", {}).items():
        for path, message in showroom.check(said):
            yield ("showrooms", name, *path), message
        for section in ("products", "hotspots"):
            for spot, fields in said.get(section, {}).items():
                if (reward := fields.get("reward")) and reward not in document.get("rewards", {}):
                    yield ("showrooms", name, section, spot, "reward"), f'there is no reward "{reward}"'


def read(document: Mapping[str, Any], context: Any) -> Settings:  # noqa: ARG001  the contract
    """A checked document as the plugin uses it."""
    plain: dict[str, Any] = {
        name: document[name]
        for name in ("unit", "pin_above", "idle", "offline_events", "check_in", "draw", "models")
        if name in document
    }
    if "title" in document:
        plain["title"] = values.text(document["title"])
    return Settings(
        **plain,
        sends=(*OWN, *document.get("sends", ())),
        rewards={
            name: Reward(name=name, **{**said, "title": values.text(said["title"])})
            for name, said in document.get("rewards", {}).items()
        },
        showrooms={
            **({"sample": showroom.sample()} if document.get("sample") else {}),
            **{name: showroom.read(name, said) for name, said in document.get("showrooms", {}).items()},
        },
    )
