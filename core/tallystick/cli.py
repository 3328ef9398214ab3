"""`tally`: parse, call one function, print.  Results go to standard output, refusals with their code to standard error."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs
import click
import msgspec

from .access import PERMISSIONS
from .commands import Section, Show, WithPlugins, WithShows, sections
from .discovery import Installed, manifests
from .errors import InvalidConfig, InvalidKey, InvalidRequest, ProofFailed, TallyError, UnknownEntry
from .intake import read_document
from .later import later
from .ledger import Account, Lot, Record, member_name, moment, parse_entry
from .manifest import ROLES, Manifest
from .ruledesk import ruledesk
from .server import listen, run_server, serve_with
from .terminal import Desk, Group, command, in_words, language, option, say, tenant_of, tenant_option
from .upkeep import expected_heads, upkeep
from .workbench import in_force, workbench

if TYPE_CHECKING:
    from . import config as configuration
    from . import (
        database,
        demo,
        doctor,
        exporting,
        house,
        importing,
        keys,
        migrate,
        people,
        proofs,
        queries,
        receipts,
        report,
        rulebook,
        store,
        vault,
    )
    from . import mapping as mappings
else:
    configuration, database, demo, doctor, exporting = later("config", "database", "demo", "doctor", "exporting")
    house, importing, keys, mappings, migrate = later("house", "importing", "keys", "mapping", "migrate")
    people, proofs, queries, receipts, report = later("people", "proofs", "queries", "receipts", "report")
    rulebook, store, vault = later("rulebook", "store", "vault")

#: What `tally export` writes, as its own module has them.
BOOKS = ("records", "transfers", "lots", "balances")


@click.group(cls=WithPlugins, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    version("tallystick-core"), prog_name="tally", message="%(prog)s %(version)s", help="Show the version and exit."
)
@option(
    "--lang",
    type=click.Choice(["en", "zh"]),
    help="The language of texts: en or zh; by default that of the environment.",
)
def cli(lang: str | None) -> None:
    """Tallystick, an open loyalty engine: every point is explained, every balance can be proved."""


# --- the deployment --------------------------------------------------------------------------------------------------


@command(cli, "init")
@option("--tenant", default="shop", show_default=True, help="The first tenant's id.")
@option("--name", help="The merchant's name; by default the id.")
@option("--zone", default="UTC", show_default=True, help="The programme's time zone.")
@option("--currency", default="USD", show_default=True, help="The programme's currency, ISO 4217.")
@option("--language", default="en", show_default=True, help="The language members are addressed in.")
def init(desk: Desk, tenant: str, name: str | None, zone: str, currency: str, language: str) -> None:
    """Write a first tally.toml, create its database and print the first admin key, once."""
    if desk.path.exists():
        raise InvalidRequest(say("{file} exists already; nothing was changed", file=desk.path))
    try:
        text = configuration.render_default(tenant, name=name, zone=zone, currency=currency, language=language)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(str(error)) from None
    key = establish(desk.path, text, desk.installed())
    document = {"config": str(desk.path), "tenant": tenant, "key": key}
    desk.answer(
        document,
        say("Wrote {file}; the secret is in tally.secret, the books in tally.db.", file=desk.path),
        say("The first admin key, shown this once:"),
        f"  {key}",
        say("Start with: tally serve"),
    )


def establish(path: Path, text: str, installed: Mapping[str, Installed]) -> str:
    """Write a configuration and its secret, make its database, and return the first owner key of its first tenant."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_secret(path.parent / "tally.secret")
    try:
        path.write_text(text, encoding="utf-8")
        found = Desk(path, as_json=False).config()
        house.prepare(found, installed=installed)
        with house.build_house(found, installed=installed) as built, built.db.begin() as conn:
            return keys.create(conn, tenant=next(iter(found.tenants)), role="owner", name="first", now=house.now())[1]
    except BaseException:
        path.unlink(missing_ok=True)  # or the next try would find a configuration, and no key for it
        raise


