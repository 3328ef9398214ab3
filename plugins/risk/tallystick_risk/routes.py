"""Cases, decisions and challenges over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from tallystick import errands
from tallystick.errors import InvalidRequest

from . import docket, store
from .docket import Decision
from .hooks import Risk

Who = Annotated[str, Meta(min_length=1, max_length=128)]
Words = Annotated[str, Meta(min_length=1, max_length=2_000)]


Request: TypeAlias = errands.Request[Risk]


class Which(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which cases."""

    status: Literal["", "open", "decided"] = "open"
    policy: Annotated[str, Meta(max_length=64)] = ""
    assigned: Annotated[str, Meta(max_length=128)] = ""
    before: Annotated[int, Meta(ge=0, le=2**53, description="cases with a smaller number")] = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class Note(Struct, frozen=True, forbid_unknown_fields=True):
    """Something to remember."""

    text: Words
    by: Who


class Assignment(Struct, frozen=True, forbid_unknown_fields=True):
    """Who looks after it; nobody, if empty."""

    to: Annotated[str, Meta(max_length=128)]


class Verdict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decision."""

    decision: Decision
    by: Who
    why: Annotated[str, Meta(max_length=500)] = ""
    until: Annotated[datetime, Meta(tz=True)] | None = None
    capabilities: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=32)] = ()


class Restriction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member may not do until then; everything that can be restricted, if nothing is named."""

    until: Annotated[datetime, Meta(tz=True)]
    why: Annotated[str, Meta(min_length=1, max_length=500)]
    by: Who
    capabilities: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=32)] = ()


class Restoration(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a member is free again."""

    why: Annotated[str, Meta(min_length=1, max_length=500)]
    by: Who


class Passed(Struct, frozen=True, forbid_unknown_fields=True):
    """How the member proved who they are."""

    method: Annotated[str, Meta(min_length=1, max_length=64, description="pin, app, document, ...")]


def cases(request: Request, query: Which) -> list[dict[str, Any]]:
    """Cases, newest first."""
    with request.house.reading() as conn:
        rows = store.cases_of(
            conn, request.tenant, status=query.status, policy=query.policy, assigned=query.assigned, before=query.before,
            limit=query.limit,
        )  # fmt: skip
    return [docket.outline(row) for row in rows]


def case(request: Request) -> dict[str, Any]:
    """A case with its members, entries and notes."""
    with request.house.reading() as conn:
        return docket.told(conn, docket.find_case(conn, request.tenant, _number(request)))


def add_note(request: Request, body: Note) -> dict[str, Any]:
    """Write something to a case."""
    docket.write_note(request, _number(request), body.by, body.text)
    return case(request)


def assign(request: Request, body: Assignment) -> dict[str, Any]:
    """Give a case to somebody."""
    docket.assign(request, _number(request), body.to)
    return case(request)


def decide(request: Request, body: Verdict) -> dict[str, Any]:
    """Decide a case: release or void what is held, restrict or restore the members concerned."""
    docket.decide(
        request, _number(request), body.decision, body.by, why=body.why, until=body.until, capabilities=body.capabilities
    )  # fmt: skip
    return case(request)


def standing(request: Request) -> dict[str, Any]:
    """What a member may know: what is restricted until when, and in gentle words what is pending."""
    return docket.standing(request, request.member)


def restrict(request: Request, body: Restriction) -> dict[str, Any]:
    """Take capabilities from a member for a time."""
    docket.restrict(request, request.member, body.capabilities, body.until, body.why, body.by)
    return docket.standing(request, request.member)


def restore(request: Request, body: Restoration) -> dict[str, Any]:
    """Give a member back what was restricted."""
    docket.restore(request, request.member, body.why, body.by)
    return docket.standing(request, request.member)


def passed(request: Request, body: Passed) -> dict[str, Any]:
    """The member passed the challenge: what waited for it happens."""
    docket.pass_challenge(request, request.path["entry"], body.method, request.principal.actor[:128])
    return {"entry": request.path["entry"], "status": "released"}


def _number(request: Request) -> int:
    text = request.path["case"]
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidRequest("a case has a number")
    return int(text)
