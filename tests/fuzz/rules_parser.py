"""Feeds the rule language with bytes until something other than a refusal comes back.

    python tests/fuzz/rules_parser.py -max_total_time=60

Needs ``atheris`` (Linux). What must hold: a text is refused as `InvalidRule`, or it is checked, unparsed to the same tree, and
computed alike by the interpreter and the generated function.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.append(str(Path(__file__).parents[2]))

with atheris.instrument_imports():
    from core.tests.rules import shop
    from tallystick.errors import InvalidRule
    from tallystick.rules import check, compile_expression, interpret, parse, unparse

VALUES = shop.values()


def one(data: bytes) -> None:
    text = atheris.FuzzedDataProvider(data).ConsumeUnicode(len(data))
    try:
        node = parse(text)
        assert parse(unparse(node)) == node
        typed = check(text, shop.SCOPE, given=shop.GIVEN)
    except InvalidRule:
        return
    assert interpret(typed, VALUES) == compile_expression(typed)(**VALUES)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