def write_secret(path: Path) -> None:
    """Make the house's secret, for its owner's eyes only; one that is there already stays."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w") as file:
        file.write(vault.new_key().hex() + "\n")


@command(cli, "check")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
def check(desk: Desk, file: Path | None) -> None:
    """Check a configuration and name every mistake with its place."""
    desk = Desk(file or desk.path, desk.as_json)
    found = desk.config()
    if found.unavailable:
        raise InvalidConfig(found.unavailable)
    tenants = {name: {"plugins": list(each.plugins), "hash": each.hash} for name, each in found.tenants.items()}
    running = {name for each in found.tenants.values() for name in each.plugins}
    careless = sorted(name for name in running if _redeems_everything(desk.installed()[name].manifest))
    for name in careless:
        text = (
            "{plugin} decides about spending and names no kinds in [interests]: purchases of guests would be refused."
        )
        click.echo(say(text, plugin=name), err=True)
    notes = {name: each.notes for name, each in found.tenants.items() if each.notes}
    for name, said in notes.items():
        for note in said:
            click.echo(f"{name}: {note}", err=True)
    desk.answer(
        {"config": str(desk.path), "tenants": tenants, "warnings": careless, "notes": notes},
        say("{file} is in order.", file=desk.path),
        *(f"  {name}: {', '.join(each.plugins) or say('nothing runs')}" for name, each in found.tenants.items()),
    )


def _redeems_everything(manifest: Manifest) -> bool:
    """Whether it is asked about spending with every event: then none may come from a guest."""
    wanted = manifest.interests.get("redeem", ("*",))
    return "redeem" in manifest.hooks and any(kind in ("*", "purchase.*", "purchase.completed") for kind in wanted)


@command(cli, "serve")
@option("--host", help="The address to listen on, instead of the configured one.")
@option("--port", type=click.IntRange(0, 65_535), help="The port to listen on, instead of the configured one.")
@option("--workers", type=click.IntRange(1, 256), help="How many processes answer, instead of as many as configured.")
def serve(desk: Desk, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve HTTP until interrupted."""
    found = desk.config()
    with listen(host or found.house.host, found.house.port if port is None else port) as listening:
        count = workers or found.house.workers
        # several read the file themselves: one that is started anew later reads what stands in it then
        serve_with(count, listening, desk.serving if count > 1 else partial(desk.serving, found))


@command(cli, "doctor")
def examine(desk: Desk) -> None:
    """Look whether everything this deployment needs is in order."""
    findings = doctor.examine(desk.config(), desk.installed())
    desk.answer(
        [{"what": each.what, "ok": each.ok, "detail": each.detail} for each in findings],
        *(f"{'ok  ' if each.ok else 'BAD '}{say(each.what)}: {_finding(each)}" for each in findings),
    )
    if not all(each.ok for each in findings):
        click.get_current_context().exit(1)


def _finding(found: doctor.Finding) -> str:
    """What the doctor found, in the language of the user."""
    return "; ".join(
        in_words(each) if isinstance(each, TallyError) else say(each.text, **each.words) for each in found.said
    )


for _found in (*workbench.commands.values(), *upkeep.commands.values(), *ruledesk.commands.values()):
    cli.add_command(_found)


@command(cli, "hooks")
@tenant_option
@option("--kind", help="Only this kind of event.")
@option("--explain", is_flag=True, help="Name the plugin behind each hook, in the order of calls.")
def list_hooks(desk: Desk, tenant: str | None, kind: str | None, explain: bool) -> None:
    """Show what runs for each kind of event."""
    found = desk.config()
    chosen = in_force(desk)[tenant_of(found, tenant)]
    generation = house.build_generation(chosen, 0, 0, desk.installed())
    document: list[dict[str, Any]] = []
    for name in [kind] if kind else sorted(generation.kinds):
        plan = generation.pipeline.plan(name)
        hooks = [
            hook
            for hook in ("earn", "redeem", "reverse", "review", "evaluate_tier", "react")
            if getattr(plan, hook) is not None
        ]
        needs = {
            "balances": sorted(plan.needs.balances),
            "counters": sorted([list(counter) for counter in plan.needs.counters]),
            "stock": sorted(plan.needs.stock),
            "profile": plan.needs.profile,
        }
        by = {hook: [plugin for plugin, _ in generation.pipeline.implementations(hook)] for hook in hooks}
        document.append({"kind": name, "hooks": by, "needs": needs})
    lines = []
    for row in document:
        by = row["hooks"]
        said = ", ".join(f"{hook} ({' > '.join(plugins)})" if explain else hook for hook, plugins in by.items())
        lines.append(f"{row['kind']}: {said or say('nothing runs')}")
        if explain and any(row["needs"].values()):
            asked = "; ".join(f"{what} {_flat(value)}" for what, value in row["needs"].items() if value)
            lines.append(f"    needs {asked}")
    desk.answer(document, *lines)


def _flat(value: Any) -> str:
    if value is True:
        return ""
    return ", ".join("/".join(each) if isinstance(each, list) else str(each) for each in value)


# --- tenants and keys ------------------------------------------------------------------------------------------------


@cli.group(cls=Group, name="tenant")
def tenants() -> None:
    """Tenants of this deployment."""


