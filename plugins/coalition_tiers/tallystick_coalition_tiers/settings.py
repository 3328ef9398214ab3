"""On which ladders what members spend at partners counts, and as which metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs


@attrs.frozen(kw_only=True)
class Ladder:
    """A ladder of tiers, and the metric to which partner spend is added."""

    name: str
    metric: str = "spend"
    window: str = "lifetime"  #: under which the ladder keeps the metric

    @property
    def counter(self) -> str:
        """The counter that tiers keep for it."""
        return f"tiers.{self.name}.{self.metric}"


@attrs.frozen(kw_only=True)
class Settings:
    """The glue as one merchant has set it up."""

    ladders: tuple[Ladder, ...] = ()


def _says(meaning: str, **rule: Any) -> dict[str, Any]:
    return {**rule, "meta": {**rule.get("meta", {}), "doc": meaning}}


#: The Cerberus schema of the plugin's settings.
SCHEMA: Final[Mapping[str, Any]] = {
    "ladders": _says(
        "The ladders on which it counts. By default none.",
        type="list", maxlength=16,
        schema={
            "type": "dict",
            "schema": {
                "name": _says("The ladder, as the settings of tiers name it.", type="id", required=True),
                "metric": _says("To which of its metrics it is added: one that measures `spend`. By default `spend`.", type="id"),
                "window": _says(
                    "The ladder's `window` if it looks back over days, such as `P365D`. By default `lifetime`, which is right for all others.",
                    type="string", regex="lifetime|P[1-9][0-9]{0,3}D",
                    meta={"expected": "lifetime, or P<n>D for the last n days"},
                ),
            },
        },
    ),
}  # fmt: skip


def check(document: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Mistakes that the schema cannot see."""
    seen: set[tuple[str, str]] = set()
    for place, ladder in enumerate(document.get("ladders", ())):
        named = ladder["name"], ladder.get("metric", "spend")
        if named in seen:
            yield ("ladders", place), f'found "{named[1]}" of "{named[0]}" twice; expected each once'
        seen.add(named)


def read(document: Mapping[str, Any]) -> Settings:
    """A checked document as the plugin uses it."""
    return Settings(ladders=tuple([Ladder(**ladder) for ladder in document.get("ladders", ())]))
