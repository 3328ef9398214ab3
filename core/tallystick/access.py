"""Who may do what: roles, the permissions they have from the start, and the question every door asks.

Nothing is allowed that is not written here or in an enabled plugin's ``[permissions]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from .errors import Forbidden
from .manifest import ROLES

#: The core's permissions and the roles that have them from the start.
PERMISSIONS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(roles.split())
    for name, roles in {
        "events.write": "owner admin cashier integrator device",
        "members.read": "owner admin cashier integrator device member",
        "profiles.read": "owner admin member",
        "entries.read": "owner admin cashier integrator member",
        "rules.ask": "owner admin cashier integrator member",
        "members.write": "owner admin cashier integrator",
        "members.merge": "owner admin",
        "members.forget": "owner admin",
        "holds.decide": "owner admin",
        "entries.repair": "owner admin",
        "plugins.read": "owner admin integrator",
        "plugins.write": "owner admin",
        "keys.write": "owner",
        "metrics.read": "owner admin",
    }.items()
}
assert all(role in ROLES for roles in PERMISSIONS.values() for role in roles)


class Principal(Struct, frozen=True, kw_only=True):
    """Who stands at the door, as a valid key says."""

    key: str  #: the key's id, never its secret
    tenant: str
    role: str
    scopes: frozenset[str] = frozenset()  #: permissions the key is narrowed to; empty: all of its role
    member: int = 0  #: whose key it is; a key of the role `member` sees only this one

    @property
    def actor(self) -> str:
        """As the journal and the audit name it."""
        return f"key:{self.key}"


def may(principal: Principal, permission: str, plugins: Mapping[str, frozenset[str]] | None = None) -> bool:
    """Whether the key has *permission*; *plugins* are the permissions that the tenant's plugins brought, with their roles."""
    if principal.scopes and permission not in principal.scopes:
        return False
    roles = PERMISSIONS.get(permission)
    if roles is None and plugins is not None:
        roles = plugins.get(permission)
    return roles is not None and principal.role in roles


def demand(principal: Principal, permission: str, plugins: Mapping[str, frozenset[str]] | None = None) -> None:
    """Raise Forbidden unless the key has *permission*."""
    if not may(principal, permission, plugins):
        raise Forbidden(f"this key may not do that: it lacks {permission}", permission=permission)
