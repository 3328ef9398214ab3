"""Showrooms as merchants describe them: rooms, products, hotspots, tasks, happenings, a guide desk.  Pure.

Places are in decimetres from the middle of a room's floor: x to the right, y up, z towards whoever enters; whole numbers,
as everywhere in settings.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from tallystick import values
from tallystick.errors import NotFound
from tallystick.values import Text

#: Models made for the sample showroom; whoever has none of their own uses them.
MODELS: Final = (
    "armchair",
    "bowl",
    "chair",
    "clock",
    "lamp",
    "mug",
    "plant",
    "radio",
    "rug",
    "shelf",
    "stool",
    "table",
    "teapot",
    "vase",
)
#: Pictures of rewards that come with the kiosk page.
PICTURES: Final = ("bag", "book", "coffee", "gift", "mug", "plant", "ticket", "umbrella")
#: A file of the merchant's own: a name below the folder of models, and never out of it.
_FILE: Final = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*){0,3}\.(glb|gltf)")
_COLOUR: Final = r"#[0-9a-f]{6}"
MOST: Final = 100
#: Bytes of a model.
LARGEST: Final = 8 * 1024 * 1024
NO_TEXT: Final = Text({})


@attrs.frozen(kw_only=True)
class Room:
    """A room with four walls; doors lead to other rooms."""

    name: str
    title: Text
    width: int
    depth: int
    height: int = 32
    wall: str = "#f2ede4"
    floor: str = "#c9ab84"
    doors: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Spot:
    """Something to look at, touch or try: a product, or a hotspot that only tells."""

    name: str
    title: Text
    room: str
    place: tuple[int, int, int]
    model: str = "vase"
    turn: int = 0  #: degrees
    colour: str = ""
    text: Text = NO_TEXT
    labels: tuple[str, ...] = ()
    product: bool = True
    reward: str = ""  #: the reward that it can be redeemed as


@attrs.frozen(kw_only=True)
class Task:
    """Find so many spots with a label."""

    name: str
    title: Text
    label: str
    count: int


@attrs.frozen(kw_only=True)
class Happening:
    """Something with a begin and an end, for everybody or for guests."""

    name: str
    title: Text
    room: str
    since: datetime
    until: datetime
    guests: tuple[str, ...] = ()  #: tags of members who may come; none: everybody


@attrs.frozen(kw_only=True)
class Showroom:
    """One showroom."""

    name: str
    title: Text
    rooms: tuple[Room, ...]
    spots: tuple[Spot, ...]
    tasks: tuple[Task, ...] = ()
    happenings: tuple[Happening, ...] = ()
    guide: Text | None = None

    def spot(self, name: str) -> Spot | None:
        """The spot of that name."""
        return next((spot for spot in self.spots if spot.name == name), None)


def _says(doc: str, type_: str, **rules: Any) -> dict[str, Any]:
    return {"type": type_, **rules, "meta": {**rules.get("meta", {}), "doc": doc}}


_COLOUR_SAID: Final = {"regex": _COLOUR, "meta": {"expected": "a colour such as #c9ab84"}}
_ROOM: Final = {
    "title": _says("What it is called.", "text", required=True),
    "width": _says("From wall to wall, in decimetres.", "integer", min=20, max=400, required=True),
    "depth": _says("From the entrance to the wall behind, in decimetres.", "integer", min=20, max=400, required=True),
    "height": _says("To the ceiling, by default 32.", "integer", min=22, max=200),
    "wall": _says("The walls' colour.", "string", **_COLOUR_SAID),
    "floor": _says("The floor's colour.", "string", **_COLOUR_SAID),
    "doors": _says("Rooms that its doors lead to.", "list", schema={"type": "id"}, maxlength=8),
}
_SPOT: Final = {
    "title": _says("What it is called.", "text", required=True),
    "room": _says("In which room it stands.", "id", required=True),
    "place": _says(
        "Where: to the right of the middle, above the floor, towards the entrance, in decimetres.", "list", required=True,
        minlength=3, maxlength=3, schema={"type": "integer", "min": -400, "max": 400},
    ),
    "model": _says("A model that comes with the plugin, or a .glb or .gltf file of your own, by default a vase.", "string"),
    "turn": _says("How far it is turned, in degrees.", "integer", min=-360, max=360),
    "colour": _says("Its colour, for models that come with the plugin.", "string", **_COLOUR_SAID),
    "text": _says("What is told about it.", "text"),
    "labels": _says("What tasks and rules know it by, such as `new`.", "list", schema={"type": "id"}, maxlength=16),
    "reward": _says("The reward that it can be redeemed as.", "id"),
}  # fmt: skip
SCHEMA: Final = {
    "title": _says("What it is called.", "text", required=True),
    "rooms": _says(
        "Its rooms, by names you choose; visitors enter the first.", "dict", required=True, minlength=1, maxlength=20,
        keysrules={"type": "id"}, valuesrules={"type": "dict", "schema": _ROOM},
    ),
    "products": _says(
        "What can be looked at, touched and tried.", "dict", maxlength=MOST,
        keysrules={"type": "id"}, valuesrules={"type": "dict", "schema": _SPOT},
    ),
    "hotspots": _says(
        "What only tells something.", "dict", maxlength=MOST,
        keysrules={"type": "id"}, valuesrules={"type": "dict", "schema": _SPOT},
    ),
    "tasks": _says(
        "Things to find.", "dict", maxlength=20, keysrules={"type": "id"},
        valuesrules={"type": "dict", "schema": {
            "title": _says("What is asked.", "text", required=True),
            "label": _says("The label of the spots to find.", "id", required=True),
            "count": _says("How many of them.", "integer", min=1, max=MOST, required=True),
        }},
    ),
    "happenings": _says(
        "Virtual events.", "dict", maxlength=50, keysrules={"type": "id"},
        valuesrules={"type": "dict", "schema": {
            "title": _says("What happens.", "text", required=True),
            "room": _says("Where.", "id", required=True),
            "since": _says("From when, with its zone.", "instant", required=True),
            "until": _says("Until when.", "instant", required=True),
            "guests": _says("Tags of members who may come; nothing: everybody.", "list", schema={"type": "string"}, maxlength=50),
        }},
    ),
    "guide": _says("What the guide at the desk says.", "text"),
}  # fmt: skip


def check(said: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Mistakes that a schema cannot express, each with its place."""
    rooms = said.get("rooms", {})
    for name, room in rooms.items():
        for index, door in enumerate(room.get("doors", ())):
            if door not in rooms or door == name:
                yield ("rooms", name, "doors", index), f'a door leads to another room; there is no room "{door}"'
    labels: list[str] = []
    for section in ("products", "hotspots"):
        for name, spot in said.get(section, {}).items():
            labels += spot.get("labels", ())
            yield from (((section, name, *path), message) for path, message in _check_spot(spot, rooms))
            if section == "hotspots" and name in said.get("products", {}):
                yield (section, name), f'"{name}" is the name of a product, too'
    for name, task in said.get("tasks", {}).items():
        if (there := labels.count(task["label"])) < task["count"]:
            yield ("tasks", name, "count"), f'only {there} spots have the label "{task["label"]}"'
    for name, happening in said.get("happenings", {}).items():
        if happening["room"] not in rooms:
            yield ("happenings", name, "room"), f'there is no room "{happening["room"]}"'
        if _instant(happening["until"]) <= _instant(happening["since"]):
            yield ("happenings", name, "until"), "it ends before it begins"


