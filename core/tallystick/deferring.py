"""What a held event puts off: which rows it was to write, and whether they still are what was looked at.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from .effects import EFFECTS, Effect, Put, SetTier
from .ledger import Record
from .settle import plugin_of

#: (plugin, key) -> its own rows
Rows = Mapping[tuple[str, str], Mapping[str, Any]]
Row = tuple[str, str, str]  #: plugin, key, name


def row_of(effect: Effect, member: int) -> Row | None:
    """The row that *effect* writes; None if it writes none."""
    if isinstance(effect, Put):
        return plugin_of(effect.rule), effect.key.replace("{member}", f"m:{member}"), effect.name
    if isinstance(effect, SetTier):
        return "core", f"m:{member}", f"tier:{effect.ladder}"
    return None


def looked_at(
    effects: Sequence[Effect], member: int, read: Collection[tuple[str, str]], rows: Rows
) -> list[str | None]:
    """For each of *effects* the mark of the row it was to write, as it was; None if it writes none or nobody had read it.

    *read* are the keys that plugins had asked for.
    """
    found: list[str | None] = []
    for effect in effects:
        row = row_of(effect, member)
        found.append(_mark(row, rows) if row is not None and row[:2] in read else None)
    return found


def deferred_of(record: Record) -> list[Effect]:
    """What a held entry had put off."""
    return [msgspec.convert(body, type=EFFECTS[name]) for name, body in (record.more or {}).get("deferred", ())]


def rows_of(record: Record, member: int) -> Iterator[Row]:
    """The rows that a held entry had been about to write."""
    for effect in deferred_of(record):
        row = row_of(effect, member)
        if row is not None:
            yield row


def outrun(record: Record, effects: Sequence[Effect], member: int, rows: Rows) -> frozenset[str]:
    """The plugins of which a row that they had looked at is another one by now: what they were to write is out of date."""
    marks: Sequence[str | None] = (record.more or {}).get("seen", ())
    late = set()
    for effect, mark in zip(effects, marks, strict=False):  # entries of before they were marked have none
        row = row_of(effect, member)
        if mark is not None and row is not None and _mark(row, rows) != mark:
            late.add(plugin_of(effect.rule))
    return frozenset(late)


def _mark(row: Row, rows: Rows) -> str:
    plugin, key, name = row
    value = rows.get((plugin, key), {}).get(name)
    return "" if value is None else hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:16]