@command(tenants, "list")
def list_tenants(desk: Desk) -> None:
    """List the tenants."""
    found = desk.config()
    rows = [
        {
            "id": each.id,
            "name": each.name.in_language(language()),
            "zone": str(each.zone),
            "currency": each.currency,
            "plugins": list(each.plugins),
        }
        for each in found.tenants.values()
    ]
    desk.answer(
        rows,
        *(f"{row['id']}  {row['name']}  {row['zone']}  {row['currency']}  {', '.join(row['plugins'])}" for row in rows),
    )


@command(tenants, "add")
@click.argument("tenant")
@option("--name", help="The merchant's name; by default the id.")
@option("--zone", default="UTC", show_default=True, help="The programme's time zone.")
@option("--currency", default="USD", show_default=True, help="The programme's currency, ISO 4217.")
@option("--language", default="en", show_default=True, help="The language members are addressed in.")
def add_tenant(desk: Desk, tenant: str, name: str | None, zone: str, currency: str, language: str) -> None:
    """Add a tenant to tally.toml."""
    found = desk.config()
    if tenant in found.tenants:
        raise InvalidRequest(f"{desk.path} has a tenant {tenant!r} already")
    try:
        text = configuration.render_default(tenant, name=name, zone=zone, currency=currency, language=language)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(str(error)) from None
    before = desk.path.read_text(encoding="utf-8")
    desk.path.write_text(f"{before.rstrip()}\n\n{text[text.index(f'[tenants.{tenant}]') :]}", encoding="utf-8")
    try:
        with desk.house() as built, built.db.begin() as conn:
            key, secret = keys.create(conn, tenant=tenant, role="owner", name="first", now=house.now())
    except BaseException:
        desk.path.write_text(before, encoding="utf-8")
        raise
    desk.answer(
        {"tenant": tenant, "id": key.id, "key": secret},
        say("The first admin key, shown this once:"),
        f"  {secret}",
    )


@cli.group(cls=Group, name="key")
def key_group() -> None:
    """API keys."""


@command(key_group, "list")
@tenant_option
def list_keys(desk: Desk, tenant: str | None) -> None:
    """List a tenant's keys; secrets are never shown again."""
    with desk.house() as built, built.reading() as conn:
        found = keys.list_keys(conn, tenant=tenant_of(built.config, tenant))
    now = house.now()
    rows = [{**msgspec.to_builtins(key), "active": key.active(now)} for key in found]
    desk.answer(
        rows, *(f"{row['id']}  {row['role']}  {'active' if row['active'] else 'ended'}  {row['name']}" for row in rows)
    )


@command(key_group, "create")
@tenant_option
@option("--role", type=click.Choice(ROLES), default="admin", show_default=True, help="What the key's owner may do.")
@option("--name", default="", help="What the key is for, for people.")
@option("--scope", "scopes", multiple=True, help="A permission the key is narrowed to; repeatable.")
@option("--member", help="Whose key it is: a member's, for the role member.")
def create_key(
    desk: Desk, tenant: str | None, role: str, name: str, scopes: tuple[str, ...], member: str | None
) -> None:
    """Make a key and show it, once."""
    with desk.house() as built, built.db.begin() as conn:
        chosen = tenant_of(built.config, tenant)
        brought = (each.permissions for each in manifests(desk.installed())[0].values())
        known = {*PERMISSIONS, *(one.id for each in brought for one in each)}
        if unknown := sorted(set(scopes) - known):
            raise InvalidKey(
                f"nobody knows the permission {', '.join(unknown)}; expected of {', '.join(sorted(known))}",
                pointer="/scopes",
            )
        number = people.load(conn, built.secret, chosen, member).number if member else 0
        key, secret = keys.create(
            conn, tenant=chosen, role=role, name=name, now=house.now(), scopes=scopes, member=number
        )
    _show_key(desk, key, secret)


@command(key_group, "revoke")
@click.argument("key_id")
@tenant_option
def revoke_key(desk: Desk, key_id: str, tenant: str | None) -> None:
    """Make a key open nothing any more."""
    with desk.house() as built, built.db.begin() as conn:
        key = keys.revoke(conn, tenant=tenant_of(built.config, tenant), key_id=key_id, now=house.now())
    desk.answer(msgspec.to_builtins(key), f"{key.id}  {key.role}  ended  {key.name}")


@command(key_group, "rotate")
@click.argument("key_id")
@tenant_option
@option(
    "--grace",
    type=click.IntRange(0, 24 * 90),
    default=24,
    show_default=True,
    help="How many hours the old key goes on working.",
)
def rotate_key(desk: Desk, key_id: str, tenant: str | None, grace: int) -> None:
    """Make a key's successor; the old one goes on working for some hours."""
    with desk.house() as built, built.db.begin() as conn:
        chosen = tenant_of(built.config, tenant)
        key, secret = keys.rotate(conn, tenant=chosen, key_id=key_id, now=house.now(), grace=grace * 3_600 * 1_000_000)
    _show_key(desk, key, secret)


