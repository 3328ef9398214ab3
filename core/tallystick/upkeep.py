"""Commands that look after the books: signed heads, receipts, backups, making anew."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs
import click
import msgspec
from msgspec.structs import replace

from .errors import InvalidRequest, ProofFailed, UnknownEntry
from .later import later
from .ledger import Head, Record, parse_entry
from .terminal import Desk, Group, command, language, option, say, tenant_of, tenant_option

if TYPE_CHECKING:
    from . import backup, database, house, keys, proofs, receipts, vault, witness, yardstick
    from . import config as configuration
    from .house import House
    from .witness import VerifierKey
else:
    backup, configuration, database, house, keys = later("backup", "config", "database", "house", "keys")
    proofs, receipts, vault, witness, yardstick = later("proofs", "receipts", "vault", "witness", "yardstick")

upkeep = Group("upkeep")

_output = option("--output", type=click.File("wb"), default="-", help="The file to write; - is standard output.")
_key = option("--key", help="The verifier key the house has published; by default that of this house.")


@command(upkeep, "head")
@option("--sign", is_flag=True, help="Sign it, to be kept where nobody who can change the books can change it.")
@option("--key", "show_key", is_flag=True, help="Print the verifier key, by which others check what this house signed.")
@_output
def show_head(desk: Desk, sign: bool, show_key: bool, output: IO[bytes]) -> None:
    """Print how far every writer has come; signed, it proves later that nothing was cut off or rewritten."""
    with desk.house() as built:
        signer = witness.Signer(built.secret)
        if show_key:
            desk.answer({"key": str(signer.key)}, str(signer.key))
            return
        with built.reading() as conn:
            heads = proofs.heads(conn)
        text = witness.write_head(signer.key.name, heads, built.clock())
    note = (signer.sign(text) if sign else text).encode()
    if desk.as_json:
        told = [{"writer": head.writer, "number": head.number, "chain": head.chain.hex()} for head in heads]
        document = {"heads": told, "signed": note.decode()} if sign else told
        note = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    output.write(note)


def expected_heads(built: House, file: Path | None, key: str | None) -> list[Head]:
    """The heads in a signed file; none without a file.  Raises ProofFailed if the signature does not fit."""
    if file is None:
        return []
    chosen = witness.read_key(key) if key else witness.Signer(built.secret).key
    return witness.read_head(chosen.open(_text(file)))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ProofFailed("this is no signed head") from None


@command(upkeep, "receipt")
@click.argument("entry")
@tenant_option
@_output
def write_receipt(desk: Desk, entry: str, tenant: str | None, output: IO[bytes]) -> None:
    """Write the receipt of an entry: a small file that proves it without the database."""
    number = parse_entry(entry)
    with desk.house() as built, built.reading() as conn:
        found = proofs.entry_proof(conn, tenant_of(built.config, tenant), number) if number is not None else None
        if found is None:
            raise UnknownEntry(f"there is no entry {entry}")
        signer = witness.Signer(built.secret)
        text = witness.write_head(signer.key.name, [found.head], found.at)
        output.write(
            witness.write_receipt(found.body, found.index, found.count, found.path, found.previous, signer.sign(text))
        )


@command(upkeep, "verify-receipt")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_key
def verify_receipt(desk: Desk, file: Path, key: str | None) -> None:
    """Check a receipt, without the database if the key is given."""
    receipt = witness.read_receipt(file.read_bytes())
    chosen = witness.read_key(key) if key else _own_key(desk)
    record, head = witness.check_receipt(receipt, chosen)
    told = receipts.explanation(record, language())
    document = {"entry": record.entry, "writer": head.writer, "batch": head.number, "signed_by": chosen.name}
    moved = [f"  {t['debit']} -> {t['credit']}: {t['amount']:,} {t['unit']}" for t in told.transfers]
    desk.answer(
        {**document, "record": msgspec.to_builtins(record)},
        say("{entry} stands in the books as {name} signed them:", entry=record.entry, name=chosen.name),
        f"  {told.receipt.type}  {told.receipt.status}  {told.receipt.time.isoformat()}  {told.receipt.member}",
        *moved,
    )


def _own_key(desk: Desk) -> VerifierKey:
    if not desk.path.exists():
        raise InvalidRequest(say("give the verifier key of the house that wrote the receipt with --key"))
    with desk.house() as built:
        return witness.Signer(built.secret).key


# --- backups ---------------------------------------------------------------------------------------------------------


@command(upkeep, "backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def back_up(desk: Desk, file: Path) -> None:
    """Copy the whole database at one instant to a file, while the house serves."""
    engine = database.connect(desk.config().house.database)
    try:
        size = backup.write(engine, file)
    finally:
        engine.dispose()
    desk.answer({"file": str(file), "bytes": size}, say("{file}: {size:byte|bytes}", file=file, size=size))


@command(upkeep, "restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def restore(desk: Desk, file: Path) -> None:
    """Fill an empty database from a backup, forget again who was forgotten since, and prove the books."""
    found = desk.config()
    engine = database.connect(found.house.database)
    try:
        if not backup.is_empty(engine):
            raise InvalidRequest(
                say("the database is not empty: a restore never replaces books; name another database")
            )
        if backup.is_served(engine, house.now()):
            raise InvalidRequest(say("a house serves these books: stop it first"))
        if engine.dialect.name == "postgresql":
            house.prepare(found, installed=desk.installed())
        backup.put_back(engine, file)
    finally:
        engine.dispose()
    if engine.dialect.name == "sqlite":
        house.prepare(found, installed=desk.installed())
    with desk.house() as built, built.reading() as conn:
        forgotten = built.forgotten
        report = proofs.verify(conn)
    document = {"entries": report.entries, "erasures_done_again": forgotten, "ok": report.ok}
    words = {"entries": report.entries, "forgotten": forgotten}
    said = say("Restored {entries:entry|entries}; {forgotten:erasure was|erasures were} done again.", **words)
    desk.answer(document, said)
    if not report.ok:
        raise ProofFailed(report.findings[0].message, entry=report.first_bad)


@command(upkeep, "rebuild")
@tenant_option
@option("--yes", is_flag=True, help="Do it without asking.")
def rebuild(desk: Desk, tenant: str | None, yes: bool) -> None:
    """Write balances, lots, counters and orders anew from the journal.  The house must not serve meanwhile."""
    with desk.house() as built:
        chosen = tenant_of(built.config, tenant)
        if not yes and not click.confirm(say("Write everything of {tenant} anew?", tenant=chosen), err=True):
            raise InvalidRequest(say("nothing was done"))
        with built.db.begin() as conn:
            _alone(conn, built)
            report = proofs.verify(conn)
            damaged = next((finding for finding in report.findings if finding.code in proofs.JOURNAL), None)
            if damaged is not None:
                raise ProofFailed(damaged.message, entry=damaged.entry)
            done = proofs.rebuild(conn, chosen)
            left = proofs.verify(conn, chosen)
            if not left.ok:
                raise ProofFailed(left.findings[0].message, entry=left.first_bad)
    document: dict[str, Any] = {"found": len(report.findings), "written": msgspec.to_builtins(done)}
    rows = ", ".join(f"{name} {count:,}" for name, count in document["written"].items())
    desk.answer(
        document, say("{found:difference|differences} before, none now.", found=len(report.findings)), f"  {rows}"
    )


def _alone(conn: Any, built: House) -> None:
    """Raises InvalidRequest while another process holds a writer's row."""
    others = proofs.writers_at_work(conn, built.clock()) - {built.engine.writer}
    if others:
        raise InvalidRequest(say("a house serves these books: stop it first"))


