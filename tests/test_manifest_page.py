"""The pages about the two files people write say what the code takes."""

import re
from pathlib import Path

import pytest

from tallystick import config, manifest, schema
from tallystick.document import Document
from tallystick.errors import InvalidConfig

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
MANIFEST = (REFERENCE / "manifest.md").read_text()
CONFIGURATION = (REFERENCE / "configuration.md").read_text()


def examples(page: str, language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [text for named, text in blocks if named == language]


def tables() -> dict[str, list[str]]:
    """The keys of each table of a manifest that has a shape."""
    shapes = {key: [entry, entry.get("valuesrules", {})] for key, entry in manifest.SCHEMA.items()}
    return {
        key: list(shape["schema"])
        for key, both in shapes.items()
        for shape in both
        if shape.get("type") == "dict" and "schema" in shape
    }


def test_every_key_of_a_manifest_has_its_heading() -> None:
    assert sorted(re.findall(r"^### (\w+)$", MANIFEST, re.MULTILINE)) == sorted(manifest.SCHEMA)


@pytest.mark.parametrize("section, keys", tables().items())
def test_every_key_of_its_tables_is_named_below_the_heading(section, keys) -> None:
    described = MANIFEST.partition(f"\n### {section}\n")[2].partition("\n### ")[0]
    assert [key for key in keys if f"`{key}`" not in described] == []


def test_the_manifest_shown_is_one() -> None:
    shown = next(text for text in examples(MANIFEST, "toml") if 'id = "' in text)
    assert manifest.from_document(Document(shown), version="1.0").hooks == ("needs", "earn")


def test_the_configuration_shown_is_one() -> None:
    (shown,) = examples(CONFIGURATION, "toml")
    text = shown.replace('secret_file = "tally.secret"\n', "")
    assert config.check(Document(text)).tenants["demo"].currency == "CNY"


def test_the_mistakes_shown_are_said() -> None:
    (shown,) = examples(CONFIGURATION, "toml")
    wrong = shown.replace("Shanghai", "Shangai").replace("currency", "curency").replace('"7.30"', "7.30")
    with pytest.raises(InvalidConfig) as caught:
        config.check(Document(wrong))
    said = [str(problem) for problem in caught.value.problems]
    assert [line for line in examples(CONFIGURATION, "")[0].splitlines() if line not in said] == []


def test_every_type_of_value_is_described() -> None:
    described = CONFIGURATION.partition("## Types of values")[2]
    assert sorted(re.findall(r"^\| `(\w+)` \|", described, re.MULTILINE)) == sorted(schema.TYPES)