def _show_key(desk: Desk, key: keys.Key, secret: str) -> None:
    desk.answer(
        {"id": key.id, "tenant": key.tenant, "role": key.role, "name": key.name, "key": secret},
        secret,
        *([] if desk.as_json else [say("Keep it: nobody can show it again.")]),
    )


# --- members ---------------------------------------------------------------------------------------------------------


@cli.group(cls=Group, name="member")
def members() -> None:
    """Members."""


@command(members, "add")
@click.argument("external_ids", nargs=-1)
@tenant_option
@option("--name", default="", help="The member's name.")
@option("--phone", default="", help="The member's phone number.")
@option("--email", default="", help="The member's e-mail address.")
@option("--birthday", default="", help="Birthday, YYYY-MM-DD or MM-DD.")
def add_member(desk: Desk, external_ids: tuple[str, ...], tenant: str | None, **profile: str) -> None:
    """Let somebody join."""
    try:
        known = msgspec.convert(profile, people.Profile)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from None
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        with built.db.begin() as conn:
            number = people.enrol(conn, built.secret, chosen, house.now(), external_ids=external_ids, profile=known)
        record = tell(built, chosen, "member.enrolled", f"enrol/{member_name(number)}", member_name(number), {})
    desk.answer(
        {"member": member_name(number), "external_ids": list(external_ids), "entry": record.entry},
        member_name(number),
    )


def tell(built: house.House, tenant: str, kind: str, event_id: str, member: str, facts: Mapping[str, Any]) -> Record:
    """Record an event that a command means, through the door that everybody uses; raises the refusal."""
    document: dict[str, Any] = {
        "id": event_id,
        "source": "tallystick/cli",
        "type": kind,
        "time": moment(built.clock()).isoformat(),
        "data": {name: value for name, value in facts.items() if value},
    }
    if member:
        document["member"] = member
    received = moment(built.clock())
    kinds = built.kinds(tenant)
    outcome = built.record([read_document(document, tenant=tenant, kinds=kinds, received=received, actor="tally")])[0]
    if isinstance(outcome, TallyError):
        raise outcome
    return outcome.record


@command(members, "show")
@click.argument("member")
@tenant_option
def show_member(desk: Desk, member: str, tenant: str | None) -> None:
    """Show a member with balances and lots."""
    with desk.house() as built, built.reading() as conn:
        chosen = tenant_of(built.config, tenant)
        row = people.load(conn, built.secret, chosen, member)
        profile = people.load_profile(conn, chosen, row.number)
        balances = load_balances(
            store.Store(built.db.dialect.name, locking=False), conn, chosen, row.number, house.now()
        )
    document = {
        "member": row.name,
        "status": row.status,
        "enrolled_at": moment(row.enrolled_at).isoformat(),
        "tags": list(row.tags),
        "profile": msgspec.to_builtins(profile),
        "balances": balances,
    }
    lines = [
        f"{row.name}  {row.status}  {document['enrolled_at']}",
        *(
            f"  {key}: {', '.join(value) if isinstance(value, tuple) else value}"
            for key, value in document["profile"].items()
            if value
        ),
    ]
    for unit, balance in balances.items():
        lines.append(
            f"  {unit}: {balance['usable']:,} ({', '.join(f'{key} {balance[key]:,}' for key in ('posted', 'pending', 'due'))})"
        )
    desk.answer(document, *lines)


def load_balances(store: store.Store, conn: Any, tenant: str, number: int, now: int) -> dict[str, dict[str, int]]:
    """A member's balances per unit at *now*: posted, usable, pending and due."""
    cur = store.cursor(conn)
    accounts = {
        unit: Account(member, unit, posted, deficit)
        for member, unit, posted, deficit in store.load_balances(cur, tenant, [number])
    }
    for _, unit, entry, part, amount, remaining, usable_from, expires_at, *_ in store.load_lots(cur, tenant, [number]):
        lot = Lot(entry, part, amount, remaining, usable_from, expires_at)
        accounts[unit].lots[lot.key] = lot
    return {
        unit: {
            "posted": account.posted,
            "usable": account.usable(now),
            "pending": account.pending(now),
            "due": account.due(now),
        }
        for unit, account in sorted(accounts.items())
    }