@command(upkeep, "repair")
@tenant_option
@option("--dry-run", is_flag=True, help="Say what would be given, and record nothing.")
def repair(desk: Desk, tenant: str | None, dry_run: bool) -> None:
    """Make good what broken plugins kept from members: judge these events again as of then and post what is missing.

    Nothing is ever taken, and run again it does what is left.
    """
    with desk.house() as built:
        done = built.repair(tenant_of(built.config, tenant), dry_run=dry_run)
    document = {
        "repaired": [
            {
                "entry": record.cause,
                "by": "" if dry_run else record.entry,
                "member": record.member,
                "plugins": (record.more or {}).get("plugins", []),
                "gained": _gained(record),
            }
            for record in done.given
        ],
        "nothing_owed": done.nothing,
        "waiting": [attrs.asdict(each) for each in done.waiting],
    }
    lines = [
        f"{each['entry']}  {each['member']}  "
        + (", ".join(f"+{amount:,} {unit}" for unit, amount in each["gained"].items()) or "-")
        + f"  ({', '.join(each['plugins'])})"
        for each in document["repaired"]  # type: ignore[attr-defined]
    ]
    lines += [f"{each.entry}  -  {each.plugin} {each.hook}: {each.error}; {each.why}" for each in done.waiting]
    words = {"given": len(done.given), "nothing": done.nothing, "waiting": len(done.waiting)}
    desk.answer(
        document,
        *lines,
        say("{given} made good, {nothing} owed nothing, {waiting} wait.", **words),
    )


