"""Many rules, one function: shared facts are read once, the lines are walked once, cheap tests come first.

The generated function looks like this::

    def fire(event=None, purchase=None, member=None):
        _fired = []
        _e1 = event.kind                                    # facts that several rules read
        if purchase is not None:
            _e0 = purchase.lines
            _counted4 = None
            for _n, line in _enumerate(_e0):                 # what the rules count, for all of them at once
                _b = _x2(line.category)
                ...
        if purchase is not None:
            if _counted4 and _e1 == _k3:                    # one rule
                _fired.append(_Firing(4, _sum4 // _k5, _sum4, _tuple(_counted4)))

Rules that compare one fact with constants (the shop's number, the coupon's code) are found by an index over the constants.
"""

from __future__ import annotations

import keyword
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from tallystick.rules.check import Typed
from tallystick.rules.interpret import value_of
from tallystick.rules.python import Renderer, build, self_contained, weight
from tallystick.rules.rule import Firing, Places, Rule
from tallystick.rules.scope import Scope
from tallystick.rules.tree import unparse
from tallystick.rules.typed import Apply, Both, Checked, Constant, Each, Fact, Field, Items, Variable, path_of, walk
from tallystick.rules.types import BOOL, Fixed, Int, Object, String, nullable, strip

#: Rules that must compare one fact with constants before an index over it is worth its price.
_INDEX_FROM = 8
#: The same for tests of one field of a line, and for ``exists`` over one field of the lines.
_LINE_INDEX_FROM, _LOOKUP_FROM = 3, 4
#: Constants of one ``in [...]`` up to which a rule is repeated under each of them.
_COPIES = 4


