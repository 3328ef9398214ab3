"""The docket: how cases come from what watches found, and what people decide about cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

from tallystick import errands
from tallystick.errors import AlreadyDecided, EventConflict, UnknownEntry
from tallystick.ledger import instant, member_name, moment

from . import store
from .errors import CaseDecided, NoChallenge, SamePerson, UnknownCapability, UnknownCase
from .hooks import Risk
from .settings import Settings
from .watches import DAY, REACH, Finding

Decision = Literal["release", "void", "restrict", "restore"]
DECISIONS: Final[tuple[Decision, ...]] = ("release", "void", "restrict", "restore")
#: How long a restriction lasts if nobody says.
RESTRICTED_FOR: Final = timedelta(days=90)
_MICRO: Final = 1_000_000

Errand: TypeAlias = errands.Errand[Risk]


# --- from what watches found -----------------------------------------------------------------------------------------------


def keep_watch(errand: Errand) -> int:
    """Let the watches look at what was learned since they looked last; how many findings there were.

    Members concerned are flagged through the door before the findings are written down, under ids that follow from the
    finding: looked at again after a crash, it comes to the same.
    """
    tenant, settings = errand.tenant, errand.plugin.settings
    found = 0
    while True:
        with errand.house.reading() as conn:
            traces = store.traces_after(conn, tenant, store.looked(conn, tenant))
            if not traces:
                return found
            findings = [one for one in errand.plugin.watches.look(conn, traces) if not _settled(conn, tenant, one)]
            known = [
                (one, _concerned(conn, tenant, one)) for one in findings if not (settings.monitor or one.watch.monitor)
            ]
        flags: dict[str, Mapping[str, Any]] = {}
        for one, already in known:
            flags |= {flag["id"]: flag for flag in _flags(errand, one, already)}
        for place in range(0, len(flags), store.AT_ONCE):
            errand.record([*flags.values()][place : place + store.AT_ONCE])
        with errand.house.db.begin() as conn:
            for one in findings:
                silent = settings.monitor or one.watch.monitor
                occasion = store.Occasion(
                    one.watch.name, one.watch.subject, one.subject, one.reason, one.at * _MICRO, monitor=silent
                )
                number = store.open_case(conn, tenant, occasion)
                store.concern(conn, tenant, number, one.members)
            store.look_on(conn, tenant, traces[-1].number)
        found += len(findings)


def _settled(conn: Any, tenant: str, one: Finding) -> bool:
    """Whether people decided about the same not long ago, so that what it was made of may still be in sight."""
    after = (one.at - REACH[one.watch.subject] * DAY) * _MICRO
    return store.decided_after(conn, tenant, one.watch.name, one.watch.subject, one.subject, after)


def _concerned(conn: Any, tenant: str, one: Finding) -> set[int]:
    """Members of the case that is open about it."""
    for row in store.cases_about(conn, tenant, one.watch.name, one.watch.subject, one.subject):
        return set(store.members_of(conn, row.number))
    return set()


def _flags(errand: Errand, one: Finding, already: set[int]) -> list[Mapping[str, Any]]:
    until = datetime.fromtimestamp(one.at, UTC) + one.watch.flag
    if until <= errand.now or not one.watch.flag:
        return []
    return [
        {
            "id": f"flag/{one.watch.name}/{member_name(member)}/{one.at // DAY}", "source": "risk", "type": "risk.flagged",
            "time": errand.now.isoformat(), "member": member_name(member),
            "data": {"watch": one.watch.name, "until": until.isoformat(), "reason": one.reason[:500]},
        }
        for member in one.members if member not in already
    ]  # fmt: skip


# --- holds that nobody decided -----------------------------------------------------------------------------------------------


def end_holds(errand: Errand) -> int:
    """Release or void what waited long enough, as its policy declares; how many there were."""
    ended = 0
    while True:
        with errand.house.reading() as conn:
            found = store.due(conn, errand.tenant, instant(errand.now))
        if not found:
            return ended
        outcomes = errand.record([_decision(errand, entry, end, "nobody decided in time", "risk") for entry, end in found])  # fmt: skip
        with errand.house.db.begin() as conn:
            for (entry, end), outcome in zip(found, outcomes, strict=True):
                if isinstance(outcome, AlreadyDecided | EventConflict):
                    store.decided(conn, errand.tenant, entry, "decided")  # the relay will say how
                elif isinstance(outcome, UnknownEntry):
                    store.decided(conn, errand.tenant, entry, "gone")
                elif isinstance(outcome, Exception):
                    raise outcome
                else:
                    store.decided(conn, errand.tenant, entry, end)
        ended += len(found)


def _decision(errand: Errand, entry: str, end: str, reason: str, by: str) -> Mapping[str, Any]:
    return {
        "id": f"decide/{entry}/{end}", "source": "risk", "type": f"entry.{end}", "time": errand.now.isoformat(),
        "data": {"entry": entry, "reason": reason[:500], "by": by},
    }  # fmt: skip


# --- what people do ------------------------------------------------------------------------------------------------------------


def find_case(conn: Any, tenant: str, number: int) -> Any:
    """The case of that number.  Raises UnknownCase."""
    row = store.case_of(conn, tenant, number)
    if row is None:
        raise UnknownCase(f"there is no case {number} here")
    return row


def assign(errand: Errand, number: int, to: str) -> None:
    """Somebody looks after a case; nobody, if *to* is empty."""
    with errand.house.db.begin() as conn:
        find_case(conn, errand.tenant, number)
        store.change(conn, number, assigned=to)


def write_note(errand: Errand, number: int, by: str, text: str) -> None:
    """Write something to a case."""
    with errand.house.db.begin() as conn:
        find_case(conn, errand.tenant, number)
        store.add_note(conn, errand.tenant, number, instant(errand.now), by, text)


def decide(
    errand: Errand, number: int, decision: Decision, by: str, *, why: str = "", until: datetime | None = None,
    capabilities: Sequence[str] = (),
) -> None:  # fmt: skip
    """Decide a case.

    `release` lets happen what is held; `void` undoes it; `restrict` undoes it and takes capabilities from the members
    concerned until *until*; `restore` lets it happen, lifts their restrictions and forgets what watches found.
    A decided case can still be restored.  Raises UnknownCase, CaseDecided, SamePerson, UnknownCapability.
    """
    settings: Settings = errand.plugin.settings
    _check_capabilities(settings, capabilities)
    with errand.house.reading() as conn:
        row = find_case(conn, errand.tenant, number)
        members, entries = store.members_of(conn, number), store.entries_of(conn, number)
    if row.status != "open" and decision != "restore":
        raise CaseDecided(f"case {number} was decided by {row.decided_by}: {row.decision}")
    if row.maker and row.maker.strip().casefold() == by.strip().casefold():
        raise SamePerson(f"{by} made the adjustment and cannot decide about it")
    reason = why or f"case {number}"
    end = "released" if decision in ("release", "restore") else "voided"
    documents = [_decision(errand, one.entry, end, reason, by) for one in entries if one.status in ("held", "step_up")]
    if decision == "restrict":
        names, ends = capabilities or tuple(settings.capabilities), until or errand.now + RESTRICTED_FOR
        documents += [_restriction(errand, member, names, ends, reason, by) for member in members]
    elif decision == "restore":
        documents += [_restoration(errand, member, reason, by) for member in members]
    _send(errand, documents)
    with errand.house.db.begin() as conn:
        for one in entries:
            if one.status in ("held", "step_up"):
                store.decided(conn, errand.tenant, one.entry, end)
        store.change(conn, number, status="decided", decision=decision, decided_by=by, decided_at=instant(errand.now))
        if why:
            store.add_note(conn, errand.tenant, number, instant(errand.now), by, why)


def restrict(errand: Errand, member: int, capabilities: Sequence[str], until: datetime, reason: str, by: str) -> None:
    """Take capabilities from a member until *until*."""
    _check_capabilities(errand.plugin.settings, capabilities)
    names = tuple(capabilities) or tuple(errand.plugin.settings.capabilities)
    _send(errand, [_restriction(errand, member, names, until, reason, by)])


def restore(errand: Errand, member: int, reason: str, by: str) -> None:
    """Give a member everything back."""
    _send(errand, [_restoration(errand, member, reason, by)])


def pass_challenge(errand: Errand, entry: str, method: str, by: str) -> None:
    """The member proved who they are, to a till or an app that can tell: what waited for it happens.

    Raises NoChallenge unless the entry waits for a challenge and its time is not over.
    """
    with errand.house.reading() as conn:
        rows = store.waits_for(conn, errand.tenant, entry)
    if not any(row.status == "step_up" for row in rows) or any(row.due_at <= instant(errand.now) for row in rows):
        raise NoChallenge(f"nothing waits for a challenge under {entry}")
    _send(errand, [_decision(errand, entry, "released", f"challenge passed: {method}", by)])
    with errand.house.db.begin() as conn:
        store.decided(conn, errand.tenant, entry, "released")


def _check_capabilities(settings: Settings, capabilities: Sequence[str]) -> None:
    for name in capabilities:
        if name not in settings.capabilities:
            known = ", ".join(sorted(settings.capabilities))
            raise UnknownCapability(f"there is no capability {name!r}; there are {known}", pointer="/capabilities")


def _restriction(
    errand: Errand, member: int, names: Sequence[str], until: datetime, reason: str, by: str
) -> Mapping[str, Any]:
    return {
        **_about(errand, member, "restricted"),
        "data": {"capabilities": list(names), "until": until.isoformat(), "reason": reason[:500], "by": by},
    }


def _restoration(errand: Errand, member: int, reason: str, by: str) -> Mapping[str, Any]:
    return {**_about(errand, member, "restored"), "data": {"reason": reason[:500], "by": by}}


def _about(errand: Errand, member: int, what: str) -> dict[str, Any]:
    name = member_name(member)
    return {
        "id": f"{what}/{name}/{instant(errand.now)}", "source": "risk", "type": f"risk.{what}",
        "time": errand.now.isoformat(), "member": name,
    }  # fmt: skip


def _send(errand: Errand, documents: Sequence[Mapping[str, Any]]) -> None:
    """Through the door; what was decided already, or is gone, stays as it is."""
    for outcome in errand.record(documents) if documents else ():
        if isinstance(outcome, Exception) and not isinstance(outcome, AlreadyDecided | EventConflict | UnknownEntry):
            raise outcome


# --- what is told ----------------------------------------------------------------------------------------------------------------


def told(conn: Any, row: Any) -> dict[str, Any]:
    """A case with all that belongs to it."""
    return {
        **outline(row), "maker": row.maker, "decision": row.decision, "decided_by": row.decided_by,
        "decided_at": moment(row.decided_at).isoformat() if row.decided_at else None,
        "members": [member_name(member) for member in store.members_of(conn, row.number)],
        "entries": [
            {
                "entry": one.entry, "status": one.status, "end": one.end,
                "due_at": moment(one.due_at).isoformat() if one.status in ("held", "step_up") else None,
            }
            for one in store.entries_of(conn, row.number)
        ],
        "notes": [
            {"at": moment(one.at).isoformat(), "by": one.by, "text": one.text} for one in store.notes_of(conn, row.number)
        ],
    }  # fmt: skip


def outline(row: Any) -> dict[str, Any]:
    """A case in a list."""
    return {
        "case": row.number, "policy": row.policy, "about": row.about, "subject": row.subject, "status": row.status,
        "monitor": bool(row.monitor), "opened_at": moment(row.opened_at).isoformat(), "last_at": moment(row.last_at).isoformat(),
        "times": row.times, "reason": row.reason, "assigned": row.assigned,
    }  # fmt: skip


def standing(errand: Errand, member: int) -> dict[str, Any]:
    """What a member may know: what is restricted until when, and in gentle words what is pending."""
    with errand.house.reading() as conn:
        rows, pending = store.own_rows(conn, errand.tenant, member), store.waiting_of(conn, errand.tenant, member)
    now = int(errand.now.timestamp())
    ends = {name: end for name, end in (rows.get("restricted") or {}).items() if end > now}
    texts = {one.entry: one for one in reversed(pending)}
    return {
        "restricted": {name: datetime.fromtimestamp(end, UTC).isoformat() for name, end in sorted(ends.items())},
        "pending": [
            {"entry": entry, "challenge": one.status == "step_up", "text": one.gentle, "until": moment(one.due_at).isoformat()}
            for entry, one in sorted(texts.items())
        ],
    }  # fmt: skip
