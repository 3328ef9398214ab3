"""Plugins switched on, off and set up while the house runs: checked, built, tried on recorded purchases, then put in force.

A change is one new generation, committed under the tenant's exclusive lock: every batch holds that lock shared, so once
the answer "disabled" is given, no process grants anything by that plugin any more.  Whatever goes wrong before leaves the
old generation in force.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import attrs
import msgspec
import sqlalchemy as sa

from . import config, database, migrate, proofs, removal, resolve, schema, tables, vault, wellness
from .config import Tenant
from .discovery import Installed
from .document import pointer
from .engine import PATIENCE, Engine
from .errors import (
    InvalidConfig,
    InvalidRequest,
    NotFound,
    PluginBroken,
    PluginFailed,
    Problem,
    ProofFailed,
    TallyError,
    Unavailable,
    Unresolvable,
)
from .events import Arrival
from .generation import Generation
from .house import House, build_generation, migration_parts, write_generation
from .ledger import Record, moment, read_record
from .manifest import Manifest
from .resolve import Lock, Resolution

#: Recorded purchases that a change is tried on, and how far back in the journal they are looked for.
TRIED, LOOKED = 20, 2_000

Said = dict[str, Any]


@attrs.frozen(kw_only=True)
class Change:
    """A change that is in force."""

    tenant: str
    generation: int  #: in force now
    plugins: tuple[str, ...]  #: that run now, in order
    changes: tuple[str, ...] = ()  #: what runs otherwise than before, a sentence each
    tried: int = 0  #: recorded purchases it was tried on before


def enable(house: House, tenant: str, plugin: str, *, actor: str) -> Change:
    """Let *plugin* run for *tenant*, with the settings it last had or its own defaults.

    Raises NotFound if it is not installed, InvalidConfig or Unresolvable if it cannot run beside the others, and
    PluginBroken if it does not work.
    """

    def edit(said: Said) -> None:
        said.setdefault("plugins", {}).setdefault(plugin, {}).pop("enabled", None)

    return _change(house, tenant, plugin, edit, action="plugin.enabled", actor=actor)


def disable(house: House, tenant: str, plugin: str, *, actor: str) -> Change:
    """Let *plugin* run no more for *tenant*; its settings and all it gave stay.  Raises as :func:`enable`."""

    def edit(said: Said) -> None:
        said.setdefault("plugins", {}).setdefault(plugin, {})["enabled"] = False

    return _change(house, tenant, plugin, edit, action="plugin.disabled", actor=actor)


def configure(house: House, tenant: str, plugin: str, settings: Mapping[str, Any], *, actor: str) -> Change:
    """Give *plugin* other *settings*, all of them; whether it runs does not change.  Raises as :func:`enable`."""

    def edit(said: Said) -> None:
        table = said.setdefault("plugins", {}).get(plugin)
        runs = plugin in house.in_force(tenant).tenant.plugins if table is None else table.get("enabled", True)
        said["plugins"][plugin] = {**schema.plain(settings), **({} if runs else {"enabled": False})}

    return _change(house, tenant, plugin, edit, action="plugin.configured", actor=actor)


def uninstall(house: House, plugin: str, *, purge: Sequence[str] | None = None, actor: str) -> dict[str, int]:
    """Let *plugin* run for nobody any more; with *purge*, the lines of an export, take out what it keeps.

    Raises InvalidConfig or Unresolvable where it cannot be switched off, ProofFailed if the export is not what the
    plugin keeps now, and InvalidRequest while somebody holds something by it or another process serves.
    """
    declared = _installed(house, plugin)
    for name, tenant in house.tenants().items():
        if plugin in tenant.plugins:
            disable(house, name, plugin, actor=actor)
    if purge is None:
        return {}
    removal.check(purge, declared)
    with house.db.begin() as conn:
        if proofs.writers_at_work(conn, house.clock()) - {house.engine.writer}:
            raise InvalidRequest("a house serves these books: stop it first")
        if [*removal.export(conn, declared)] != [*purge]:
            raise ProofFailed(f"{plugin} keeps something else by now than the export says: export it again")
        reasons = removal.referred(conn, declared)
        if reasons:
            raise InvalidRequest("; ".join(reasons[:10]))
        return removal.purge(conn, declared)


def put_back(house: House, plugin: str, lines: Sequence[str]) -> int:
    """Put back what an export of *plugin* says; how many rows.  The plugin is enabled for some tenant, so its tables are there.

    Raises ProofFailed and InvalidRequest.
    """
    declared = _installed(house, plugin)
    found = removal.check(lines, declared)
    with house.db.begin() as conn:
        if proofs.writers_at_work(conn, house.clock()) - {house.engine.writer}:
            raise InvalidRequest("a house serves these books: stop it first")
        return removal.put_back(conn, declared, found)


def _installed(house: House, plugin: str) -> Manifest:
    if plugin not in house.installed:
        raise NotFound(f"no plugin {plugin!r} is installed; its wheel is taken away last")
    return house.installed[plugin].manifest


def settings_of(tenant: Tenant, plugin: str) -> Mapping[str, Any]:
    """What somebody set up for *plugin*, whether it runs or not; without what it has by default."""
    said = tenant.said.get("plugins", {}).get(plugin, {})
    return {key: value for key, value in said.items() if key != "enabled"}


def lock_of(tenants: Sequence[Tenant], installed: Mapping[str, Installed]) -> Lock:
    """What *tenants* run, in which order, as `plugins.lock` keeps it."""
    manifests = {name: installed[name].manifest for tenant in tenants for name in tenant.plugins}
    resolutions = {
        tenant.id: Resolution(order=tuple(tenant.plugins), reasons=tenant.reasons, versions={name: manifests[name].version for name in tenant.plugins})
        for tenant in tenants
    }  # fmt: skip
    return resolve.lock(resolutions, manifests)


# --- one change ------------------------------------------------------------------------------------------------------


def _change(house: House, name: str, plugin: str, edit: Callable[[Said], None], *, action: str, actor: str) -> Change:
    deadline = time.monotonic() + PATIENCE
    if plugin not in house.installed and plugin not in house.tenants()[name].said.get("plugins", {}):
        close = schema.nearest(plugin, house.installed)
        raise NotFound(f"no plugin {plugin!r} is installed" + (f"; did you mean {close}?" if close else ""))
    while True:
        number, before = house.in_force(name)
        said: Said = schema.plain(before.said)
        edit(said)
        if said == before.said:
            return Change(tenant=name, generation=number, plugins=tuple(before.plugins))
        after = _checked(house, before, said)
        _migrate(house, after)
        tried = _try(house, before, build_generation(after, number + 1, 0, house.installed), after)
        try:
            if _commit(house, after, number, action, plugin, actor):
                break
        except Exception as error:
            if not database.retryable(error):
                raise
        if time.monotonic() > deadline:
            raise Unavailable("somebody else keeps changing this tenant; nothing was changed")
    house.registry.current(name, number + 1)
    return Change(
        tenant=name,
        generation=number + 1,
        plugins=tuple(after.plugins),
        changes=resolve.diff_locks(lock_of([before], house.installed), lock_of([after], house.installed)),
        tried=tried,
    )


def _checked(house: House, before: Tenant, said: Said) -> Tenant:
    """The tenant that *said* describes; raises InvalidConfig, and Unresolvable if something would fall away by it."""
    after, mistakes, _ = config.check_tenant(before.id, said, house.installed, origin="the switchboard")
    if after is None:
        raise InvalidConfig(
            [
                Problem(f"{'.'.join(map(str, each.path))}: {each.message}", pointer=pointer(each.path))
                for each in mistakes
            ]
        )
    lost = {name: why for name, why in after.left_out.items() if name not in before.left_out}
    wanted = {name for name in said["plugins"] if said["plugins"][name] != before.said.get("plugins", {}).get(name)}
    lost |= {name: why for name, why in after.left_out.items() if name in wanted}
    if lost:
        raise Unresolvable([*lost.values()])
    return after


def _migrate(house: House, after: Tenant) -> None:
    """Tables of a plugin that runs for the first time are made before it runs."""
    parts = migration_parts([after], house.installed)
    pending = {each.part for each in migrate.status(house.db, parts) if each.pending}
    if not pending:
        return
    for each in migrate.upgrade(house.db, parts):
        if each.part in pending and each.problem:
            raise PluginBroken(f"the tables of {each.part} could not be made: {each.problem}", plugin=each.part)


def _commit(house: House, after: Tenant, number: int, action: str, plugin: str, actor: str) -> bool:
    """Put generation *number* + 1 in force; False if somebody was faster."""
    rows = tables.tenant
    with house.db.begin() as conn:
        # whoever records holds this row shared until the commit: from here on nobody grants by the old generation
        found = conn.scalar(sa.select(rows.c.generation).where(rows.c.id == after.id).with_for_update())
        if found != number:
            return False
        at = house.clock()
        write_generation(conn, after, house.installed, number + 1, at, actor)
        body = {"plugin": plugin, "generation": number + 1, "settings": hash_of(after, plugin)}
        conn.execute(
            tables.audit.insert().values(
                id=vault.new_key().hex()[:32], tenant=after.id, at=at, actor=actor, action=action,
                body=msgspec.json.encode(body).decode(),
            )
        )  # fmt: skip
    return True


def hash_of(tenant: Tenant, plugin: str) -> str:
    """The content hash of a plugin's settings, as the audit names them: the settings themselves stand in the generation."""
    return config.programme_hash(settings_of(tenant, plugin))


