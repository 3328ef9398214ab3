"""The OpenAPI 3.1 document, made from the table of doors and the very classes that decode and encode."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

import msgspec

from .api import BY_KIND, DOORS, Door, Problem
from .events import EventKind
from .intake import Envelope
from .problems import MEDIA_TYPE, TABLE, status_of_code

_REF: Final = "#/components/schemas/{name}"
_PATH_NAMES: Final = {
    "member": "a member number (`m-` and twelve digits) or an external id",
    "entry": "an entry's name: writer, batch and place, as `1-42-0`",
    "plugin": "a plugin's id",
    "pass": "what the house has signed: which tenant it is for and what it is about",
}
#: What may be refused at any door that asks for a key, by status.
_ALWAYS: Final = (400, 401, 403, 404, 429, 500, 503)


def openapi_document(kinds: Mapping[str, EventKind], brought: Sequence[Door] = ()) -> dict[str, Any]:
    """The document for a deployment that knows *kinds* of events and has the doors that plugins *brought*."""
    doors = (*DOORS, *brought)
    components, own = _components(kinds, doors)
    paths: dict[str, Any] = {}
    for door in doors:
        paths.setdefault(door.path, {})[door.method.lower()] = _operation(door, kinds, components, own)
    for path, summary, media in OPEN:
        paths[path] = {"get": {"operationId": path.strip("/").replace(".", "_"), "summary": summary, "security": [], "responses": {
            "200": {"description": "as asked", "content": {media: {}}},
            **({"503": {"description": "not ready", "content": {media: {}}}} if path == "/readyz" else {}),
        }}}  # fmt: skip
    paths["/metrics"] = {"get": {
        "operationId": "metrics",
        "summary": "Counters of this process, for Prometheus",
        "description": "Needs the permission `metrics.read`.",
        "responses": {"200": {"description": "text", "content": {"text/plain": {}}}, **_refusals((401, 403, 429))},
    }}  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tallystick",
            "version": version("tallystick-core"),
            "summary": "Every point is explained, every balance can be proved.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "an API key, `tk_...`; `tally key create` makes one",
                }
            },
            "schemas": dict(sorted(components.items())),
        },
    }


#: Pages anybody may see: path, what it is, media type.
OPEN: Final = (
    ("/healthz", "Whether the process is alive", "application/json"),
    ("/readyz", "Whether events can be recorded now, and which plugins are broken", "application/json"),
    ("/openapi.json", "This document", "application/json"),
    ("/docs", "This document, to read in a browser", "text/html"),
)


def event_schema_name(kind: str) -> str:
    """The name of an event kind's schema."""
    return "Event_" + re.sub(r"\W", "_", kind)


def _components(
    kinds: Mapping[str, EventKind], doors: Sequence[Door]
) -> tuple[dict[str, Any], dict[Any, dict[str, Any]]]:
    """All schemas by name, and each class's own; two plugins may call their facts alike, then msgspec names the module too."""
    types: list[Any] = [Envelope, Problem]
    for door in doors:
        types += [kind for kind in (door.query, door.body) if kind is not None]
        for answer in door.answers.values():
            types += _classes(answer)
    types += [kind.facts for kind in kinds.values()]
    types = list(dict.fromkeys(types))
    found, components = msgspec.json.schema_components(types, ref_template=_REF)
    own = dict(zip(types, found, strict=True))
    envelope = components.pop(own[Envelope]["$ref"].rpartition("/")[2])
    for name, kind in sorted(kinds.items()):
        properties = {**envelope["properties"], "type": {"const": name}, "data": own[kind.facts]}
        properties["member"] = {key: value for key, value in properties["member"].items() if key != "default"}
        components[event_schema_name(name)] = {
            "type": "object",
            "title": name,
            "description": f"{kind.summary.get('en', '')} Needs the permission `{kind.permission}`.".strip(),
            "properties": properties,
            "required": sorted({*envelope["required"], *([] if kind.guest else ["member"])}),
            "additionalProperties": False,
        }
    return components, own


