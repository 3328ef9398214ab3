"""What plugins rely on changes only as the API's version says."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tallystick import contract

LOCK = json.loads((Path(__file__).parent.parent / "api.lock.json").read_text())


def test_the_code_keeps_the_contract_that_is_written_down() -> None:
    """``python .ci/contract.py`` writes it, and refuses what breaks plugins without an API major."""
    now = json.loads(json.dumps(contract.describe()))
    assert contract.refusal(LOCK, now) is None
    assert now == LOCK, contract.compare(LOCK, now)


def _pop(*path: str) -> Callable[[Any], Any]:
    def change(found: Any) -> None:
        for part in path[:-1]:
            found = found[part]
        del found[path[-1]]

    return change


def _put(value: Any, *path: str) -> Callable[[Any], Any]:
    def change(found: Any) -> None:
        for part in path[:-1]:
            found = found[part]
        found[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change, weight, said",
    [
        (_pop("hooks", "earn"), "major", "hooks: earn is gone"),
        (_put(["event"], "hooks", "earn", "takes"), "major", "hooks: earn is not given situation any more"),
        (_put(["event", "situation", "more"], "hooks", "earn", "takes"), "minor", "hooks: earn is given more"),
        (_put("refuse", "hooks", "earn", "on_failure"), "major", "hooks: earn has on_failure refuse, and had skip_and_repair"),
        (_put({"takes": [], "async": False, "pure": True, "on_failure": "skip"}, "hooks", "dream"), "minor", "hooks: dream is new"),
        (_pop("effects", "Grant"), "major", "effects: Grant is gone"),
        (_pop("effects", "Grant", "unit"), "major", "effects: Grant.unit is gone"),
        (_put({"type": "int", "required": False}, "effects", "Grant", "x"), "minor", "effects: Grant.x is new"),
        (_put({"type": "int", "required": True}, "effects", "Grant", "x"), "major", "effects: Grant.x is new and required"),
        (_put({"type": "float", "required": True}, "effects", "Grant", "amount"), "major", "effects: Grant.amount has type float, and had int"),
        (_pop("events", "purchase.refunded"), "major", "events: purchase.refunded is gone"),
        (_pop("facts", "Purchase", "store"), "major", "facts: Purchase.store is gone"),
        (_pop("manifest", "interests"), "major", "manifest: interests is gone"),
        (_put({"type": "string", "required": True}, "manifest", "mood"), "major", "manifest: mood is new and required"),
        (_put({"type": "string", "required": False}, "manifest", "mood"), "minor", "manifest: mood is new"),
    ],
)  # fmt: skip
def test_a_difference_is_weighed(change: Callable[[Any], Any], weight: str, said: str) -> None:
    now = copy.deepcopy(LOCK)
    change(now)
    assert (weight, said) in contract.compare(LOCK, now)
    assert (contract.refusal(LOCK, now) is not None) is (weight == "major")


def test_an_api_major_may_break() -> None:
    now = copy.deepcopy(LOCK)
    _pop("hooks", "earn")(now)
    now["api"] = "2.0"
    assert contract.refusal(LOCK, now) is None
