"""The clerk: takes down what was committed, and so opens cases for what reviewers said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from tallystick.effects import VERDICTS
from tallystick.ledger import Record, parse_member

from . import store
from .settings import Policy, Settings

PREFIX: Final = "risk."


def take_down(conn: Any, tenant: str, settings: Settings, records: Sequence[Record]) -> None:
    """Learn the traces of *records*, open cases for what reviewers said of them, and see which holds were decided."""
    store.learn(conn, tenant, {record.entry: parse_member(record.member) or 0 for record in records})
    policies = {policy.name: policy for policy in settings.policies}
    for record in records:
        if record.kind in ("entry.released", "entry.voided"):
            decides = (record.more or {}).get("decides")
            if decides:
                store.decided(conn, tenant, decides, record.kind.removeprefix("entry."))
        elif record.reasons:
            _open(conn, tenant, settings, policies, record)


def _open(conn: Any, tenant: str, settings: Settings, policies: Mapping[str, Policy], record: Record) -> None:
    held = record.status in ("held", "step_up")
    for reason in record.reasons:
        ours = reason["rule"].startswith(PREFIX)
        if not (ours or (held and VERDICTS.index(reason["verdict"]) > 0)):
            continue
        name = reason["rule"].removeprefix(PREFIX) if ours else reason["rule"]
        if reason["verdict"] == "allow" and name not in policies:
            continue  # it could not look at something that gives: the record says so
        member = parse_member(record.member) or 0
        makers = [one.cashier for one in store.traces_of_entry(conn, tenant, record.entry) if one.what == "adjust"]
        occasion = store.Occasion(
            name, "member", record.member, reason["reason"], record.received,
            monitor=reason["verdict"] == "allow", maker=makers[0] if makers else "",
        )  # fmt: skip
        number = store.open_case(conn, tenant, occasion)
        store.concern(conn, tenant, number, [member])
        policy = policies.get(name)
        after = policy.after if policy is not None else settings.after
        store.wait(
            conn, tenant, number, record.entry, member=member, status=record.status if held else "seen", gentle=reason["gentle"],
            due_at=record.received + after // timedelta(microseconds=1), end=policy.end if policy is not None else settings.end,
        )  # fmt: skip
