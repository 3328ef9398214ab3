"""Many rules, one function: shared facts are read once, cheap tests come first, rules of one constant are found by index.

The generated function looks like this::

    def fire(event=None, purchase=None, member=None):
        _fired = []
        _e0 = event.kind                                    # facts that several rules read
        if purchase is not None:
            _e1 = purchase.lines
            if _e0 == _k0 and purchase.amount >= _k1:       # one rule
                _sum = 0; _counted = []
                for _n, line in enumerate(_e1):
                    ...
                if _counted:
                    _append(_Firing(3, _sum // _k2, _sum, tuple(_counted)))
"""

from __future__ import annotations

import keyword
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from tallystick.rules.check import Typed
from tallystick.rules.python import Renderer, build, self_contained, weight
from tallystick.rules.rule import Firing, Places, Rule
from tallystick.rules.scope import Scope
from tallystick.rules.typed import Apply, Both, Checked, Constant, Fact, Field, Items, walk
from tallystick.rules.types import Fixed, Int, Object, String, nullable, strip

#: Rules that must compare one fact with constants before an index over it is worth its price.
_INDEX_FROM = 8
#: Rules that must look for a constant among the lines before the set of what the lines hold is worth its price.
_LINES_FROM = 3
#: Constants of one ``in [...]`` up to which a rule is repeated under each of them.
_COPIES = 4


def fuse(rules: Sequence[Rule], scope: Scope, places: Places, lines: Typed | None) -> Callable[..., list[Firing]]:
    """The function behind `RuleSet.fire`."""
    fused = _Fused(rules, scope, places, lines)
    return build(fused.renderer, fused.text(), "fire")


@dataclass(slots=True)
class _Plan:
    """One rule on its way into the function."""

    number: int
    rule: Rule
    tests: list[Checked]
    #: What one of its line tests compares a field of the line with.
    line_tests: list[tuple[str, Checked, tuple[Any, ...]]]


