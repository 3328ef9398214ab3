"""Showrooms as merchants describe them, and what can be wrong with one."""

from __future__ import annotations

import copy
import gzip
import hashlib
import tomllib
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tallystick.errors import NotFound
from tallystick_vr_kiosk import settings, showroom

SAMPLE: dict[str, Any] = tomllib.loads(
    resources.files("tallystick_vr_kiosk").joinpath("samples", "showroom.toml").read_text()
)


def test_the_sample_is_right_and_has_two_rooms_and_eight_products() -> None:
    assert list(showroom.check(SAMPLE)) == []
    found = showroom.sample()
    assert (len(found.rooms), sum(spot.product for spot in found.spots) >= 8) == (2, True)
    assert {spot.model for spot in found.spots} <= set(showroom.MODELS)
    assert showroom.document(found, "zh")["title"] == "春日展厅"


@pytest.mark.parametrize(
    "where, value, path",
    [
        (("rooms", "study", "doors"), ["attic"], ("rooms", "study", "doors", 0)),
        (("rooms", "study", "doors"), ["study"], ("rooms", "study", "doors", 0)),
        (("products", "lamp", "room"), "attic", ("products", "lamp", "room")),
        (("products", "lamp", "place"), [60, 0, 0], ("products", "lamp", "place")),
        (("products", "lamp", "place"), [0, 90, 0], ("products", "lamp", "place")),
        (("products", "lamp", "model"), "../../etc/passwd", ("products", "lamp", "model")),
        (("products", "lamp", "model"), "/abs/lamp.glb", ("products", "lamp", "model")),
        (("products", "lamp", "model"), "sofa", ("products", "lamp", "model")),
        (("tasks", "arrivals", "count"), 9, ("tasks", "arrivals", "count")),
        (("tasks", "arrivals", "label"), "old", ("tasks", "arrivals", "count")),
    ],
)
def test_a_mistake_is_named_with_its_place(where: tuple[str, ...], value: Any, path: tuple[Any, ...]) -> None:
    said = copy.deepcopy(SAMPLE)
    place = said
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    assert [found for found, _ in showroom.check(said)] == [path]


def test_a_product_is_redeemed_as_a_reward_that_exists() -> None:
    said = copy.deepcopy(SAMPLE)
    said["products"]["lamp"]["reward"] = "lamp"
    context = SimpleNamespace(units={"points"}, plugins={"points"})
    document = {"showrooms": {"spring": said}}
    (mistake,) = settings.check(document, context)
    assert mistake[0] == ("showrooms", "spring", "products", "lamp", "reward")
    document["rewards"] = {"lamp": {"title": "Lamp", "points": 5}}
    assert list(settings.check(document, context)) == []


@pytest.mark.parametrize(
    "name",
    ["../secret.glb", "/etc/passwd", "a/../../secret.glb", "secret.txt", ".hidden.glb", "away.glb", "none.glb", ""],
)
def test_a_model_lies_below_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "models" / "a").mkdir(parents=True)
    (tmp_path / "secret.glb").write_bytes(b"1")
    (tmp_path / "models" / "secret.txt").write_bytes(b"1")
    (tmp_path / "models" / "away.glb").symlink_to(tmp_path / "secret.glb")
    (tmp_path / "models" / "a" / "lamp.glb").write_bytes(b"glTF")
    assert showroom.read_model(str(tmp_path / "models"), "a/lamp.glb") == b"glTF"
    with pytest.raises(NotFound):
        showroom.read_model(str(tmp_path / "models"), name)


@pytest.mark.parametrize(
    "folder",
    [Path(str(resources.files("tallystick_vr_kiosk").joinpath("static"))), Path(__file__).parent / "vendored"],
    ids=["shown", "for tests"],
)
def test_what_is_vendored_is_what_it_says(folder: Path) -> None:
    assets = tomllib.loads((folder / "vendored.toml").read_text())["asset"]
    assert {str(file.relative_to(folder)) for file in folder.rglob("*.gz")} == {one["file"] for one in assets}
    for one in assets:
        body = (folder / one["file"]).read_bytes()
        assert hashlib.sha256(body).hexdigest() == one["sha256"]
        assert hashlib.sha256(gzip.decompress(body)).hexdigest() == one["sha256_unpacked"]
        assert one["licence"].partition("-")[0] in (folder / one["licence_file"]).read_text().replace(
            "Apache License", "Apache"
        )
