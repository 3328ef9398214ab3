"""Every way the house says no, each with a public code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class TallyError(Exception):
    """Something the house refuses to do.

    ``code`` is public and never renamed; ``pointer`` is an RFC 6901 JSON Pointer into what the caller sent, where that
    helps; ``details`` are further facts for a program (never secrets, never personal data).
    An empty message falls back to the first line of the docstring.
    """

    code: ClassVar[str] = "error"
    #: what a plugin's own refusal says in Chinese; those of the core stand in :mod:`tallystick.problems`
    chinese: ClassVar[str] = ""

    def __init__(self, message: str = "", *, pointer: str | None = None, **details: Any) -> None:
        if not message:
            message = (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(message)
        self.message = message
        self.pointer = pointer
        self.details: Mapping[str, Any] = details


# --- at the door ---------------------------------------------------------------------------------------------------


class InvalidEvent(TallyError):
    """The event is not what its kind's schema says."""

    code = "invalid_event"


class UnknownKind(InvalidEvent):
    """No enabled plugin and nothing in the core knows this kind of event."""

    code = "unknown_kind"


class TooLarge(TallyError):
    """The body, array or nesting is larger than this door takes."""

    code = "too_large"


class UnknownMember(TallyError):
    """No member of this tenant has that number or external id."""

    code = "unknown_member"


class InvalidMember(TallyError):
    """An external id or a part of the profile is not acceptable."""

    code = "invalid_member"


class MemberInactive(TallyError):
    """The member is blocked, merged into another or erased."""

    code = "member_inactive"


class AliasTaken(TallyError):
    """That external id already belongs to another member."""

    code = "alias_taken"


class UnknownTenant(TallyError):
    """No such tenant in this deployment."""

    code = "unknown_tenant"


class NotFound(TallyError):
    """There is nothing here under that name, or it belongs to somebody else."""

    code = "not_found"


class Unauthorized(TallyError):
    """No valid key came with the request: send `Authorization: Bearer KEY`; `tally key create` makes a key."""

    code = "unauthorized"


class Forbidden(TallyError):
    """The key is valid but may not do this."""

    code = "forbidden"


class InvalidRequest(TallyError):
    """A parameter or the body is not what this route takes."""

    code = "invalid_request"


class UnsupportedMedia(TallyError):
    """The body is of a kind this route does not read."""

    code = "unsupported_media"


class MethodNotAllowed(TallyError):
    """This route does not answer to that method."""

    code = "method_not_allowed"


class InvalidKey(TallyError):
    """A key like that cannot be made."""

    code = "invalid_key"


class RateLimited(TallyError):
    """Too many requests; wait as long as Retry-After says."""

    code = "rate_limited"


# --- facts against facts -------------------------------------------------------------------------------------------


class EventConflict(TallyError):
    """The event id is known, but with other contents: a bug at the sender."""

    code = "event_conflict"


class OrderConflict(TallyError):
    """The order was already recorded by another event: a receipt earns once."""

    code = "order_conflict"


class UnknownOrder(TallyError):
    """The order is not known here."""

    code = "unknown_order"


class UnknownEntry(TallyError):
    """There is no entry with that id."""

    code = "unknown_entry"


class AlreadyDecided(TallyError):
    """The held entry was already released or voided."""

    code = "already_decided"


class TooEarly(InvalidEvent):
    """The event claims to happen more than five minutes in the future."""

    code = "too_early"


class TooLate(InvalidEvent):
    """The event is older than its source's declared lateness."""

    code = "too_late"


# --- decisions -----------------------------------------------------------------------------------------------------


class Refused(TallyError):
    """The event was understood and refused by a rule."""

    code = "refused"


class Insufficient(Refused):
    """The usable balance does not cover what is to be spent."""

    code = "insufficient_balance"


class LimitReached(Refused):
    """A limit per member, period, stock or budget is used up."""

    code = "limit_reached"


class OutOfStock(LimitReached):
    """Nothing of it is left."""

    code = "out_of_stock"


class Denied(Refused):
    """Risk review said no."""

    code = "denied"


class ApprovalNeeded(Refused):
    """An adjustment of this size needs a second person."""

    code = "approval_needed"


class GuestOrder(Refused):
    """A guest order cannot do this until it is linked to a member."""

    code = "guest_order"


class NotRepaired(TallyError):
    """The entry cannot be made good yet: a plugin still fails or is off, or the entry waits for a decision."""

    code = "not_repaired"


class NothingOwed(TallyError):
    """Judged again, the event gives no more than it gave."""

    code = "nothing_owed"


class PluginFailed(Refused):
    """The plugin that decides about this event failed, so nothing is written; `details` name it."""

    code = "plugin_failed"


# --- plugins and settings ------------------------------------------------------------------------------------------


class Problem(TallyError):
    """One mistake in a configuration, manifest or rule, with its place."""

    code = "config_problem"

    def __init__(
        self,
        message: str,
        *,
        file: str = "",
        line: int = 0,
        column: int = 0,
        pointer: str | None = None,
        **details: Any,
    ) -> None:
        place = f"{file}:{line}:{column}: " if file else (f"{line}:{column}: " if line else "")
        super().__init__(place + message, pointer=pointer, **details)
        self.reason = message
        self.file, self.line, self.column = file, line, column


class InvalidConfig(TallyError):
    """The configuration has mistakes; all of them are listed."""

    code = "invalid_config"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InvalidManifest(InvalidConfig):
    """A plugin's name plate (plugin.toml) has mistakes."""

    code = "invalid_manifest"


class InvalidRule(Problem):
    """A rule does not parse, does not type-check or is too large."""

    code = "invalid_rule"


class Unresolvable(TallyError):
    """The chosen plugins cannot run together; each reason is a chain from a plugin somebody enabled."""

    code = "unresolvable"

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join(self.reasons))


class PluginBroken(TallyError):
    """A plugin could not be loaded: missing, broken at import, or of the wrong API version."""

    code = "plugin_broken"


class LockOutdated(TallyError):
    """The plugins would run otherwise than plugins.lock says."""

    code = "lock_outdated"


class TenantNotServed(TallyError):
    """This tenant requires a plugin that is not available, so the house refuses to serve it."""

    code = "tenant_not_served"


class EffectRefused(TallyError):
    """A plugin proposed what its manifest does not grant."""

    code = "effect_refused"


# --- the house itself ----------------------------------------------------------------------------------------------


class Unavailable(TallyError):
    """The house cannot do this right now; the same request may be sent again."""

    code = "unavailable"

    def __init__(self, message: str = "", *, retry_after: int = 1, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class DatabaseDamaged(Unavailable):
    """The database file is damaged, or is no database: keep it, and restore the last backup."""

    code = "database_damaged"


class DatabaseTooNew(TallyError):
    """The database was written by a newer version; it is left untouched."""

    code = "database_too_new"


class DatabaseNotReady(TallyError):
    """The database lacks migrations; run `tally db upgrade`."""

    code = "database_not_ready"


class ProofFailed(TallyError):
    """Something in the books does not add up; the first bad entry is named."""

    code = "proof_failed"