def _gained(record: Record) -> dict[str, int]:
    """What an entry gave its member and others, by unit, less what it took back again at once."""
    gained: dict[str, int] = {}
    for step in record.explanation:
        if step.unit and step.amount and step.effect != "expire":
            gained[step.unit] = gained.get(step.unit, 0) + step.amount
    return gained


# --- speed -----------------------------------------------------------------------------------------------------------


@command(upkeep, "bench")
@option(
    "--database", "url", default="", help="An empty database to measure with; by default a SQLite file, thrown away."
)
@option("--events", type=click.IntRange(500, 1_000_000), default=2_000, show_default=True, help="Events per round.")
def run_bench(desk: Desk, url: str, events: int) -> None:
    """Measure this machine: a table of rates, each beside a yardstick of the same minute."""
    with tempfile.TemporaryDirectory(prefix="tally-bench-", dir=Path.cwd()) as name:
        figures, speed = _measured(Path(name), url, events, desk)
    head = [
        say(each) for each in ("work", "per second: min / median / max of 3", "commits/s", "ratio", "CPU us", "besides")
    ]
    document = [msgspec.to_builtins(figure) for figure in figures]
    desk.answer(
        {"figures": document, "python_ms": speed},
        *yardstick.table(figures, head),
        say("A million additions in Python took {speed} ms of processor time.", speed=f"{speed:.0f}"),
    )


def _measured(folder: Path, url: str, events: int, desk: Desk) -> tuple[list[yardstick.Figure], float]:
    config = folder / "tally.toml"
    text = configuration.render_default("bench", name=None, zone="UTC", currency="USD", language="en")
    config.write_text(text, encoding="utf-8")
    (folder / "tally.secret").write_text(vault.new_key().hex(), encoding="utf-8")
    environ = {**os.environ, "TALLY_CONFIG": str(config)}
    if url:
        environ["TALLY__HOUSE__DATABASE"] = url
    found = Desk(config, as_json=False).config()
    if url:
        found = replace(found, house=replace(found.house, database=url))
    house.prepare(found, installed=desk.installed())
    built = house.build_house(found, installed=desk.installed())
    gc.freeze()
    try:
        with built.db.begin() as conn:
            secret = keys.create(conn, tenant="bench", role="owner", name="bench", now=house.now())[1]
        bench = yardstick.Bench(built, "bench", events=events)
        built.engine.record(bench.arrivals(200))  # what is compiled once is not measured
        figures = [bench.in_process(100), bench.in_process(1_000), bench.bulk(), bench.verification()]
        built.relay()  # the server is not to be measured while it catches up with the rounds before it
        with yardstick.Server(config, environ) as server:
            for clients, one in ((1, False), (32, False), (128, False), (16, True)):
                figures.append(bench.over_http(clients, server.url, secret, pid=server.process.pid, one=one))
        return figures, yardstick.python_speed()
    finally:
        built.close()