def fuse(rules: Sequence[Rule], scope: Scope, places: Places, lines: Typed | None) -> Callable[..., list[Firing]]:
    """The function behind `RuleSet.fire`."""
    fused = _Fused(rules, scope, places, lines)
    return build(fused.renderer, fused.text(), "fire")


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """One rule on its way into the function: its tests, the cheap ones first."""

    number: int
    rule: Rule
    tests: tuple[Checked, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Selection:
    """Which lines a rule counts and what each brings; rules that say the same share one."""

    number: int
    rule: Rule
    #: Whether it is made in the one walk over all lines, or only when a rule comes to need it.
    early: bool

    @property
    def sum(self) -> str:
        return f"_sum{self.number}"

    @property
    def counted(self) -> str:
        return f"_counted{self.number}"


class _Fused:
    """One function in the making."""

    def __init__(self, rules: Sequence[Rule], scope: Scope, places: Places, lines: Typed | None) -> None:
        self.scope, self.places, self.lines = scope, places, lines
        self.renderer = _Renderer(scope, (places.line, "basis", "matched"), None if lines is None else lines.root)
        self.renderer.bound["_Firing"] = Firing
        self.renderer.bound["_order"] = attrgetter("rule")
        self.plans = [_Plan(number, rule, tuple(self.ordered(rule))) for number, rule in enumerate(rules)]
        self.selections: dict[tuple[str, str, frozenset[str]], _Selection] = {}
        self.wanted: Counter[_Selection] = Counter()
        for plan in self.plans:
            if plan.rule.counts:
                self.wanted[self.select(plan)] += 1

    def text(self) -> str:
        """The whole function."""
        self.count()
        body = [*self.facts(), *self.walk(), *self.body()]
        late = [each.counted for each in self.selections.values() if not each.early and self.wanted[each] > 1]
        lazy = [*self.renderer.unsure, *self.renderer.held.values(), *late]
        head = [f"def fire({', '.join(f'{name}=None' for name in self.scope.names)}):", "    _fired = []"]
        if lazy:
            head.append(f"    {' = '.join(lazy)} = _UNSET")
        return "\n".join([*head, *body, "    return _fired"])

    # --- planning

    def ordered(self, rule: Rule) -> Iterator[Checked]:
        """The tests of a condition, cheap ones first, as far as no test passes the guard it leans on."""
        run: list[Checked] = []
        tests = [each for each in _conjuncts(rule.when.root) if not isinstance(each, Constant) or not each.value]
        if len(tests) < 2:
            yield from tests
            return
        for test in tests:
            if self_contained(test, self.scope, rule.given):
                run.append(test)
                continue
            yield from sorted(run, key=weight)
            yield test
            run = []
        yield from sorted(run, key=weight)

    def select(self, plan: _Plan) -> _Selection:
        """The selection a rule needs.

        It is made early, in the one walk, if the rule needs it in any case or asks for a constant that the walk can look up;
        the texts of ``lines`` and ``basis`` lean on no test of ``when``, so making it too often is harmless.
        """
        rule = plan.rule
        key = (_text(rule.lines), _text(rule.basis), rule.given)
        early = rule.given == self.there() and (not plan.tests or self.line_constant(_line_tests(rule)) is not None)
        known = self.selections.get(key)
        if known is None or (early and not known.early):
            number = len(self.selections) if known is None else known.number
            before = 0 if known is None else self.wanted.pop(known)
            known = self.selections[key] = _Selection(number, rule, early)
            self.wanted[known] = before
        return known

    def there(self) -> frozenset[str]:
        """What must not be null for the lines to be there."""
        root = self.places.lines.split(".")[0]
        return frozenset((root,) if nullable(self.scope.names.get(root, BOOL)) else ())

    def line_constant(self, tests: Sequence[Checked]) -> tuple[str, Any, Checked] | None:
        """(field, constant, test) of the first test of the form ``line.category == "tea"``."""
        for test in tests:
            found = _constants(test)
            if found is None or len(found[1]) != 1:
                continue
            match found[0]:
                case Field(target=Fact(name=name), name=field, keyed=False) if name == self.places.line:
                    if not keyword.iskeyword(field):
                        return field, found[1][0], test
        return None

    def count(self) -> None:
        """Tell the renderer all that will be rendered, so that what two rules need is computed once."""
        renderer, nodes = self.renderer, list[Checked]()
        for plan in self.plans:
            nodes += plan.tests
            nodes += (part.root for name, part in plan.rule.parts if name != "when")
            if plan.rule.counts and self.lines is not None:
                nodes.append(self.lines.root)
        for node in nodes:
            renderer.look(node)
        for plan in self.plans:
            if plan.rule.given == self.there():
                renderer.watch(plan.tests)
        for node in nodes:
            renderer.count(node)

    # --- facts and lines

    def facts(self) -> Iterator[str]:
        """Facts that at least two rules read, as far as they can be read at any time once their root is there."""
        renderer = self.renderer
        groups: dict[str, dict[str, str]] = defaultdict(dict)
        for node in self.nodes():
            chain = _chain(node)
            if chain is None or renderer.uses[chain[1]] < 2 or chain[1] in renderer.eager:
                continue
            root, text = chain
            parent, _, field = text.rpartition(".")
            name = f"_e{len(renderer.eager)}"
            groups[root][name] = f"{renderer.eager.get(parent, parent)}.{field}"
            renderer.eager[text] = name
        for root, facts in groups.items():
            given = {root} if nullable(self.scope.names[root]) else ()
            yield from self.guarded(given, [f"{name} = {text}" for name, text in facts.items()])

    def nodes(self) -> Iterator[Checked]:
        if self.lines is not None:
            yield from walk(self.lines.root)
        for plan in self.plans:
            for _, part in plan.rule.parts:
                yield from walk(part.root)

    def walk(self) -> Iterator[str]:
        """The one walk over the lines, for all early selections."""
        early = [each for each in self.selections.values() if each.early]
        watched = self.renderer.watched
        if not early and not watched:
            return
        assert self.lines is not None
        with self.renderer.perhaps():
            yield from self.guarded(self.there(), self.turns(early, watched))

    def turns(self, early: Sequence[_Selection], watched: Mapping[str, Mapping[Any, str]]) -> Iterator[str]:
        assert self.lines is not None
        always = [each for each in early if self.line_constant(_line_tests(each.rule)) is None]
        indexed: dict[str, dict[Any, list[_Selection]]] = defaultdict(lambda: defaultdict(list))
        for each in early:
            found = self.line_constant(_line_tests(each.rule))
            if found is not None:
                indexed[found[0]][found[1]].append(each)
        block = [f"{each.counted} = []; {each.sum} = 0" for each in always]
        rest = [each.counted for each in early if each not in always]
        if rest:
            block.append(f"{' = '.join(rest)} = None")
        flags = [flag for flags in watched.values() for flag in flags.values()]
        if flags:
            block.append(f"{' = '.join(flags)} = False")
        yield from block
        inside: list[str] = []
        for each in always:
            inside += self.counting(each, _line_tests(each.rule), fresh=False)
        for field, by_value in indexed.items():
            inside += self.by_constant(field, by_value)
        for field, by_flag in watched.items():
            inside.append(f"_held = {self.places.line}.{field}")
            for value, flag in by_flag.items():
                inside += [f"if _held == {self.renderer.bind(value)}:", f"    {flag} = True"]
        yield from self.loop(inside)

    def loop(self, inside: Iterable[str]) -> Iterator[str]:
        """A walk over the lines; ``_n`` counts them."""
        assert self.lines is not None
        yield "_n = -1"
        yield f"for {self.places.line} in {self.renderer.render(self.lines.root)}:"
        yield "    _n += 1"
        self.renderer.looping = True
        yield from _indented(inside)
        self.renderer.looping = False

    def by_constant(self, field: str, by_value: Mapping[Any, list[_Selection]]) -> Iterator[str]:
        """Inside the walk: the selections that ask for what *field* of this line holds."""
        blocks = []
        for selections in by_value.values():
            block: list[str] = []
            for each in selections:
                found = self.line_constant(_line_tests(each.rule))
                assert found is not None
                block += self.counting(
                    each, [test for test in _line_tests(each.rule) if test is not found[2]], fresh=True
                )
            blocks.append(block)
        fact = f"{self.places.line}.{field}"
        if len(blocks) >= _LINE_INDEX_FROM:
            yield from self.index(fact, list(by_value), blocks)
            return
        for value, block in zip(by_value, blocks, strict=True):
            yield f"if {fact} == {self.renderer.bind(value)}:"
            yield from _indented(block)

    def counting(self, selection: _Selection, tests: Sequence[Checked], *, fresh: bool) -> Iterator[str]:
        """Inside a walk: count this line; with *fresh* the list begins with the first line that counts."""
        with self.renderer.perhaps():
            yield from list(self._counting(selection, tests, fresh=fresh))

    def _counting(self, selection: _Selection, tests: Sequence[Checked], *, fresh: bool) -> Iterator[str]:
        basis, indent = selection.rule.basis, ""
        sum_, counted, amount = selection.sum, selection.counted, "0"
        if tests:
            yield f"if {' and '.join(self.renderer.one_by_one(tests))}:"
            indent = "    "
        if basis is not None:
            amount = "_amount"
            yield f"{indent}_amount = {self.renderer.render(basis.root)}"
        if fresh:
            yield f"{indent}if {counted} is None:"
            yield f"{indent}    {counted} = ((_n, {amount}),); {sum_} = {amount}"
            yield f"{indent}else:"
            indent += "    "
            yield f"{indent}if _len({counted}) == 1: {counted} = [*{counted}]"
        yield f"{indent}{counted}.append((_n, {amount}))"
        if basis is not None:
            yield f"{indent}{sum_} += {amount}"

    # --- rules

    def body(self) -> Iterator[str]:
        indexed = list(self.indexed())
        taken = {plan.number for _, _, buckets in indexed for bucket in buckets.values() for plan, _ in bucket}
        for fact, given, buckets in indexed:
            with self.renderer.perhaps() if given else nullcontext():
                looked_at = self.renderer.render(fact)
                blocks = [self.bucket(bucket) for bucket in buckets.values()]
            yield from self.guarded(given, self.index(looked_at, list(buckets), blocks))
        rest = [plan for plan in self.plans if plan.number not in taken]
        while rest:
            given = rest[0].rule.given
            run = next((n for n, plan in enumerate(rest) if plan.rule.given != given), len(rest))
            with self.renderer.perhaps() if given else nullcontext():
                block = [line for plan in rest[:run] for line in self.rule(plan, plan.tests)]
            yield from self.guarded(given, block)
            rest = rest[run:]
        if indexed:
            yield "    if _len(_fired) > 1:"
            yield "        _fired.sort(key=_order)"

    def bucket(self, bucket: Iterable[tuple[_Plan, list[Checked]]]) -> list[str]:
        """The rules that are asked where one constant is found."""
        with self.renderer.perhaps():
            return [line for plan, tests in bucket for line in self.rule(plan, tests)]

    def indexed(self) -> Iterator[tuple[Checked, frozenset[str], dict[Any, list[tuple[_Plan, list[Checked]]]]]]:
        """Groups of rules that compare the same fact with constants: the fact, their guards, the rules by constant."""
        offers: dict[tuple[str, frozenset[str]], list[tuple[_Plan, Checked, tuple[Any, ...]]]] = defaultdict(list)
        facts: dict[str, Checked] = {}
        for plan in self.plans:
            for test in plan.tests:
                found = _constants(test)
                if found is not None and len(found[1]) <= _COPIES and self_contained(test, self.scope, plan.rule.given):
                    text = unparse(found[0].source)
                    facts.setdefault(text, found[0])
                    offers[text, plan.rule.given].append((plan, test, found[1]))
        taken: set[int] = set()
        for (text, given), offer in sorted(offers.items(), key=lambda item: -len(item[1])):
            free = [each for each in offer if each[0].number not in taken]
            if len({plan.number for plan, _, _ in free}) < _INDEX_FROM:
                continue
            buckets: dict[Any, list[tuple[_Plan, list[Checked]]]] = defaultdict(list)
            for plan, test, values in free:
                if plan.number not in taken:
                    taken.add(plan.number)
                    for value in dict.fromkeys(values):
                        buckets[value].append((plan, [each for each in plan.tests if each is not test]))
            yield facts[text], given, buckets

    def index(self, fact: str, values: Sequence[Any], blocks: Sequence[Sequence[str]]) -> Iterator[str]:
        """One look into a dict, then a choice among *n* blocks in log2(n) comparisons."""
        numbers = {value: number for number, value in enumerate(values)}
        yield f"_b = {self.renderer.bind(numbers.get, '_x')}({fact})"
        yield "if _b is not None:"
        yield from _indented(_branches(blocks, 0))

    def rule(self, plan: _Plan, tests: Sequence[Checked]) -> Iterator[str]:
        """One rule: its tests, then what it gives."""
        rule, renderer = plan.rule, self.renderer
        selection = self.select(plan) if rule.counts else None
        if selection is not None and selection.early:
            texts, rest = [selection.counted], tests
        else:
            texts, rest = [renderer.render(test) for test in tests[:1]], tests[1:]
        with renderer.perhaps():
            texts += [renderer.render(test) for test in rest]
            inside = list(self.outcome(plan, selection))
        if texts:
            yield f"if {' and '.join(texts)}:"
            inside = list(_indented(inside))
        yield from inside

    def outcome(self, plan: _Plan, selection: _Selection | None) -> Iterator[str]:
        if selection is None:
            yield f"_fired.append({self.firing(plan)})"
            return
        late = [] if selection.early else self.once(selection)  # first, for it runs first
        self.renderer.names = {"basis": selection.sum, "matched": f"_len({selection.counted})"}
        value, sum_ = self.value(plan.rule), selection.sum if plan.rule.basis is not None else "0"
        self.renderer.names = {}
        firing = f"_fired.append(_Firing({plan.number:d}, {value}, {sum_}, _tuple({selection.counted})))"
        if selection.early:
            yield firing
            return
        yield from late
        yield f"if {selection.counted}:"
        yield f"    {firing}"

    def once(self, selection: _Selection) -> list[str]:
        """A walk over the lines for one selection, unless another rule that needs it was here before."""
        if self.wanted[selection] < 2:
            return list(self.late(selection))
        with self.renderer.perhaps():
            return [f"if {selection.counted} is _UNSET:", *_indented(self.late(selection))]

    def late(self, selection: _Selection) -> Iterator[str]:
        """A walk over the lines for one selection."""
        assert self.lines is not None
        yield f"{selection.counted} = []; {selection.sum} = 0"
        yield from self.loop(self.counting(selection, _line_tests(selection.rule), fresh=False))

    def firing(self, plan: _Plan) -> str:
        """The firing of a rule without lines; where its value is the same for every event, it is made now."""
        value = plan.rule.value
        if value is not None and not all(_is_fixed(each) for each in walk(value.root)):
            return f"_Firing({plan.number:d}, {self.value(plan.rule)}, 0, ())"
        name, found = f"_fire{plan.number}", None if value is None else value_of(value.root, {}, {})
        self.renderer.bound[name] = Firing(plan.number, found, 0, ())
        return name

    def value(self, rule: Rule) -> str:
        return "None" if rule.value is None else self.renderer.outside(rule.value.root)

    def guarded(self, given: Iterable[str], block: Iterable[str]) -> Iterator[str]:
        """The block, at the level of the function's body, where the names it takes for granted are there."""
        lines = list(block)
        if given and lines:
            yield f"    if {' and '.join(f'{name} is not None' for name in sorted(given))}:"
            lines = list(_indented(lines))
        yield from _indented(lines)


class _Renderer(Renderer):
    """Looks lines up by what one of their fields holds, where several rules ask whether there is one."""

    def __init__(self, scope: Scope, moving: tuple[str, ...], lines: Checked | None) -> None:
        super().__init__(scope, moving)
        self.lines = lines
        self.lookups: Counter[str] = Counter()
        #: Locals with the values a field has among the lines, by the field.
        self.held: dict[str, str] = {}
        #: Locals that say whether some line's field holds a constant, set by the walk over the lines.
        self.watched: dict[str, dict[Any, str]] = {}

    def watch(self, tests: Sequence[Checked]) -> None:
        """Have the walk look for what the first test of a rule asks in any case, and for what the others ask like it."""
        found = [each for test in tests if (each := self.sought(test)) is not None]
        if not found or self.sought(tests[0]) is None:
            return
        for field, value in found:
            if self.lookups[field] < _LOOKUP_FROM:
                flags = self.watched.setdefault(field, {})
                flags.setdefault(value, f"_seen{sum(map(len, self.watched.values()))}")

    def look(self, node: Checked) -> None:
        """Note the lookups in *node*."""
        self.lookups.update(found[0] for each in walk(node) if (found := self.sought(each)) is not None)

    def macro(self, node: Each) -> str:
        found = self.sought(node)
        if found is None or self.inside:
            return super().macro(node)
        if (flag := self.watched.get(found[0], {}).get(found[1])) is not None:
            return flag
        if self.lookups[found[0]] < _LOOKUP_FROM:
            return super().macro(node)
        assert self.lines is not None
        field, value = found
        name = self.held.setdefault(field, f"_held{len(self.held)}")
        values = f"{{_line.{field} for _line in {self.render(self.lines)}}}"
        return f"({self.bind(value)} in ({name} if {name} is not _UNSET else ({name} := {values})))"

    def sought(self, node: Checked) -> tuple[str, Any] | None:
        """(field, constant) if the node is ``lines.exists(l, l.field == constant)``."""
        if self.lines is None or not isinstance(node, Each) or node.macro != "exists":
            return None
        found = _constants(node.body)
        if found is None or len(found[1]) > 1 or path_of(node.items) != path_of(self.lines):
            return None
        match found[0]:
            case Field(target=Variable(name=name), name=field, keyed=False) if name == node.variable:
                return None if keyword.iskeyword(field) else (field, found[1][0])
        return None


def _indented(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield "    " + line


def _branches(blocks: Sequence[Sequence[str]], first: int) -> Iterator[str]:
    if len(blocks) == 1:
        yield from blocks[0]
        return
    middle = len(blocks) // 2
    yield f"if _b < {first + middle:d}:"
    yield from _indented(_branches(blocks[:middle], first))
    yield "else:"
    yield from _indented(_branches(blocks[middle:], first + middle))


def _is_fixed(node: Checked) -> bool:
    return not (isinstance(node, Fact | Variable) or (isinstance(node, Apply) and node.operation.startswith("call:")))


def _text(part: Typed | None) -> str:
    return "" if part is None else part.text


def _conjuncts(node: Checked) -> tuple[Checked, ...]:
    return node.items if isinstance(node, Both) else (node,)


def _line_tests(rule: Rule) -> tuple[Checked, ...]:
    return () if rule.lines is None else _conjuncts(rule.lines.root)


def _constants(test: Checked) -> tuple[Checked, tuple[Any, ...]] | None:
    """(what, constants) if the test says that something equals one of some whole numbers or texts."""
    match test:
        case Apply(operation="eq", arguments=(Constant() as right, left) | (left, Constant() as right)):
            values: tuple[Checked, ...] = (right,)
        case Apply(operation="in", arguments=(left, Items(items=values))):
            pass
        case _:
            return None
    plain = all(isinstance(each, Constant) and isinstance(each.type, Int | String) for each in values)
    if isinstance(left, Constant) or not plain or not isinstance(strip(left.type), Int | String):
        return None
    return left, tuple(each.value for each in values if isinstance(each, Constant))


def _chain(node: Checked) -> tuple[str, str] | None:
    """(root, text) of a chain of attributes that can be read whenever its root is there."""
    match node:
        case Field(type=kind, keyed=False) if isinstance(strip(kind), Fixed) or keyword.iskeyword(node.name):
            return None
        case Field(target=Fact(name=name), name=field, keyed=False):
            return name, f"{name}.{field}"
        case Field(target=Field() as target, name=field, keyed=False):
            before, kind = _chain(target), strip(target.target.type)
            if before is None or not isinstance(kind, Object) or nullable(kind.fields[target.name]):
                return None
            return before[0], f"{before[1]}.{field}"
    return None