@command(members, "link")
@click.argument("member")
@click.argument("external_id")
@tenant_option
def link_member(desk: Desk, member: str, external_id: str, tenant: str | None) -> None:
    """Let a member be found by another external id."""
    with desk.house() as built, built.db.begin() as conn:
        chosen = tenant_of(built.config, tenant)
        row = people.load(conn, built.secret, chosen, member)
        fresh = people.link(conn, built.secret, chosen, row.number, external_id)
    desk.answer({"member": row.name, "external_id": external_id, "fresh": fresh}, f"{row.name} = {external_id}")


@command(members, "merge")
@click.argument("member")
@click.argument("into")
@tenant_option
@option("--reason", default="", help="Why, for the journal.")
def merge_members(desk: Desk, member: str, into: str, tenant: str | None, reason: str) -> None:
    """Hand everything MEMBER has over to INTO, who is the same person."""
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        with built.reading() as conn:
            source, target = [people.load(conn, built.secret, chosen, name).name for name in (member, into)]
        if source == target:
            raise InvalidRequest(f"{member} and {into} are one member already")
        event_id = f"merge/{source}/{target}/{built.clock()}"
        record = tell(built, chosen, "member.merged", event_id, source, {"into": target, "reason": reason})
    desk.answer({"entry": record.entry, "member": source, "into": target}, f"{source} -> {target}  {record.entry}")


@command(members, "unmerge")
@click.argument("entry")
@tenant_option
@option("--reason", default="", help="Why, for the journal.")
def unmerge_members(desk: Desk, entry: str, tenant: str | None, reason: str) -> None:
    """Part two merged members again, as far as nothing was spent meanwhile; ENTRY is the merge's."""
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        record = tell(
            built, chosen, "member.unmerged", f"unmerge/{entry}/{built.clock()}", "", {"entry": entry, "reason": reason}
        )
    desk.answer({"entry": record.entry, "parted": entry}, record.entry)


@command(members, "export")
@click.argument("member")
@tenant_option
@option(
    "--output", type=click.File("w", encoding="utf-8"), default="-", help="The file to write; - is standard output."
)
def export_member(desk: Desk, member: str, tenant: str | None, output: IO[str]) -> None:
    """Write everything the house keeps of a member."""
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        with built.reading() as conn:
            row = people.load(conn, built.secret, chosen, member)
        document = built.export(chosen, row.number)
    output.write(json.dumps(document, ensure_ascii=False, indent=2, default=str) + "\n")


@command(members, "erase")
@click.argument("member")
@tenant_option
@option("--yes", is_flag=True, help="Do it without asking.")
def erase_member(desk: Desk, member: str, tenant: str | None, yes: bool) -> None:
    """Forget a member: destroy the key under which everything personal is kept."""
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        with built.reading() as conn:
            row = people.load(conn, built.secret, chosen, member)
        if not yes and not click.confirm(say("Forget {member} for ever?", member=row.name), err=True):
            raise InvalidRequest(say("nothing was done"))
        receipt = built.erase(chosen, row.number)
    document = {"receipt": msgspec.to_builtins(receipt), "complete": receipt.complete}
    silent = ", ".join(name for name, forgot in receipt.plugins.items() if not forgot)
    desk.answer(
        document,
        f"{receipt.erasure.id}  {', '.join(member_name(number) for number in receipt.erasure.members)}",
        *([say("not complete: {plugins} did not forget the member; erase it again", plugins=silent)] if silent else []),
    )


# --- the books -------------------------------------------------------------------------------------------------------


@command(cli, "explain")
@click.argument("entry")
@tenant_option
def explain_entry(desk: Desk, entry: str, tenant: str | None) -> None:
    """Explain an entry: which rule did what, in which version, with which numbers, line by line."""
    number = parse_entry(entry)
    if number is None:
        raise UnknownEntry(f"there is no entry {entry}")
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        with built.reading() as conn:
            record = queries.load_record(conn, chosen, number)
        why = rulebook.told(built, chosen, number, language())
    told = receipts.explanation(record, language())
    receipt = told.receipt
    lines = [f"{receipt.entry}  {receipt.type}  {receipt.status}  {receipt.time.isoformat()}  {receipt.member}"]
    for reason, each in zip(told.steps, why, strict=True):
        numbers = ", ".join(f"{name} {value}" for name, value in (reason.numbers or {}).items())
        lines.append(
            f"  {reason.text}  [{reason.rule}{f' {reason.version}' if reason.version else ''}{f'; {numbers}' if numbers else ''}]"
        )
        lines += [f"      {sentence}" for sentence in each.sentences[1:]]
    lines += [f"  {t['debit']} -> {t['credit']}: {t['amount']:,} {t['unit']}" for t in told.transfers]
    if receipt.off:
        text = "  not asked, for it was late and they had been switched off: {plugins}"
        lines.append(say(text, plugins=", ".join(receipt.off)))
    desk.answer({**msgspec.to_builtins(told), "why": msgspec.to_builtins(why)}, *lines)