# --- trying ----------------------------------------------------------------------------------------------------------


class Books(Protocol):
    """What was recorded, and what opens it: a house, or as much of one as reading takes."""

    @property
    def db(self) -> sa.Engine: ...

    @property
    def secret(self) -> bytes: ...


class _Candidate:
    """The generation that is tried, whatever is in force."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def current(self, _tenant: str, _number: int) -> Generation:
        return self._generation

    def at(self, _tenant: str, _instant: int) -> Generation:
        return self._generation

    def latest(self, _tenant: str) -> Generation:
        return self._generation


def _try(house: House, before: Tenant, generation: Generation, after: Tenant) -> int:
    """Ask every changed plugin how it is and judge recorded purchases by the new *generation*; nothing is written.

    Raises PluginBroken naming the plugin that fails; a plugin that did not change is not to blame for what it did before.
    """
    changed = {
        name
        for name, chosen in after.plugins.items()
        if name not in before.plugins or before.plugins[name].document != chosen.document
    }
    for name, health in generation.pipeline.implementations("health"):
        if name in changed:
            _ask_health(name, health)
    for kind in generation.kinds:
        generation.pipeline.plan(kind)
    found = recorded_events(house, generation, TRIED)
    for record, arrival in found:
        try:
            judge_again(house, generation, record, arrival)
        except PluginFailed as error:
            if error.details.get("plugin") in changed:
                raise PluginBroken(error.message, plugin=error.details["plugin"]) from None
        except TallyError:
            continue  # what was allowed then may be refused now: that is what settings are for
    for each in generation.pipeline.health():
        if each.plugin in changed and each.errors:
            raise PluginBroken(
                f"{each.plugin} {each.version} fails in {each.hook}: {each.last_error}; nothing was changed",
                plugin=each.plugin,
            )
    return len(found)


def _ask_health(name: str, health: Callable[[], Mapping[str, Any] | None]) -> None:
    if why := wellness.Visit(health).why():
        raise PluginBroken(f"{name} {why}; nothing was changed", plugin=name)


def judge_again(house: Books, generation: Generation, record: Record, arrival: Arrival) -> Record:
    """What *generation* makes of a purchase that was recorded, seen from when it was received; nothing is written."""
    clock = functools.partial(int, record.received)
    return Engine(house.db, _Candidate(generation), house.secret, writer=0, clock=clock).dry_run(arrival).record


def recorded_events(
    house: Books,
    generation: Generation,
    limit: int,
    *,
    kinds: Collection[str] = ("purchase.completed",),
    looked: int = LOOKED,
    judged_by: int | None = None,
) -> Sequence[tuple[Record, Arrival]]:
    """The tenant's latest events of *kinds* among the *looked* latest entries of the journal, with what came in through
    the door; the latest first.

    Their orders and ids are others than then, so that judging them again meets no order that is known.  With *judged_by*
    only those that this generation judged.
    """
    record, member = tables.record, tables.member
    same = sa.and_(member.c.tenant == record.c.tenant, member.c.number == record.c.member)
    latest = sa.select(record.c.entry).order_by(record.c.entry.desc()).limit(looked).subquery()
    tenant = generation.programme.tenant
    query = (
        sa.select(record.c.entry, record.c.member, record.c.body, record.c.facts, member.c.secret)
        .outerjoin(member, same)
        .where(record.c.entry.in_(sa.select(latest.c.entry)), record.c.tenant == tenant)
        .order_by(record.c.entry.desc())
    )
    found: list[tuple[Record, Arrival]] = []
    with database.reading(house.db) as conn:
        for row in conn.execute(query):
            if len(found) == limit:
                break
            known = read_record(bytes(row.body))
            if known.kind not in kinds or row.facts is None or judged_by not in (None, known.generation):
                continue
            key = house.secret if not row.member else (bytes(row.secret) if row.secret is not None else None)
            opened = vault.open_facts(key, row.entry, bytes(row.facts))
            if opened is None:
                continue  # the member was forgotten
            kind, data = generation.kinds[known.kind], msgspec.json.decode(opened)["data"]
            if kind.order_field and "order" in data:
                data["order"] = f"tried/{known.entry}"
            arrival = Arrival(
                tenant=tenant, id=f"tried/{known.entry}", source=known.source, kind=known.kind, at=moment(known.at),
                member=known.member, facts=msgspec.convert(data, kind.facts), canonical=opened,
            )  # fmt: skip
            found.append((known, arrival))
    return found