class _Fused:
    def __init__(self, rules: Sequence[Rule], scope: Scope, places: Places, lines: Typed | None) -> None:
        self.scope, self.places, self.lines = scope, places, lines
        self.renderer = Renderer(scope, moving=(places.line, "basis", "matched"))
        self.renderer.bound["_Firing"] = Firing
        self.renderer.bound["_order"] = attrgetter("rule")
        self.out: list[str] = []
        self.line_sets: dict[str, str] = {}
        #: Selections of lines (which, and what each brings) that several rules make: computed once.
        self.selections: dict[tuple[str, str], int] = {}
        self.selection_uses: Counter[tuple[str, str]] = Counter()
        self.plans = [self.plan(number, rule) for number, rule in enumerate(rules)]

    # --- planning

    def plan(self, number: int, rule: Rule) -> _Plan:
        tests = self.ordered(_conjuncts(rule.when.root), rule)
        line_tests = [] if rule.lines is None else list(self.line_constants(rule))
        return _Plan(number, rule, tests, line_tests)

    def ordered(self, tests: Sequence[Checked], rule: Rule) -> list[Checked]:
        """Cheap tests first, as far as no test passes the guard it leans on."""
        result: list[Checked] = []
        run: list[Checked] = []
        for test in tests:
            if isinstance(test, Constant) and test.value is True:
                continue
            if self_contained(test, self.scope, rule.given):
                run.append(test)
                continue
            result += [*sorted(run, key=weight), test]
            run = []
        return result + sorted(run, key=weight)

    def line_constants(self, rule: Rule) -> Iterator[tuple[str, Checked, tuple[Any, ...]]]:
        """Tests of the form ``line.category == "tea"`` that stand on their own."""
        assert rule.lines is not None
        for test in _conjuncts(rule.lines.root):
            found = _constants(test)
            if found is None:
                continue
            fact, values = found
            match fact:
                case Field(target=Fact(name=name), name=field, keyed=False) if name == self.places.line:
                    if not keyword.iskeyword(field):
                        yield field, fact, values

    # --- text

    def text(self) -> str:
        self.count()
        scope = self.scope
        body = [*self.facts(), *self.body()]
        lazies = [*self.renderer.lazy.values(), *self.line_sets.values()]
        lazies += [f"_counted{each}" for each in self.selections.values()]
        head = [f"def fire({', '.join(f'{name}=None' for name in scope.names)}):", "    _fired = []"]
        if lazies:
            head.append(f"    {' = '.join(lazies)} = _UNSET")
        return "\n".join([*head, *body, "    return _fired"])

    def count(self) -> None:
        """What every rule will need, so that what two of them need is computed once."""
        renderer = self.renderer
        for plan in self.plans:
            for test in plan.tests:
                renderer.count(test)
            rule = plan.rule
            if rule.counts:
                assert self.lines is not None
                renderer.count(self.lines.root)
                parts = [part for part in (rule.lines, rule.basis) if part is not None]
                for part in parts:
                    renderer.count(part.root)
                self.selection_uses[self.selection_key(rule)] += 1
            if rule.value is not None and rule.value.type is not None:
                renderer.count(rule.value.root)
        self.fields = Counter(field for plan in self.plans for field in {each[0] for each in plan.line_tests})

    def selection_key(self, rule: Rule) -> tuple[str, str]:
        return (
            "" if rule.lines is None else rule.lines.text,
            "" if rule.basis is None else rule.basis.text,
        )

    def facts(self) -> Iterator[str]:
        """Facts that at least two rules read and that can be read at any time, once their root is there."""
        renderer, scope = self.renderer, self.scope
        groups: dict[str, dict[str, str]] = defaultdict(dict)
        for node in self.nodes():
            chain = _chain(node)
            if chain is None:
                continue
            root, text = chain
            if renderer.uses[text] >= 2 and text not in renderer.eager:
                name = f"_e{len(renderer.eager)}"
                groups[root][name] = text
                renderer.eager[text] = name
        for root, facts in groups.items():
            indent = "    "
            if nullable(scope.names[root]):
                yield f"    if {root} is not None:"
                indent = "        "
            for name, text in facts.items():
                # A chain may go on from one that was read before it.
                parent, _, field = text.rpartition(".")
                short = renderer.eager.get(parent)
                yield f"{indent}{name} = {f'{short}.{field}' if short in facts else text}"

    def nodes(self) -> Iterator[Checked]:
        if self.lines is not None:
            yield from walk(self.lines.root)
        for plan in self.plans:
            for _, part in plan.rule.parts:
                yield from walk(part.root)

    def body(self) -> Iterator[str]:
        indexed = list(self.indexed())
        taken = {plan.number for _, _, buckets in indexed for plans in buckets.values() for plan, _ in plans}
        for key_text, given, buckets in indexed:
            yield from self.guarded(given, self.index(key_text, buckets), "    ")
        given_before: frozenset[str] = frozenset()
        block: list[str] = []
        for plan in self.plans:
            if plan.number in taken:
                continue
            if plan.rule.given != given_before:
                yield from self.guarded(given_before, block, "    ")
                block, given_before = [], plan.rule.given
            block += self.rule(plan, plan.tests)
        yield from self.guarded(given_before, block, "    ")
        if indexed:
            yield "    if len(_fired) > 1:"
            yield "        _fired.sort(key=_order)"

    def guarded(self, given: frozenset[str], lines: Sequence[str] | Iterator[str], indent: str) -> Iterator[str]:
        lines = list(lines)
        if not lines:
            return
        if given:
            yield f"{indent}if {' and '.join(f'{name} is not None' for name in sorted(given))}:"
            indent += "    "
        for line in lines:
            yield indent + line

    # --- index

    def indexed(self) -> Iterator[tuple[str, frozenset[str], dict[Any, list[tuple[_Plan, list[Checked]]]]]]:
        """Groups of rules that compare the same fact with constants: (fact, guards, rules by constant)."""
        offers: dict[tuple[str, frozenset[str]], list[tuple[_Plan, Checked, Checked, tuple[Any, ...]]]] = defaultdict(
            list
        )
        for plan in self.plans:
            for test in plan.tests:
                found = _constants(test)
                if found is None or not self_contained(test, self.scope, plan.rule.given):
                    continue
                fact, values = found
                if not isinstance(fact, Constant) and len(values) <= _COPIES:
                    offers[self.renderer.render(fact), plan.rule.given].append((plan, test, fact, values))
        taken: set[int] = set()
        for (_, given), offer in sorted(offers.items(), key=lambda item: -len(item[1])):
            free = [each for each in offer if each[0].number not in taken]
            if len({each[0].number for each in free}) < _INDEX_FROM or len({v for each in free for v in each[3]}) < 4:
                continue
            buckets: dict[Any, list[tuple[_Plan, list[Checked]]]] = defaultdict(list)
            for plan, test, _, values in free:
                if plan.number in taken:
                    continue
                taken.add(plan.number)
                rest = [each for each in plan.tests if each is not test]
                for value in dict.fromkeys(values):
                    buckets[value].append((plan, rest))
            yield self.renderer.render(free[0][2]), given, buckets

    def index(self, fact: str, buckets: dict[Any, list[tuple[_Plan, list[Checked]]]]) -> Iterator[str]:
        numbers = {value: number for number, value in enumerate(buckets)}
        yield f"_b = {self.renderer.bind(numbers.get, '_x')}({fact})"
        yield "if _b is not None:"
        for line in self.branches(list(buckets.values()), 0):
            yield "    " + line

    def branches(self, buckets: Sequence[list[tuple[_Plan, list[Checked]]]], first: int) -> Iterator[str]:
        """A choice among *n* buckets in log2(n) comparisons."""
        if len(buckets) == 1:
            for plan, tests in buckets[0]:
                yield from self.rule(plan, tests)
            return
        middle = len(buckets) // 2
        yield f"if _b < {first + middle:d}:"
        for line in self.branches(buckets[:middle], first):
            yield "    " + line
        yield "else:"
        for line in self.branches(buckets[middle:], first + middle):
            yield "    " + line

    # --- one rule

    def rule(self, plan: _Plan, tests: Sequence[Checked]) -> Iterator[str]:
        texts = [self.renderer.render(test) for test in tests]
        line_tests = [self.line_test(*each) for each in plan.line_tests if self.fields[each[0]] >= _LINES_FROM]
        cheap = next((n for n, test in enumerate(tests) if weight(test) > 9), len(tests))
        # A look at the lines leans on the list being there; a rule that asks for that itself asks first.
        at = cheap if self.places.lines.split(".")[0] not in self.asked(plan.rule) else len(texts)
        texts[at:at] = line_tests
        indent = ""
        if texts:
            yield f"if {' and '.join(texts)}:"
            indent = "    "
        for line in self.outcome(plan):
            yield indent + line

    def asked(self, rule: Rule) -> frozenset[str]:
        """Names that may be null and that the rule tests itself."""
        return frozenset(name for name, kind in self.scope.names.items() if nullable(kind)) - rule.given

    def line_test(self, field: str, fact: Checked, values: tuple[Any, ...]) -> str:
        """Whether any line holds one of the constants: one look into a set instead of a walk over the lines."""
        assert self.lines is not None
        name = self.line_sets.setdefault(field, f"_s{len(self.line_sets)}")
        lines = self.renderer.render(self.lines.root)
        held = f"({name} if {name} is not _UNSET else ({name} := {{_l.{field} for _l in {lines}}}))"
        if len(values) == 1:
            return f"{self.renderer.bind(values[0])} in {held}"
        return f"not {self.renderer.bind(frozenset(values))}.isdisjoint({held})"

    def outcome(self, plan: _Plan) -> Iterator[str]:
        rule, renderer = plan.rule, self.renderer
        if not rule.counts:
            yield f"_fired.append(_Firing({plan.number:d}, {self.value(rule)}, 0, ()))"
            return
        key = self.selection_key(rule)
        if self.selection_uses[key] < 2:
            yield from self.selection(rule, "_sum", "_counted")
            sum_, counted = "_sum", "_counted"
        else:
            number = self.selections.setdefault(key, len(self.selections))
            sum_, counted = f"_sum{number}", f"_counted{number}"
            yield f"if {counted} is _UNSET:"
            for line in self.selection(rule, sum_, counted):
                yield "    " + line
        renderer.names = {"basis": sum_, "matched": f"len({counted})"}
        value = self.value(rule)
        renderer.names = {}
        yield f"if {counted}:"
        yield f"    _fired.append(_Firing({plan.number:d}, {value}, {sum_ if rule.basis else '0'}, tuple({counted})))"

    def value(self, rule: Rule) -> str:
        return "None" if rule.value is None else self.renderer.outside(rule.value.root)

    def selection(self, rule: Rule, sum_: str, counted: str) -> Iterator[str]:
        """The loop over the lines."""
        assert self.lines is not None
        renderer, line = self.renderer, self.places.line
        yield f"{counted} = []"
        yield f"{sum_} = 0"
        yield f"for _n, {line} in enumerate({renderer.render(self.lines.root)}):"
        indent = "    "
        if rule.lines is not None:
            yield f"    if {renderer.render(rule.lines.root)}:"
            indent = "        "
        amount = "0"
        if rule.basis is not None:
            amount = "_amount"
            yield f"{indent}_amount = {renderer.render(rule.basis.root)}"
            yield f"{indent}{sum_} += _amount"
        yield f"{indent}{counted}.append((_n, {amount}))"


