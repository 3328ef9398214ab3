"""The OpenAPI document is true: schemathesis tries it on a real house."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import attrs
import jsonschema_rs
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from tallystick.api import DOORS
from tallystick.errors import InvalidEvent, InvalidRequest
from tallystick.events import CORE_KINDS, Facts
from tallystick.intake import read_document
from tallystick.openapi import openapi_document
from tallystick.web import GUARDED, PUBLIC
from tests.town import START, Town, build_town

#: Per operation; many more can be tried by hand.
CASES = int(os.environ.get("TALLYSTICK_CASES", "25"))
#: That a key is asked for is shown in test_web_access.py, with every role; and a schema cannot say what a NUL character,
#: the sum of a receipt's lines or yesterday's balance is.
NOT_ASKED = [ignored_auth, positive_data_acceptance]
#: Scripts of the reference page are not part of the API.
ASSETS = {path for path in PUBLIC if path.endswith(".js")}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with build_town(folder, f"sqlite:///{folder / 'tally.db'}") as town:
        yield town


@pytest.fixture(scope="module")
def document(town: Town) -> Any:
    return town.ask("GET", "/openapi.json", key=None).json()


@pytest.fixture(scope="module")
def api(town: Town) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", town.client.app)


@pytest.mark.parametrize(
    "path, method",
    [
        *((door.path, door.method) for door in DOORS),
        *((path, "GET") for path in sorted({*PUBLIC, *(door.path for door in GUARDED)}) if path not in ASSETS),
    ],
)
def test_every_answer_is_one_that_was_promised(town: Town, api: Any, path: str, method: str) -> None:
    """No 5xx, no status, media type or body that the document does not name."""

    @settings(
        max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
    )
    @given(case=api[path][method].as_strategy())
    def ask(case: schemathesis.Case) -> None:
        headers = {"authorization": f"Bearer {town.keys['oak', 'owner']}"}
        case.call_and_validate(headers=headers, excluded_checks=NOT_ASKED)

    ask()


def test_the_document_is_openapi_3_1(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({**schema, "$schema": "https://json-schema.org/draft/2020-12/schema"})


def test_every_door_is_in_the_document(document: Any) -> None:
    for door in DOORS:
        operation = document["paths"][door.path][door.method.lower()]
        assert operation["summary"]
        assert set(map(str, door.answers)) <= set(operation["responses"])


def test_every_reference_leads_somewhere(document: Any) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
            yield from (found for value in node.values() for found in references(value))
        elif isinstance(node, list):
            yield from (found for value in node for found in references(value))

    schemas = document["components"]["schemas"]
    found = set(references(document))
    assert found
    assert all(one.removeprefix("#/components/schemas/") in schemas for one in found)


def test_facts_of_the_same_name_are_kept_apart() -> None:
    """Two plugins, or a plugin and the API, may call their classes alike."""
    facts = msgspec.defstruct("Receipt", [("number", int)], bases=(Facts,), frozen=True, module="tallystick_other")
    kind = attrs.evolve(CORE_KINDS[0], name="other.printed", facts=facts)
    schemas = openapi_document({kind.name: kind})["components"]["schemas"]
    name = schemas["Event_other_printed"]["properties"]["data"]["$ref"].rpartition("/")[2]
    assert list(schemas[name]["properties"]) == ["number"]
    assert sum(schema.get("title") == "Receipt" for schema in schemas.values()) == 2


def test_the_examples_of_the_document_pass_the_door(town: Town, document: Any) -> None:
    """And the schema agrees with the door about each of them, right and spoiled."""
    media = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]
    check = jsonschema_rs.validator_for({"$ref": "#/components/schemas/Event", "components": document["components"]})
    kinds = town.house.kinds("oak")
    assert set(media["examples"]) == set(kinds)
    for name, example in media["examples"].items():
        event = {**example["value"], "time": "2026-11-21T10:15:00Z"}
        assert check.is_valid(event), name
        for spoiled in (
            event,
            {**event, "colour": 1},
            {**event, "data": []},
            {**event, "data": {**event["data"], "colour": 1}},
        ):
            assert check.is_valid(spoiled) is _passes(spoiled, kinds)


def _passes(event: dict[str, Any], kinds: Any) -> bool:
    from tallystick.ledger import moment

    try:
        read_document(event, tenant="oak", kinds=kinds, received=moment(START))
    except (InvalidEvent, InvalidRequest):
        return False
    return True
