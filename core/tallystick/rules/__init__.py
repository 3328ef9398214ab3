"""The rule language: a typed subset of CEL in which merchants write conditions and amounts.

One tree, several renderings::

    scope = Scope({"purchase": Optional(object_type(Purchase)), "member": MEMBER, "now": TIMESTAMP}, zone="Asia/Shanghai")
    rule = check('member.tier == "gold" && now.getHours() >= 18', scope, BOOL)   # InvalidRule with a caret if it is wrong
    interpret(rule, {"member": member, "now": now, ...})                         # the oracle
    names(rule)                                                                  # {"member.tier", "now"}

    rules = compile_rules(
        [
            RuleText("base", lines="!line.discounted", basis="line.amount", value="basis / 100"),
            RuleText("double", when="date(event.at).weekday == 2", value='decimal("2")'),
        ],
        scope,
    )
    for firing in rules.fire(purchase=purchase, member=member, now=now):
        rules[firing.rule].name, firing.value, firing.basis, firing.lines

Nothing about points, tiers or members is known here: the `Scope` says what a rule may name.
"""

from tallystick.rules.check import Typed, check, names
from tallystick.rules.interpret import interpret
from tallystick.rules.lint import Standing
from tallystick.rules.offered import HasRules, HasStandings
from tallystick.rules.parse import parse
from tallystick.rules.python import compile_expression
from tallystick.rules.rule import Firing, Places, Rule, RuleText
from tallystick.rules.ruleset import RuleSet, check_rules, compile_rules
from tallystick.rules.scope import Function, Scope
from tallystick.rules.tree import Node, unparse
from tallystick.rules.types import (
    BOOL,
    COUNT,
    DATE,
    DECIMAL,
    DURATION,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    Duration,
    Fixed,
    Int,
    ListOf,
    MapOf,
    Object,
    Optional,
    String,
    Type,
    annotated_type,
    object_type,
)

__all__ = [
    "BOOL",
    "COUNT",
    "DATE",
    "DECIMAL",
    "DURATION",
    "INT",
    "NULL",
    "STRING",
    "TIMESTAMP",
    "Duration",
    "Firing",
    "Fixed",
    "Function",
    "HasRules",
    "HasStandings",
    "Int",
    "ListOf",
    "MapOf",
    "Node",
    "Object",
    "Optional",
    "Places",
    "Rule",
    "RuleSet",
    "RuleText",
    "Scope",
    "Standing",
    "String",
    "Type",
    "Typed",
    "annotated_type",
    "check",
    "check_rules",
    "compile_expression",
    "compile_rules",
    "interpret",
    "names",
    "object_type",
    "parse",
    "unparse",
]