def _conjuncts(node: Checked) -> tuple[Checked, ...]:
    return node.items if isinstance(node, Both) else (node,)


def _constants(test: Checked) -> tuple[Checked, tuple[Any, ...]] | None:
    """(fact, values) if the test compares something with constants for equality."""
    match test:
        case Apply(operation="eq", arguments=(left, Constant() as right)):
            pass
        case Apply(operation="eq", arguments=(Constant() as right, left)):
            pass
        case Apply(operation="in", arguments=(left, Items(items=items))):
            values = tuple(each.value for each in items if isinstance(each, Constant) and each.value is not None)
            plain = len(values) == len(items) and all(
                isinstance(strip(each.type), Int | String) for each in (left, *items)
            )
            return (left, values) if plain else None
        case _:
            return None
    if isinstance(strip(left.type), Fixed) or not isinstance(right.type, Int | String) or isinstance(left, Constant):
        return None
    return left, (right.value,)


def _chain(node: Checked) -> tuple[str, str] | None:
    """(root, text) of a chain of attributes that can be read whenever its root is there."""
    match node:
        case Field(target=Fact(name=name), name=field, keyed=False):
            return (name, f"{name}.{field}") if not isinstance(strip(node.type), Fixed) else None
        case Field(target=Field() as target, name=field, keyed=False) if not isinstance(strip(node.type), Fixed):
            before, kind = _chain(target), target.target.type
            if before is None or not isinstance(strip(kind), Object) or nullable(strip(kind).fields[target.name]):  # type: ignore[union-attr]
                return None
            return before[0], f"{before[1]}.{field}"
    return None
