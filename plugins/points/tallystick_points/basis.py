"""Which money earns: the part of a purchase that points are counted on, in the programme's currency."""

from __future__ import annotations

from fractions import Fraction

from msgspec.structs import replace

from tallystick.events import Line, Purchase

from .settings import Basis

_GOODS, _EVERYTHING = frozenset(("item",)), frozenset(("item", "shipping", "fee"))

#: (index of the line, its basis in minor units)
Lines = tuple[tuple[int, int], ...]


def earning_kinds(policy: Basis) -> frozenset[str]:
    """Kinds of lines that earn: goods, and shipping and fees if the programme says so; never rewards or stored value."""
    return _GOODS if policy.shipping == "excluded" else _EVERYTHING


def line_basis(policy: Basis) -> str:
    """What one line counts for, as a rule: after its own discount or before it, with the tax it contains or without."""
    basis = "line.amount - line.discount" if policy.discounts == "net" else "line.amount"
    return f"{basis} - line.tax" if policy.tax == "excluded" else basis


def earning_lines(purchase: Purchase, policy: Basis) -> Lines:
    """Every line that earns, with its basis: :func:`line_basis` for all lines at once."""
    kinds, lines = earning_kinds(policy), enumerate(purchase.lines)
    if policy.discounts == "net" and policy.tax == "included":
        return tuple([(n, line.amount - line.discount) for n, line in lines if line.kind in kinds])
    net, taxed = policy.discounts == "net", policy.tax == "included"
    return tuple(
        [
            (n, line.amount - (line.discount if net else 0) - (0 if taxed else line.tax))
            for n, line in lines
            if line.kind in kinds
        ]
    )


def order_basis(purchase: Purchase, lines: Lines, policy: Basis) -> int:
    """What the whole order counts for.

    The order's general discount and what was paid with points reduce it; with the tax excluded, in proportion.
    """
    basis = sum([amount for _, amount in lines])
    reduced = purchase.discount if policy.discounts == "net" else 0
    if policy.points == "net" and purchase.payments:
        reduced += purchase.paid_with_points
    if not reduced or not basis:
        return basis
    whole = basis
    if policy.tax == "excluded":  # discounts and payments contain tax, so they are measured against prices with tax
        whole += sum([purchase.lines[index].tax for index, _ in lines])
    return basis * max(0, whole - reduced) // whole


def share_of_lines(purchase: Purchase, basis: int, policy: Basis) -> int:
    """What some lines count for whose own basis is *basis*.

    A general discount does not touch a rule about some lines; what was paid with points does, by their share of the order.
    """
    if policy.points != "net" or not purchase.payments or not (paid := purchase.paid_with_points):
        return basis
    total = purchase.total
    return basis * max(0, total - paid) // total if total else 0


def converted(purchase: Purchase, rate: Fraction, currency: str) -> Purchase:
    """The purchase in *currency*, at *rate* minor units for one of its own.

    Cents are cut so that the whole is exact: the total is the old total times the rate, rounded down once.
    """
    lines: list[Line] = []
    before = cumulative = 0
    for line in purchase.lines:
        cumulative += line.amount - line.discount
        until = times(rate, cumulative)
        net, discount = until - before, times(rate, line.discount)
        before = until
        lines.append(
            replace(line, amount=net + discount, discount=discount, tax=min(times(rate, line.tax), net + discount))
        )
    return replace(
        purchase,
        currency=currency,
        lines=tuple(lines),
        discount=before - times(rate, purchase.total),
        payments=tuple([replace(payment, amount=times(rate, payment.amount)) for payment in purchase.payments]),
    )


def times(rate: Fraction, amount: int) -> int:
    """*amount* at *rate*, rounded down to the minor unit."""
    return amount * rate.numerator // rate.denominator
