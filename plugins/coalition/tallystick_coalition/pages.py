"""A statement for people and for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from typing import Any, Final

from .settle import Entry, Row, Statement, rows

_WORDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "en": {
        "title": "Statement {period}", "between": "{0} and {1}", "owes": "{0} owes {1}", "net": "To pay", "nothing": "nothing",
        "entries": "{n} entries", "root": "Root of the entries", "state": {"agreed": "Both books agree", "disputed": "The books differ"},
        "head": ("transfer", "kind", "from", "to", "amount", "gives", "owed", "agreement"), "returned": "returned",
    },
    "zh": {
        "title": "{period} 对账单", "between": "{0} 与 {1}", "owes": "{0} 应付 {1}", "net": "净额应付", "nothing": "无",
        "entries": "共 {n} 笔", "root": "明细的默克尔根", "state": {"agreed": "双方账目一致", "disputed": "双方账目不符"},
        "head": ("转移编号", "类型", "来源", "去向", "数量", "所得", "应付", "协议"), "returned": "退回",
    },
}  # fmt: skip


def to_csv(period: str, entries: Sequence[Entry]) -> str:
    """The entries as CSV, in the order of transfers; no cell can begin a formula, for brands and transfers begin with neither."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(rows(period, entries))
    return out.getvalue()


def money(amount: int, decimals: int, currency: str) -> str:
    """An amount of minor units as people read it.

    >>> money(-1205, 2, "USD")
    '-12.05 USD'
    """
    digits = str(abs(amount)).rjust(decimals + 1, "0")
    whole = digits[: len(digits) - decimals] + ("." + digits[-decimals:] if decimals else "")
    return f"{'-' if amount < 0 else ''}{whole} {currency}"


def to_html(statement: Statement, entries: Sequence[Entry], state: str, decimals: int, language: str = "en") -> str:
    """The statement as a page that loads nothing from elsewhere."""
    words = _WORDS[language]
    one, two = statement.brands

    def amount(value: int) -> str:
        return escape(money(value, decimals, statement.currency))

    payer = (one, two) if statement.net > 0 else (two, one)
    net = f"{escape(words['owes'].format(*payer))}: {amount(abs(statement.net))}" if statement.net else words["nothing"]
    lines = "".join(
        "<tr>"
        + "".join(
            f"<td>{escape(str(cell))}</td>"
            for cell in (
                row.transfer + (f" ({words['returned']} {row.n})" if row.n else ""), row.kind, row.source, row.target, row.amount,
                row.gets, money(row.owed, decimals, statement.currency), row.agreement,
            )
        )
        + "</tr>"
        for row in rows(statement.period, entries)
    )  # fmt: skip
    head = "".join(f"<th>{cell}</th>" for cell in words["head"])
    title = words["title"].format(period=statement.period)
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title><style>'
        "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}"
        "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ccc;padding:.3rem .6rem;text-align:left}"
        "code{word-break:break-all}.wide{overflow-x:auto}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{escape(words['between'].format(one, two))}: {words['state'].get(state, state)}</p><ul>"
        f"<li>{escape(words['owes'].format(one, two))}: {amount(statement.owed[0])}</li>"
        f"<li>{escape(words['owes'].format(two, one))}: {amount(statement.owed[1])}</li>"
        f"<li>{words['net']}: {net}</li><li>{words['entries'].format(n=statement.entries)}</li>"
        f"<li>{words['root']}: <code>{statement.root}</code></li></ul>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div></body></html>'
    )
