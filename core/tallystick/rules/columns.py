"""A whole rule set over a file of events at once, in DuckDB: for imports, rehearsals and recomputation.

The file has one column per name of the scope: objects are structs, lists are lists, instants are TIMESTAMP WITH TIME ZONE. The
answer has one row per event, in the order of the file, and the verdict of rule *n* in the columns ``fired<n>`` (never NULL),
``value<n>``, ``basis<n>`` and ``matched<n>``. Decimal values are whole numbers of their last digit (`Columns.scales`).

DuckDB and not polars, because what a rule asks of a line may depend on the member, and the expressions polars evaluates inside lists
may not look at other columns. bench/rules.py measures it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tallystick.rules.check import Typed
from tallystick.rules.operations import EXACT
from tallystick.rules.rule import Firing, Rule
from tallystick.rules.ruleset import RuleSet
from tallystick.rules.sql import Column, DuckdbWriter
from tallystick.rules.typed import Constant
from tallystick.rules.types import Fixed

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class Columns:
    """A rule set as one query."""

    sql: str
    parameters: Mapping[str, Any]
    #: Digits after the point of each rule's value; 0 for whole numbers.
    scales: tuple[int, ...] = field(default_factory=tuple)

    def run(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """Execute it; fetch the rows from what is returned."""
        return connection.execute(self.sql, dict(self.parameters))

    def firings(self, row: tuple[Any, ...]) -> list[Firing]:
        """The verdicts of one row, without the single lines."""
        found = []
        for number, scale in enumerate(self.scales):
            fired, value, basis = row[3 * number : 3 * number + 3]
            if fired:
                exact = Decimal(value).scaleb(-scale, EXACT) if scale and value is not None else value
                found.append(Firing(number, exact, basis or 0, ()))
        return found


def columns(rules: RuleSet, source: str) -> Columns:
    """The query for *rules* over *source*, an SQL source of rows written by a programmer: ``read_parquet('events.parquet')``.

    Raises `InvalidRule` if a rule cannot be asked of columns, which is only so for plugins' own functions.
    """
    writer = DuckdbWriter(rules.scope, rules.rules[0].when.source, {}, {}) if len(rules) else None
    asked, counted, answers, scales = ["*"], ["*"], [], []
    for number, rule in enumerate(rules):
        assert writer is not None
        asked.append(f"{_asked(rule, rules, writer)} AS _q{number}")
        if rule.counts:
            counted += [f"list_sum(_q{number}) AS _s{number}", f"list_count(_q{number}) AS _n{number}"]
        fired, basis, value = _answer(number, rule, rules, writer)
        answers += [f"{fired} AS fired{number}", f"{value} AS value{number}", f"{basis} AS basis{number}"]
        kind = None if rule.value is None else rule.value.type
        scales.append(kind.scale if isinstance(kind, Fixed) else 0)
    # Made of the writer's own text; every constant of a rule is a parameter. What is computed below is computed once above.
    sql = f"(SELECT {', '.join(asked)} FROM {source})"  # noqa: S608
    sql = f"SELECT {', '.join(answers)} FROM (SELECT {', '.join(counted)} FROM {sql})"  # noqa: S608
    return Columns(sql, {} if writer is None else writer.parameters, tuple(scales))


def _asked(rule: Rule, rules: RuleSet, writer: DuckdbWriter) -> str:
    """For a rule without lines whether it holds; else what each line brings, NULL if it does not count, of none if it does not hold."""
    tests = [f'"{name}" IS NOT NULL' for name in sorted(rule.given)]
    always = isinstance(rule.when.root, Constant) and rule.when.root.value is True
    if not always:
        tests.append(_written(rule.when, rules, writer, {}, holds=True))
    if not rule.counts:
        return f"COALESCE({' AND '.join(tests) or 'TRUE'}, FALSE)"
    assert rules.lines is not None
    line = {rules.places.line: Column("_line")}
    brings = "0" if rule.basis is None else _written(rule.basis, rules, writer, line)
    brings = f"CAST({brings} AS BIGINT)"
    if rule.lines is not None:
        brings = f"CASE WHEN {_written(rule.lines, rules, writer, line, holds=True)} THEN {brings} END"
    # Filtering would copy whole lines; NULL for those that do not count costs half.
    outcome = f"list_transform({_written(rules.lines, rules, writer, {})}, lambda _line: {brings})"
    if always and rule.given == {rules.places.lines.split(".")[0]}:
        return outcome  # of no lines it is NULL
    return f"CASE WHEN {' AND '.join(tests) or 'TRUE'} THEN {outcome} END"


def _answer(number: int, rule: Rule, rules: RuleSet, writer: DuckdbWriter) -> tuple[str, str, str]:
    fired, basis, around = f"_q{number}", "0", {}
    if rule.counts:
        fired = f"(_s{number} IS NOT NULL)"
        basis = f"CAST(COALESCE(_s{number}, 0) AS BIGINT)"
        around = {"basis": Column(basis), "matched": Column(f"_n{number}")}
    value = "NULL"
    if rule.value is not None:
        value = f"CASE WHEN {fired} THEN {_written(rule.value, rules, writer, around)} END"
    return fired, basis, value


def _written(
    typed: Typed, rules: RuleSet, writer: DuckdbWriter, around: Mapping[str, Column], *, holds: bool = False
) -> str:
    writer.scope, writer.source, writer.columns = rules.scope, typed.source, around
    return writer.holds(typed.root) if holds else writer.write(typed.root)
