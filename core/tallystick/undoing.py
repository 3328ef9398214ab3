"""What an entry gave, spent, counted and took is undone: by the share that came back, or all of it.  Pure.

How much of each was undone already stands in the working state by entry and place, so nothing is taken or given back twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from .effects import Effect, Keep
from .errors import InvalidEvent, UnknownOrder
from .events import Purchase, Refund
from .ledger import Record, Step, Transfer, parse_member, returned_share, taken_by_now
from .page import GAINS, CountedBy, Page, counted_by, lots_of, spent_of
from .working import OrderEntry, Working

#: Behind the steps of an explanation: places under which taking back counters and stock is remembered.
COUNTS, TAKES = 1 << 20, 1 << 21

#: (rule, unit) -> how much of what the core would take back of it stays
Keeping = dict[tuple[str, str], int]


def bring_back(working: Working, sale: OrderEntry, refund: Refund, purchase: Purchase | None) -> None:
    """Add what came back to what had come back before; never more than was sold."""
    working.touch_order(sale)
    if not refund.lines and refund.amount is None:
        sale.returned = sale.value
        if purchase is not None:
            sale.lines = {index: line.net for index, line in enumerate(purchase.lines)}
        return
    if refund.lines:
        if purchase is None:
            raise UnknownOrder("the order's lines are no longer known; return an amount instead", pointer="/data/lines")
        for place, back in enumerate(refund.lines):
            if back.line >= len(purchase.lines):
                raise InvalidEvent(
                    f"the order has {len(purchase.lines)} lines, counted from 0",
                    pointer=f"/data/lines/{place}/line",
                )
            net = purchase.lines[back.line].net
            sale.lines[back.line] = min(net, sale.lines.get(back.line, 0) + back.amount)
    else:
        sale.loose += refund.amount or 0
    whole = sum([line.net for line in purchase.lines]) if purchase is not None else 0
    by_lines = sum(sale.lines.values())
    scaled = sale.value if 0 < whole <= by_lines else (by_lines * sale.value // whole if whole else 0)
    sale.returned = min(sale.value, scaled + sale.loose)


def kept(proposals: Sequence[Effect]) -> Keeping:
    """What plugins propose to keep of a return."""
    keep: Keeping = {}
    for k in proposals:
        if isinstance(k, Keep):
            keep[k.of_rule, k.unit] = keep.get((k.of_rule, k.unit), 0) + max(0, k.amount)
    return keep


def owed(working: Working, entry: int, place: int, target: int) -> int:
    """What of *target* was not taken back yet; from now on it was.  So nothing is ever taken or given back twice."""
    amount = target - working.taken.get((entry, place), 0)
    if amount <= 0:
        return 0
    working.take(entry, place, amount)
    return amount


def take_back(page: Page, record: Record, entry: int, sale: OrderEntry, nets: Sequence[int], keep: Keeping) -> None:
    """Take back the share of every gain that belongs to what came back, less what is to *keep*; cumulatively exact."""
    everything = sale.returned >= sale.value
    back: dict[int, int] = {}  # by place
    for place, step in enumerate(record.explanation):
        if step.effect not in GAINS or step.amount <= 0 or step.fixed:
            continue
        share = step.amount if everything else _share(step.amount, step.lines, sale, nets)
        amount = owed(page.working, entry, place, share)
        stays = min(amount, keep.get((step.rule, step.unit), 0))
        if stays:
            keep[step.rule, step.unit] -= stays
        if amount > stays:
            back[place] = lapsed = page.lapsed(entry, record, place, amount - stays)
            left = amount - stays - lapsed
            if left:
                own, note = lots_of(record, step), "kept" if stays else ""
                back[place] += page.take_back(_holder(record, step), step.unit, left, step.rule, own, note)
    _uncount(page, record, entry, sale, nets, back)
    if everything:
        for n, (key, amount, reversible) in enumerate(record.takes):
            if reversible and (left := owed(page.working, entry, TAKES + n, amount)):
                page.restock(key, left)


def _uncount(
    page: Page, record: Record, entry: int, sale: OrderEntry, nets: Sequence[int], back: Mapping[int, int]
) -> None:
    """Give counters back their share of what came back; *back* is what was taken of each gain just now."""
    everything = sale.returned >= sale.value
    counts = []
    for n, (member, counter, grain, start, amount, mode) in enumerate(record.counts):
        about = counted_by(mode)
        if about is not None and about.gains:  # what the member may keep goes on using the cap up
            target = min(amount, page.working.taken.get((entry, COUNTS + n), 0) + _of_gains(about, record, back))
        elif not mode or (mode == "whole" and not everything):
            target = 0
        else:
            lines = about.lines if about is not None else ()
            target = amount if everything else _share(amount, lines, sale, nets)
        counts.append((member, counter, grain, start, owed(page.working, entry, COUNTS + n, target)))
    page.uncount(counts)


def give_back(page: Page, record: Record, entry: int, sale: OrderEntry) -> None:
    """Points that paid for the order go back to their lots in proportion, latest expiry first."""
    for place, step, spent in spent_of(record):
        if step.effect == "spend":
            put_back(page, record, entry, place, spent, taken_by_now(-step.amount, sale.value, sale.returned))


def put_back(
    page: Page, record: Record, entry: int, place: int, spent: Sequence[tuple[Transfer, str]], target: int
) -> None:
    """Put back what of *target* was not put back yet: the lots that were used last get theirs first."""
    before = page.working.taken.get((entry, place), 0)
    amount = owed(page.working, entry, place, target)
    released = bool(page.working.order(f"entry/{record.entry}", "released"))
    page.put_back(spent, before, amount, released=released)


def void(page: Page, record: Record, number: int) -> None:
    """Everything the held event had set aside, given or counted is undone, less what a refund undid before."""
    for place, step in enumerate(record.explanation):
        if step.effect in GAINS and (amount := owed(page.working, number, place, step.amount)):
            page.take_back(_holder(record, step), step.unit, amount, step.rule, lots_of(record, step), "voided")
    for place, step, spent in spent_of(record):
        put_back(page, record, number, place, spent, -step.amount)
    page.uncount([
        (member, counter, grain, start, owed(page.working, number, COUNTS + n, amount))
        for n, (member, counter, grain, start, amount, mode) in enumerate(record.counts)
        if mode
    ])  # fmt: skip
    for n, (key, amount, _) in enumerate(record.takes):
        if left := owed(page.working, number, TAKES + n, amount):
            page.restock(key, left)


def _share(amount: int, lines: Sequence[tuple[int, int]] | None, sale: OrderEntry, nets: Sequence[int]) -> int:
    """The part of *amount*, which came from *lines* or from the whole order, that belongs to what came back by now."""
    if not lines or not nets:
        return taken_by_now(amount, sale.value, sale.returned)
    back = returned_share(lines, nets, sale.lines)
    if sale.loose and sale.value:
        back += Fraction(sale.loose, sale.value)
    return min(amount, amount * back.numerator // back.denominator)


def _of_gains(about: CountedBy, record: Record, back: Mapping[int, int]) -> int:
    """What of *back*, by the places of gains in *record*, is about the gains that were counted."""
    steps = record.explanation
    return sum(
        [
            amount
            for place, amount in back.items()
            if any(
                steps[place].unit == unit and (rules is None or steps[place].rule in rules)
                for unit, rules in about.gains
            )
        ]
    )


def _holder(record: Record, step: Step) -> int:
    """Whose gain a step was."""
    return parse_member(step.member or record.member) or 0
