"""Hypothesis strategies: purchases as tills send them, events of any kind with facts that its schema allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from ..events import Event, EventKind, Line, Purchase
from .makers import NOON, make_event

_words = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)


def lines() -> st.SearchStrategy[Line]:
    """A line of a receipt, sometimes with a discount, sometimes free."""

    def make(sku: str, amount: int, off: int, **more: Any) -> Line:
        return Line(sku=sku, amount=amount, discount=amount * off // 100, **more)

    kinds = st.sampled_from(["item", "item", "item", "shipping", "fee", "reward", "stored_value"])
    return st.builds(
        make, sku=_words, amount=st.integers(0, 1_000_000), off=st.integers(0, 100), quantity=st.integers(1, 20), kind=kinds,
        department=st.sampled_from(["", "FOOD", "FUEL"]),
    )  # fmt: skip


def purchases(currency: str = "USD") -> st.SearchStrategy[Purchase]:
    """A purchase of up to eight lines."""
    found = st.lists(lines(), min_size=1, max_size=8).map(tuple)
    return st.builds(
        Purchase, order=_words, currency=st.just(currency), lines=found, store=st.sampled_from(["", "main"])
    )


def instants(days: int = 800) -> st.SearchStrategy[datetime]:
    """An instant in 2024 and the two years behind, to the second."""
    return st.integers(0, days * 86_400).map(
        lambda seconds: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    )


def events(kinds: Mapping[str, EventKind] | None = None) -> st.SearchStrategy[Event]:
    """Purchases, and, of the other *kinds*, their examples, at any time and of members and guests alike."""
    bought: st.SearchStrategy[Event] = st.builds(
        _event, purchases(), st.just("purchase.completed"), instants(), st.sampled_from([0, 1, 1, 1])
    )
    others = [_of(kind) for kind in (kinds or {}).values() if kind.name != "purchase.completed"]
    return st.one_of(bought, *others)


def _of(kind: EventKind) -> st.SearchStrategy[Event]:
    import msgspec

    facts = msgspec.convert(kind.example, kind.facts)
    others = {field: 2 for field in kind.members if getattr(facts, field, None)}
    make: Callable[..., Event] = _event
    return st.builds(make, st.just(facts), st.just(kind.name), instants(), st.just(1), st.just(others))


def _event(facts: Any, kind: str, at: datetime, member: int, others: Mapping[str, int] | None = None) -> Event:
    return make_event(facts, kind, at=at, member=member, others=dict(others or {}))


__all__ = ["NOON", "events", "instants", "lines", "purchases"]