def _classes(kind: Any) -> list[Any]:
    if get_origin(kind) in (Union, UnionType):
        return [part for member in get_args(kind) for part in _classes(member)]
    return [get_args(kind)[0]] if get_origin(kind) is list else [kind]


def schema_of(kind: Any, own: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    """The schema of a body, by reference to the components."""
    if get_origin(kind) in (Union, UnionType):
        return {"anyOf": [schema_of(member, own) for member in get_args(kind)]}
    if get_origin(kind) is list:
        return {"type": "array", "items": schema_of(get_args(kind)[0], own)}
    return own[kind]


def _operation(
    door: Door, kinds: Mapping[str, EventKind], components: dict[str, Any], own: Mapping[Any, dict[str, Any]]
) -> dict[str, Any]:
    needs = "what the kind of event says" if door.permission == BY_KIND else f"`{door.permission}`"
    needs = f"Needs the permission {needs}." if door.permission else "Needs no key: the pass in the path opens it."
    operation: dict[str, Any] = {
        "operationId": door.name,
        "summary": door.summary,
        "description": f"{door.about}\n\n{needs}",
        **({} if door.permission else {"security": []}),
        "parameters": [
            *(
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "description": _PATH_NAMES.get(name, f"the {name}"),
                    "schema": {"type": "string", "minLength": 1},
                }
                for name in re.findall(r"{(\w+)}", door.path)
            ),
            *_query_parameters(door, components, own),
        ],
        "responses": {
            **{str(status): _answer(schema_of(kind, own), kind) for status, kind in door.answers.items()},
            **_refusals(sorted({*_ALWAYS, *((409, 413, 415, 422) if door.method != "GET" else ())})),
        },
    }
    if door.permission == BY_KIND:
        one = {
            "oneOf": [{"$ref": _REF.format(name=event_schema_name(name))} for name in sorted(kinds)],
            "discriminator": {
                "propertyName": "type",
                "mapping": {name: _REF.format(name=event_schema_name(name)) for name in sorted(kinds)},
            },
        }
        components["Event"] = one
        event = {"$ref": _REF.format(name="Event")}
        many = {"type": "array", "items": event, "maxItems": 1_000}
        operation["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": {"anyOf": [event, many]}, "examples": _examples(kinds)},
                "application/cloudevents+json": {"schema": event},
                "application/cloudevents-batch+json": {"schema": many},
            },
        }
    elif door.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of(door.body, own)}},
        }
    return operation


def _query_parameters(
    door: Door, components: Mapping[str, Any], own: Mapping[Any, dict[str, Any]]
) -> list[dict[str, Any]]:
    if door.query is None:
        return []
    schema = components[own[door.query]["$ref"].rpartition("/")[2]]
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": _without_null(part)}
        for name, part in schema["properties"].items()
    ]


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter is absent or has a value; there is no null in a query."""
    kept = {key: value for key, value in schema.items() if key not in {"anyOf", "default"} or value is not None}
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if options:
        kept.pop("anyOf")
        kept |= options[0] if len(options) == 1 else {"anyOf": options}
    return kept


def _answer(schema: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    media = "text/html" if kind is str else "application/json"  # a text is a plugin's page
    return {"description": "as asked", "content": {media: {"schema": schema}}}


def _refusals(statuses: Iterable[int]) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name="Problem")}
    return {
        str(status): {
            "description": "refused: " + ", ".join(f"`{code}`" for code in TABLE if status_of_code(code) == status),
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }


def _examples(kinds: Mapping[str, EventKind]) -> dict[str, Any]:
    return {
        name: {
            "summary": kind.summary.get("en", name),
            "value": {
                "id": "till-1-0001",
                "source": "pos/main-street",
                "type": name,
                "time": "2026-11-21T10:15:00Z",
                "member": "C-1001",
                "data": msgspec.to_builtins(kind.example),
            },
        }
        for name, kind in sorted(kinds.items())
    }