def _check_spot(spot: Mapping[str, Any], rooms: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    room = rooms.get(spot["room"])
    if room is None:
        yield ("room",), f'there is no room "{spot["room"]}"'
    else:
        x, y, z = spot["place"]
        inside = 2 * abs(x) <= room["width"] and 2 * abs(z) <= room["depth"] and 0 <= y <= room.get("height", 32)
        if not inside:
            yield ("place",), f'that is outside of "{spot["room"]}"'
    model = spot.get("model", "vase")
    if model not in MODELS and not _FILE.fullmatch(model):
        known = ", ".join(MODELS)
        yield ("model",), f'"{model}" is neither one of {known} nor a .glb or .gltf file below the folder of models'


def read(name: str, said: Mapping[str, Any]) -> Showroom:
    """A checked document as the plugin uses it."""
    return Showroom(
        name=name,
        title=values.text(said["title"]),
        rooms=tuple(
            Room(name=each, **{**room, "title": values.text(room["title"]), "doors": tuple(room.get("doors", ()))})
            for each, room in said["rooms"].items()
        ),
        spots=tuple(
            _spot(each, spot, product=section == "products")
            for section in ("products", "hotspots")
            for each, spot in said.get(section, {}).items()
        ),
        tasks=tuple(
            Task(name=each, title=values.text(task["title"]), label=task["label"], count=task["count"])
            for each, task in said.get("tasks", {}).items()
        ),
        happenings=tuple(
            Happening(
                name=each, title=values.text(one["title"]), room=one["room"], since=_instant(one["since"]),
                until=_instant(one["until"]), guests=tuple(one.get("guests", ())),
            )
            for each, one in said.get("happenings", {}).items()
        ),
        guide=values.text(said["guide"]) if "guide" in said else None,
    )  # fmt: skip


def sample() -> Showroom:
    """The showroom that comes with the plugin."""
    text = resources.files(__package__).joinpath("samples", "showroom.toml").read_text()
    return read("sample", tomllib.loads(text))


def read_model(folder: str, name: str) -> bytes:
    """A model of the merchant's own.  Raises NotFound for whatever is no model below *folder*."""
    if not folder or not _FILE.fullmatch(name):
        raise NotFound("there is no such model")
    root = Path(folder).resolve()
    file = root.joinpath(name).resolve()
    if not file.is_relative_to(root) or not file.is_file() or file.stat().st_size > LARGEST:
        raise NotFound("there is no such model")
    return file.read_bytes()


def _spot(name: str, said: Mapping[str, Any], *, product: bool) -> Spot:
    more: dict[str, Any] = {key: values.text(said[key]) for key in ("title", "text") if key in said}
    x, y, z = said["place"]
    rest = {key: said[key] for key in ("room", "model", "turn", "colour", "reward") if key in said}
    return Spot(name=name, place=(x, y, z), labels=tuple(said.get("labels", ())), product=product, **more, **rest)


def _instant(value: str | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def document(room: Showroom, language: str) -> dict[str, Any]:
    """A showroom as its page reads it, in one language."""

    def plain(value: Any) -> Any:
        if isinstance(value, Text):
            return value.in_language(language)
        if attrs.has(type(value)):
            return {each.name: plain(getattr(value, each.name)) for each in attrs.fields(type(value))}
        if isinstance(value, tuple):
            return [plain(each) for each in value]
        return value

    said: dict[str, Any] = msgspec.to_builtins(plain(room))
    for one in said["happenings"]:
        del one["guests"]  # who is invited is nobody else's business
    return said