@command(cli, "expire")
@tenant_option
def expire(desk: Desk, tenant: str | None) -> None:
    """Sweep lots that are due."""
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        count = built.expire(chosen)
    desk.answer(
        {"tenant": chosen, "members": count}, say("{count:member|members} had points that expired", count=count)
    )


@cli.group(cls=Group, name="db")
def books() -> None:
    """The database."""


@command(books, "status")
def database_status(desk: Desk) -> None:
    """Show how far the database has come."""
    _say_status(desk, migrate.status)


@command(books, "upgrade")
def upgrade_database(desk: Desk) -> None:
    """Bring the database to this version."""
    _say_status(desk, migrate.upgrade)


def _say_status(desk: Desk, work: Callable[..., list[migrate.Status]]) -> None:
    found = desk.config()
    engine = database.connect(found.house.database)
    try:
        rows = work(
            engine, house.migration_parts(house.look(engine, found, desk.installed()).values(), desk.installed())
        )
    finally:
        engine.dispose()
    desk.answer(
        [attrs.asdict(row) for row in rows],
        *(f"{row.part}  {row.current or '-'}  {row.trouble or 'ok'}" for row in rows),
    )
    if any(row.problem or row.too_new for row in rows):
        click.get_current_context().exit(1)


@command(books, "plan")
def plan_upgrade(desk: Desk) -> None:
    """Show the SQL that `db upgrade` would run."""
    found = desk.config()
    engine = database.connect(found.house.database)
    try:
        sql = migrate.plan(
            engine, house.migration_parts(house.look(engine, found, desk.installed()).values(), desk.installed())
        )
    finally:
        engine.dispose()
    desk.answer({"sql": sql}, sql.rstrip() or say("Nothing is to be done."))


# --- events in, books out --------------------------------------------------------------------------------------------


@command(cli, "import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@tenant_option
@option(
    "--mapping",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML file that says how rows become events.",
)
@option(
    "--history", is_flag=True, help="Play the past: each event is received when it happened, and days end as they did."
)
@option("--enrol", is_flag=True, help="Let members nobody knows join at their first event.")
@option(
    "--refused",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where refused rows are listed; by default beside the file.",
)
def import_events(
    desk: Desk, file: Path, tenant: str | None, mapping: Path | None, history: bool, enrol: bool, refused: Path | None
) -> None:
    """Import events from a JSONL, CSV or Parquet file; - reads JSONL from standard input.

    An import that was interrupted goes on where it stopped, and what was recorded before is never counted twice.
    """
    with ExitStack() as stack:
        built = stack.enter_context(desk.house())
        chosen = tenant_of(built.config, tenant)
        if file == Path("-"):
            refused = refused or Path("standard-input.refused.jsonl")
            file = stack.enter_context(_spooled(sys.stdin.buffer, built.config.house.data_dir))
        rules = mappings.load_mapping(mapping, built.kinds(chosen)) if mapping is not None else None
        workspace = built.config.house.data_dir
        bookmark = importing.Bookmark(
            workspace, file, chosen, history, enrol, mapping.read_bytes() if mapping is not None else b""
        )
        done = bookmark.read()
        refused = refused or file.with_name(f"{file.name}.refused.jsonl")
        refusals = stack.enter_context(Refusals(refused, again=done > 0, length=bookmark.reported))
        with Progress(file.name) as progress:
            importer = importing.Importer(
                built,
                chosen,
                mapping=rules,
                history=history,
                enrol=enrol,
                actor="import",
                on_refusal=refusals.add,
                on_progress=progress.show,
            )
            events = importing.open_events(file, rules, history=history, workspace=workspace)
            tally = importer.run(
                events, done=done, checkpoint=lambda done: bookmark.write(done, reported=refusals.keep())
            )
        bookmark.remove()
    for line in () if desk.as_json else refusals.first:  # programs read the report
        click.echo(f"tally: {line}", err=True)
    document = {**attrs.asdict(tally), "report": str(refused) if refusals.some else None}
    said = say(
        "{recorded:event|events} recorded, {repeated:,} known before, {refused:,} refused", **attrs.asdict(tally)
    )
    desk.answer(document, said, *([say("Refused rows are listed in {file}.", file=refused)] if refusals.some else []))
    if refusals.some:
        click.get_current_context().exit(1)


@contextmanager
def _spooled(stream: IO[bytes], workspace: Path) -> Iterator[Path]:
    """What comes in as a file, for history is read twice; it is gone afterwards."""
    workspace.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="import-", dir=workspace) as folder:
        path = Path(folder) / "standard-input.jsonl"
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file)
        yield path


class Refusals:
    """The report of refused rows: a line each, in a file that exists only if there is one."""

    def __init__(self, path: Path, *, again: bool, length: int | None = None) -> None:
        """An import that goes on where it stopped (*again*) adds to what was refused before.

        What stands behind *length* bytes was refused after the last checkpoint, and will be once more.
        """
        self.path = path
        self.first: list[str] = []  #: some of them, for the terminal
        self.some = again and path.exists()
        if self.some and length is not None:
            os.truncate(path, min(length, path.stat().st_size))
            self.some = path.stat().st_size > 0
        self._file: IO[bytes] | None = None

    def add(self, refusal: importing.Refusal) -> None:
        """Write one down."""
        if self._file is None:
            self._file = self.path.open("ab" if self.some else "wb")
            self.some = True
        self._file.write(msgspec.json.encode(refusal.document()) + b"\n")
        if len(self.first) < 10:
            row = say("row {row}", row=refusal.row)
            self.first.append(f"{refusal.error.code}: {row}: {in_words(refusal.error)}")

    def keep(self) -> int:
        """Let what was written down outlive this process; how long the report is."""
        if self._file is None:
            return self.path.stat().st_size if self.some else 0
        self._file.flush()
        return self._file.tell()

    def __enter__(self) -> Refusals:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


class Progress:
    """How far an import is, on standard error if that is a terminal."""

    def __init__(self, title: str, total: int | None = None) -> None:
        self.title, self.total = title, total
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total)
        return self

    def show(self, tally: importing.Tally) -> None:
        """Move to where *tally* says."""
        if self._bar is not None:
            self._bar.update(self._task, completed=tally.read)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


@command(cli, "export")
@click.argument("book", type=click.Choice(BOOKS))
@tenant_option
@option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="How the rows are written.",
)
@option(
    "--output", type=click.File("w", encoding="utf-8"), default="-", help="The file to write; - is standard output."
)
def export_books(desk: Desk, book: str, tenant: str | None, form: str, output: IO[str]) -> None:
    """Write the books as JSONL or CSV."""
    with desk.house() as built, built.reading() as conn:
        found = exporting.rows(conn, tenant_of(built.config, tenant), book)
        if desk.as_json and output.name == "<stdout>":
            desk.answer(list(found))
            return
        rows = exporting.write(found, form, output)
    if desk.as_json:
        desk.answer({"file": output.name, "rows": rows})


@command(cli, "report")
@tenant_option
def show_report(desk: Desk, tenant: str | None) -> None:
    """Show a programme in numbers: points, rules, months, members."""
    with desk.house() as built:
        chosen = built.config.tenants[tenant_of(built.config, tenant)]
        with built.reading() as conn:
            found = report.read_report(conn, chosen.id, chosen.zone, list(chosen.units))
        more = sections(built, chosen.id)
    document = {**msgspec.to_builtins(found), **_documents(more)}
    desk.answer(document, *report.lines(found, language()), *_paragraphs(more))


def _documents(more: Sequence[Section]) -> dict[str, Any]:
    """What plugins add to a report, for programs."""
    found: dict[str, Any] = {}
    for section in more:
        found.setdefault("plugins", {}).setdefault(section.plugin, []).append(section.document)
    return found


def _paragraphs(more: Sequence[Section]) -> Iterator[str]:
    """What plugins add to a report, for people."""
    for section in more:
        yield from ("", section.title, *[f"  {line}".rstrip() for line in section.lines])


@command(cli, "verify")
@option(
    "--head",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A signed head from earlier: then it is also found if the end was cut off or everything rewritten.",
)
@option("--key", help="The verifier key of whoever signed the head; by default this house's.")
def verify(desk: Desk, head: Path | None, key: str | None) -> None:
    """Check all books: sums, lots, hashes and chains."""
    with desk.house() as built, built.reading() as conn:
        found = proofs.verify(conn, expected=expected_heads(built, head, key))
    desk.answer(msgspec.to_builtins(found), *verdict(found))
    if not found.ok:
        raise ProofFailed(found.findings[0].message, entry=found.first_bad)


def verdict(found: proofs.Report) -> list[str]:
    """What a verification says, in words."""
    if found.ok:
        words = {"entries": found.entries, "transfers": found.transfers, "batches": found.batches}
        return [
            say(
                "The books add up: {entries:entry|entries}, {transfers:transfer|transfers}, {batches:batch|batches}.",
                **words,
            )
        ]
    return [f"{finding.code}  {finding.entry}  {finding.message}" for finding in found.findings]


@command(cli, "demo", cls=WithShows)
@option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default="tally-demo",
    show_default=True,
    help="Where the demo lives.",
)
@option("--database", "url", help="A database URL instead of a SQLite file in the folder.")
@option("--limit", type=click.IntRange(1), help="Only the first so many baskets.")
@option("--serve/--no-serve", default=True, help="Go on with serving HTTP, or end.")
@option("--port", type=click.IntRange(0, 65_535), default=8_080, show_default=True, help="The port to listen on.")
def play_demo(
    desk: Desk, folder: Path, url: str | None, limit: int | None, serve: bool, port: int, shows: Sequence[Show]
) -> None:
    """Play a year of a grocery chain through the house and report what a merchant would want to know."""
    demo.data_folder()
    path = folder / "tally.toml"
    with ExitStack() as stack:
        listening = stack.enter_context(listen("127.0.0.1", port)) if serve and not desk.as_json else None
        address = f"http://127.0.0.1:{listening.getsockname()[1] if listening else port}"
        key = set_the_stage(desk, path, url, shows)
        _play(desk, path, limit, shows, address)
        if listening is not None:
            if key:
                click.echo(say("The first admin key, shown this once:"))
                click.echo(f"  {key}")
            run_server(stack.enter_context(Desk(path, as_json=False).serving()), listening)


def set_the_stage(desk: Desk, path: Path, url: str | None, shows: Sequence[Show]) -> str:
    """Write the demo's configuration, or add what *shows* need and take another database; new books' first owner key."""
    if not path.exists():
        return establish(path, "\n".join([demo.render_config(url), *(show.tables for show in shows)]), desk.installed())
    text = path.read_text("utf-8")
    moved = re.sub(r"(?m)^database = .*$", lambda _: demo.database_line(url), text, count=1) if url else text
    missing = [show.tables for show in shows if show.title not in text.splitlines()]
    if moved == text and not missing:
        return ""
    path.write_text("\n".join([moved, *missing]), encoding="utf-8")
    found = Desk(path, as_json=False).config()
    house.prepare(found, installed=desk.installed())
    with house.build_house(found, installed=desk.installed()) as built, built.db.begin() as conn:
        if keys.list_keys(conn, tenant=demo.TENANT):
            return ""
        return keys.create(conn, tenant=demo.TENANT, role="owner", name="first", now=house.now())[1]


def _play(desk: Desk, path: Path, limit: int | None, shows: Sequence[Show], address: str) -> None:
    with Desk(path, desk.as_json).house() as built:
        with Progress(say("a year of purchases"), limit or demo.BASKETS) as progress:
            played = demo.play(built, limit=limit, workspace=path.parent, on_progress=progress.show)
        tenant = built.config.tenants[demo.TENANT]
        shown = [(show, *show.open(built, demo.TENANT, address, limit)) for show in shows]
        built.relay()
        more = sections(built, demo.TENANT)
        with built.reading() as conn:
            found = report.read_report(conn, demo.TENANT, tenant.zone, list(tenant.units))
            proof = proofs.verify(conn)
        speed = round(played.baskets / played.seconds)
        document = {
            "baskets": played.baskets,
            "cents": played.cents,
            "eligible_cents": played.eligible_cents,
            "members": found.members,
            "points": msgspec.to_builtins(found.units["points"]),
            **({"tiers": found.tiers} if found.tiers else {}),
            **_documents(more),
            "rules": msgspec.to_builtins(found.rules),
            "best": msgspec.to_builtins(found.best),
            "refused": played.tally.refused,
            "repeated": played.tally.repeated,
            "seconds": round(played.seconds, 3),
            "events_per_second": speed,
            "cpu_microseconds_per_event": round(played.cpu_seconds / played.baskets * 1e6, 1),
            "verify": {
                "ok": proof.ok,
                "entries": proof.entries,
                "transfers": proof.transfers,
                "batches": proof.batches,
            },
            **({"shows": {show.name: told for show, told, _ in shown}} if shown else {}),
        }
        desk.answer(
            document,
            say("{baskets} baskets worth {dollars} USD, {eligible} of it earning", baskets=f"{played.baskets:,}",
                dollars=f"{played.cents / 100:,.2f}", eligible=f"{played.eligible_cents / 100:,.2f}"),
            *report.lines(found, language()),
            *_paragraphs(more),
            "",
            *verdict(proof),
            say("{speed} events a second, {micro} CPU microseconds each", speed=f"{speed:,}", micro=document["cpu_microseconds_per_event"]),
            *_paragraphs([Section(show.plugin, show.declared.summary.in_language(language()), told, lines) for show, told, lines in shown]),
        )  # fmt: skip
        if not proof.ok:
            raise ProofFailed(proof.findings[0].message, entry=proof.first_bad)
