"""Members: who they are outside, sealed under a key of their own; joined, found, merged, exported, forgotten.

The journal knows members by a random number only.  What a person told us is encrypted under the member's key, external
ids are keyed fingerprints, and forgetting a member is destroying that key: the books stay whole.
Every function works inside the caller's transaction; if one raises, roll it back.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
import sqlalchemy as sa
from msgspec import Meta, Struct

from . import tables, vault
from .database import checkpoint
from .errors import AliasTaken, InvalidMember, MemberInactive, Unavailable, UnknownMember
from .ledger import entry_name, member_name, moment, parse_member
from .situation import Birthday

T = TypeVar("T")
#: Numbers are drawn from one to twelve nines: they say nothing about when somebody joined or how many there are.
MAX_NUMBER = 10**12
MAX_EXTERNAL_IDS = 32
_EXTERNAL_ID = re.compile(r"(?=\S)[^\x00-\x1f\x7f]{1,128}(?<=\S)")
_LOOKS_LIKE_OURS = re.compile(r"m-\d{12}", re.ASCII | re.IGNORECASE)
_CHUNK = 300  # rows per statement: SQLite of older machines takes 999 bound values

Status = Literal["active", "blocked", "merged", "erased"]
Detail = Annotated[str, Meta(max_length=256)]


#: ``$`` alone would take a newline behind the day
Birthdate = Annotated[str, Meta(pattern=r"^$|^([0-9]{4}-)?(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(?!\n)$")]
Language = Annotated[str, Meta(pattern=r"^$|^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*(?!\n)$", max_length=35)]
Tags = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...], Meta(max_length=64)]


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a person told us, stored only as one sealed text."""

    name: Detail = ""
    phone: Annotated[str, Meta(max_length=32)] = ""
    email: Annotated[str, Meta(max_length=254)] = ""
    #: ``1990-05-17``, or ``05-17`` where the year is nobody's business
    birthday: Birthdate = ""
    address: Annotated[str, Meta(max_length=1024)] = ""
    more: Annotated[Mapping[Annotated[str, Meta(max_length=64)], Detail], Meta(max_length=64)] = {}
    #: as given; to be found by one, its fingerprint is enough
    external_ids: Annotated[tuple[str, ...], Meta(max_length=MAX_EXTERNAL_IDS)] = ()

    @property
    def month_and_day(self) -> Birthday | None:
        """The birthday as rules may see it."""
        if not self.birthday:
            return None
        month, day = self.birthday.split("-")[-2:]
        return Birthday(int(month), int(day))


class Newcomer(Struct, frozen=True, kw_only=True):
    """Somebody who joins."""

    external_ids: tuple[str, ...] = ()
    profile: Profile = Profile()
    tags: Tags = ()
    language: Language = ""
    number: int | None = None  #: given only by an import of members that already have one
    joined: int | None = None  #: when, in microseconds since 1970; given only by an import of the past


class MemberRow(Struct, frozen=True, kw_only=True):
    """A member as doors see it."""

    number: int
    status: Status
    enrolled_at: int
    tags: tuple[str, ...]
    language: str
    merged_into: int = 0

    @property
    def name(self) -> str:
        """``m-`` and twelve digits."""
        return member_name(self.number)


class Erasure(Struct, frozen=True, kw_only=True):
    """That somebody was forgotten.  Holds no personal data: it is kept outside the database, to be replayed after a restore."""

    id: str
    tenant: str
    members: tuple[int, ...]  #: the member and those merged into it
    at: int


class Receipt(Struct, frozen=True, kw_only=True):
    """What the person who asked to be forgotten is given."""

    erasure: Erasure
    removed: Mapping[str, int]  #: rows per table
    plugins: Mapping[str, bool]  #: which plugins have answered that they forgot

    @property
    def complete(self) -> bool:
        """Whether every plugin has forgotten as well."""
        return all(self.plugins.values())


#: A plugin's own part of an erasure or export: the plugin's id, and what it does for one member.
Forgetting = tuple[str, Callable[[int], bool | None]]
Telling = tuple[str, Callable[[int], Mapping[str, Any] | None]]


# --- joining and being found ---------------------------------------------------------------------------------------


def enrol(
    conn: sa.Connection,
    house_secret: bytes,
    tenant: str,
    now: int,
    *,
    external_ids: Sequence[str] = (),
    profile: Profile | None = None,
    tags: Sequence[str] = (),
    language: str = "",
    number: int | None = None,
) -> int:
    """Let one person join at *now* and return the member's number.

    Raises :class:`AliasTaken` if an external id belongs to a member already, and :class:`InvalidMember` for an id that
    cannot be one: empty, too long, with spaces around it, or looking like a member number of ours.
    """
    newcomer = Newcomer(
        external_ids=tuple(external_ids),
        profile=profile or Profile(),
        tags=tuple(tags),
        language=language,
        number=number,
    )
    return enrol_many(conn, house_secret, tenant, now, [newcomer])[0]


def enrol_many(
    conn: sa.Connection,
    house_secret: bytes,
    tenant: str,
    now: int,
    newcomers: Sequence[Newcomer],
    *,
    draw: Callable[[int], int] = secrets.randbelow,
) -> list[int]:
    """Let many join; their numbers in the order given.  As :func:`enrol`, with one statement per table."""
    owners: dict[str, int] = {}
    for index, newcomer in enumerate(newcomers):
        check_newcomer(newcomer)
        for place, external_id in enumerate(newcomer.external_ids):
            print_ = vault.fingerprint(house_secret, tenant, external_id)
            if owners.setdefault(print_, index) != index:
                raise AliasTaken(pointer=f"/{index}/external_ids/{place}")
    numbers = _fresh_numbers(conn, tenant, newcomers, draw)
    members, persons = [], []
    for number, newcomer in zip(numbers, newcomers, strict=True):
        key = vault.new_key()
        members.append({
            "tenant": tenant, "number": number, "status": "active", "enrolled_at": now if newcomer.joined is None else newcomer.joined, "secret": key,
            "tags": _json(newcomer.tags), "merged_into": 0, "language": newcomer.language,
        })  # fmt: skip
        profile = msgspec.structs.replace(newcomer.profile, external_ids=tuple(dict.fromkeys(newcomer.external_ids)))
        if profile != Profile():
            persons.append({"tenant": tenant, "member": number, "body": seal_profile(key, profile)})
    if members:
        conn.execute(sa.insert(tables.member), members)
    if persons:
        conn.execute(sa.insert(tables.person), persons)
    _claim_aliases(conn, tenant, {print_: numbers[index] for print_, index in owners.items()})
    return numbers


def check_newcomer(newcomer: Newcomer) -> None:
    """Raise :class:`InvalidMember` for what nobody may be called; schemas have been checked where the data came in."""
    if len(newcomer.external_ids) > MAX_EXTERNAL_IDS:
        raise InvalidMember(f"more than {MAX_EXTERNAL_IDS} external ids", pointer="/external_ids")
    for place, external_id in enumerate(newcomer.external_ids):
        check_external_id(external_id, pointer=f"/external_ids/{place}")
    if newcomer.number is not None and not 0 < newcomer.number < MAX_NUMBER:
        raise InvalidMember("a member number has one to twelve digits and is not 0", pointer="/number")
    _check_birthday(newcomer.profile.birthday)


def _check_birthday(said: str) -> None:
    """Nobody was born on 30 February; whoever keeps the year to themselves may have been on the 29th."""
    try:
        date.fromisoformat(said if len(said) > len("05-17") else f"2000-{said or '01-01'}")
    except ValueError:
        raise InvalidMember(f"there is no day {said}", pointer="/profile/birthday") from None


def check_external_id(external_id: str, *, pointer: str = "/external_id") -> None:
    """Raise :class:`InvalidMember` if this cannot be an external id."""
    if _LOOKS_LIKE_OURS.fullmatch(external_id):
        raise InvalidMember("an external id cannot look like a member number (m- and twelve digits)", pointer=pointer)
    if not _EXTERNAL_ID.fullmatch(external_id):
        raise InvalidMember("an external id has 1 to 128 characters, none of them invisible", pointer=pointer)


def find(conn: sa.Connection, house_secret: bytes, tenant: str, references: Iterable[str]) -> dict[str, MemberRow]:
    """Look many references up at once: external ids and ``m-`` numbers.  Unknown ones are missing from the answer.

    A member that was merged answers as the member it was merged into.
    """
    numbers: dict[str, int] = {}
    prints: dict[str, str] = {}
    for reference in references:
        number = parse_member(reference)
        if number is None:
            prints[reference] = vault.fingerprint(house_secret, tenant, reference)
        else:
            numbers[reference] = number
    alias = tables.alias
    owners: dict[str, int] = {}
    for chunk in _chunks(prints.values()):
        statement = sa.select(alias.c.fingerprint, alias.c.member).where(
            alias.c.tenant == tenant, alias.c.fingerprint.in_(chunk)
        )
        owners.update((row.fingerprint, row.member) for row in conn.execute(statement))
    numbers.update((reference, owners[print_]) for reference, print_ in prints.items() if print_ in owners)
    known = _load_following(conn, tenant, numbers.values())
    return {reference: known[number] for reference, number in numbers.items() if number in known}


def load(conn: sa.Connection, house_secret: bytes, tenant: str, reference: str) -> MemberRow:
    """The member behind one reference; raises :class:`UnknownMember`."""
    found = find(conn, house_secret, tenant, [reference]).get(reference)
    if found is None:
        raise UnknownMember
    return found


def is_same(conn: sa.Connection, tenant: str, one: int, other: int) -> bool:
    """Whether two numbers are one person: the same, or merged into the same."""
    if one == other:
        return True
    known = _load_following(conn, tenant, (one, other))
    return len(known) == 2 and known[one].number == known[other].number


def load_profile(conn: sa.Connection, tenant: str, number: int) -> Profile:
    """What the person told us; an empty profile if that was nothing, or is forgotten."""
    member, person = tables.member, tables.person
    same = sa.and_(person.c.tenant == member.c.tenant, person.c.member == member.c.number)
    statement = sa.select(member.c.secret, person.c.body).join(person, same)
    statement = statement.where(member.c.tenant == tenant, member.c.number == number)
    row = conn.execute(statement).one_or_none()
    return open_profile(row.secret, row.body) if row is not None else Profile()


def seal_for(conn: sa.Connection, tenant: str, number: int, text: bytes) -> bytes:
    """*text* under the member's own key, for a plugin's table: whoever is forgotten takes it along.  Raises MemberInactive."""
    return vault.seal(_lock_key(conn, tenant, number), text)


def open_for(conn: sa.Connection, tenant: str, number: int, sealed: Iterable[bytes]) -> list[bytes]:
    """What :func:`seal_for` sealed; what no longer opens is left out."""
    row = tables.member
    key = conn.scalar(sa.select(row.c.secret).where(row.c.tenant == tenant, row.c.number == number))
    opened = [vault.open_sealed(bytes(key), bytes(body)) for body in sealed] if key is not None else []
    return [text for text in opened if text is not None]


def change_profile(conn: sa.Connection, tenant: str, number: int, **changes: Any) -> Profile:
    """Replace some fields of the profile; raises :class:`MemberInactive` if there is nobody left to have one."""
    key = _lock_key(conn, tenant, number)
    changed = msgspec.convert({**msgspec.to_builtins(load_profile(conn, tenant, number)), **changes}, type=Profile)
    _store_profile(conn, tenant, number, key, changed)
    return changed


def change_member(
    conn: sa.Connection,
    tenant: str,
    number: int,
    *,
    tags: Sequence[str] | None = None,
    language: str | None = None,
    blocked: bool | None = None,
) -> None:
    """Set what rules may know of a member; raises :class:`MemberInactive` if it was merged or erased."""
    _lock_key(conn, tenant, number)
    values: dict[str, Any] = {}
    if tags is not None:
        values["tags"] = _json(tags)
    if language is not None:
        values["language"] = language
    if blocked is not None:
        values["status"] = "blocked" if blocked else "active"
    if values:
        conn.execute(_update_member(tenant, [number]).values(**values))


def link(conn: sa.Connection, house_secret: bytes, tenant: str, number: int, external_id: str) -> bool:
    """Let the member be found by another external id; False if it was already.  Raises :class:`AliasTaken`."""
    check_external_id(external_id)
    key = _lock_key(conn, tenant, number)
    profile = load_profile(conn, tenant, number)
    print_ = vault.fingerprint(house_secret, tenant, external_id)
    if not _claim_aliases(conn, tenant, {print_: number}):
        return False
    if len(profile.external_ids) >= MAX_EXTERNAL_IDS:
        raise InvalidMember(f"more than {MAX_EXTERNAL_IDS} external ids", pointer="/external_id")
    changed = msgspec.structs.replace(profile, external_ids=(*profile.external_ids, external_id))
    _store_profile(conn, tenant, number, key, changed)
    return True


def unlink(conn: sa.Connection, house_secret: bytes, tenant: str, number: int, external_id: str) -> bool:
    """Stop finding the member by that external id; False if it was not the member's."""
    key = _lock_key(conn, tenant, number)
    alias = tables.alias
    gone = conn.execute(
        sa.delete(alias).where(
            alias.c.tenant == tenant,
            alias.c.fingerprint == vault.fingerprint(house_secret, tenant, external_id),
            alias.c.member == number,
        )
    )
    profile = load_profile(conn, tenant, number)
    left = tuple(known for known in profile.external_ids if known != external_id)
    _store_profile(conn, tenant, number, key, msgspec.structs.replace(profile, external_ids=left))
    return gone.rowcount > 0


# --- two members who are one person ---------------------------------------------------------------------------------


def merge(conn: sa.Connection, tenant: str, source: int, into: int, entry: int, now: int) -> bool:
    """The personal part of a merge that *entry* records: from now on *source* answers as *into*.

    False if that was so already: a merge that is sent again changes nothing.  The source keeps its key, external ids
    and profile, so that :func:`unmerge` can part them again; they are found, exported and erased with *into*.
    Raises :class:`MemberInactive` if either was erased, or the source merged elsewhere.
    """
    rows = _lock_members(conn, tenant, [source, into])
    if source == into or rows[source].merged_into == into:
        return False
    for number in (source, into):
        if rows[number].status in {"merged", "erased"}:
            raise MemberInactive(f"{member_name(number)} is {rows[number].status}", status=rows[number].status)
    conn.execute(_update_member(tenant, [source]).values(status="merged", merged_into=into))
    body = msgspec.json.encode({"into": into, "was": rows[source].status})
    _note_change(conn, tenant, f"merge:{entry_name(entry)}:{source}", "merge", now, source, body)
    return True


def unmerge(conn: sa.Connection, tenant: str, source: int, entry: int, now: int) -> bool:
    """The personal part of parting two members again; False if *source* is not merged."""
    rows = _lock_members(conn, tenant, [source])
    if rows[source].status != "merged":
        return False
    change = tables.member_change
    merges = sa.select(change.c.body).where(
        change.c.tenant == tenant, change.c.member == source, change.c.kind == "merge"
    )
    last = conn.scalar(merges.order_by(change.c.at.desc(), change.c.id.desc()).limit(1))
    was = msgspec.json.decode(last)["was"] if last is not None else "active"
    conn.execute(_update_member(tenant, [source]).values(status=was, merged_into=0))
    body = msgspec.json.encode({"from": rows[source].merged_into})
    _note_change(conn, tenant, f"unmerge:{entry_name(entry)}:{source}", "unmerge", now, source, body)
    return True


def merged_into(conn: sa.Connection, tenant: str, number: int) -> list[int]:
    """*number* and every member that answers as it, however many merges lie between."""
    found, fresh = [number], [number]
    member = tables.member
    while fresh:
        statement = sa.select(member.c.number).where(
            member.c.tenant == tenant, member.c.merged_into.in_(fresh), member.c.number.not_in(found)
        )
        fresh = list(conn.scalars(statement.order_by(member.c.number)))
        found += fresh
    return found


# --- what we know of somebody ---------------------------------------------------------------------------------------


def export(conn: sa.Connection, tenant: str, number: int, plugins: Iterable[Telling] = ()) -> dict[str, Any]:
    """Everything the house keeps of a member, and of those merged into it, as one document for the person.

    Facts are decrypted; of entries that belong to others only what moved the member's own points is told.
    """
    numbers = merged_into(conn, tenant, number)
    rows = _load_rows(conn, tenant, numbers)
    if number not in rows:
        raise UnknownMember
    plugins = list(plugins)
    return {
        "tenant": tenant,
        "member": member_name(number),
        "members": [_export_member(conn, tenant, rows[each], plugins) for each in numbers],
    }


def _export_member(conn: sa.Connection, tenant: str, row: MemberRow, plugins: Sequence[Telling]) -> dict[str, Any]:
    number = row.number
    secret = conn.scalar(
        sa.select(tables.member.c.secret).where(tables.member.c.tenant == tenant, tables.member.c.number == number)
    )
    return {
        "member": row.name,
        "status": row.status,
        "enrolled_at": moment(row.enrolled_at).isoformat(),
        "tags": list(row.tags),
        "language": row.language,
        "profile": msgspec.to_builtins(load_profile(conn, tenant, number)),
        "balances": _rows(conn, tables.balance, tenant, number),
        "lots": _rows(conn, tables.lot, tenant, number),
        "counters": _rows(conn, tables.counter, tenant, number),
        "own": [
            {**each, "value": msgspec.json.decode(each["value"])} for each in _rows(conn, tables.own, tenant, number)
        ],
        "messages": [{**each, "body": _readable(each["body"])} for each in _rows(conn, tables.intent, tenant, number)],
        "keys": [
            {name: value for name, value in each.items() if name != "hash"}
            for each in _rows(conn, tables.api_key, tenant, number)
        ],
        "changes": [
            {**each, "body": _readable(each["body"])} for each in _rows(conn, tables.member_change, tenant, number)
        ],
        "entries": [*_export_entries(conn, tenant, number, secret)],
        "entries_of_others": [*_export_others(conn, tenant, number)],
        "plugins": {name: told for name, tell in plugins if (told := tell(number)) is not None},
    }


def _export_entries(conn: sa.Connection, tenant: str, number: int, secret: bytes | None) -> Iterator[dict[str, Any]]:
    record = tables.record
    statement = sa.select(record).where(record.c.tenant == tenant, record.c.member == number).order_by(record.c.entry)
    for row in conn.execute(statement):
        document = msgspec.json.decode(row.body)
        facts = vault.open_facts(secret, row.entry, bytes(row.facts)) if row.facts is not None else None
        yield {**document, "facts": _readable(facts) if facts is not None else None}


def _export_others(conn: sa.Connection, tenant: str, number: int) -> Iterator[dict[str, Any]]:
    name, transfer, beside = member_name(number), tables.transfer, tables.entry_member
    statement = (
        sa.select(transfer)
        .join(beside, sa.and_(beside.c.tenant == transfer.c.tenant, beside.c.entry == transfer.c.entry))
        .where(beside.c.tenant == tenant, beside.c.member == number)
        .where(sa.or_(transfer.c.debit == name, transfer.c.credit == name))
        .order_by(transfer.c.entry, transfer.c.place)
    )
    for row in conn.execute(statement):
        other = row.credit if row.debit == name else row.debit
        yield {
            "entry": entry_name(row.entry),
            "unit": row.unit,
            "amount": row.amount if row.credit == name else -row.amount,
            "rule": row.rule,
            # whose points they were or became is that person's matter
            "with": "another member" if parse_member(other) is not None else other,
        }


# --- being forgotten ------------------------------------------------------------------------------------------------

#: What is removed whole for a member; in ``member`` only the key, tags and language go, for entries still name the number.
_PERSONAL: tuple[tuple[sa.Table, str], ...] = (
    (tables.person, "member"),
    (tables.alias, "member"),
    (tables.own, "member"),
    (tables.intent, "member"),
    (tables.api_key, "member"),
)


def erase(conn: sa.Connection, tenant: str, number: int, now: int, *, plugins: Iterable[Forgetting] = ()) -> Receipt:
    """Forget a member and those merged into it: destroy the keys, delete what is personal, note that it was done.

    Records, transfers and lots stay, and name a number that nobody can connect with a person; facts stay sealed for
    ever, and the chain verifies as before.  Each of *plugins* forgets in its own tables, in the same transaction.
    After the commit call :func:`scrub`, and keep the receipt's erasure outside the database.
    """
    numbers = merged_into(conn, tenant, number)
    rows = _lock_members(conn, tenant, numbers)
    if rows[number].merged_into:
        raise MemberInactive(f"merged into {member_name(rows[number].merged_into)}; erase that one", status="merged")
    erasure = Erasure(id=secrets.token_hex(16), tenant=tenant, members=tuple(numbers), at=now)
    return _forget(conn, erasure, plugins)


def erasures(conn: sa.Connection, since: int = 0) -> list[Erasure]:
    """All erasures from *since* on, of all tenants: to be kept where a restore does not reach."""
    change = tables.member_change
    statement = sa.select(change.c.body).where(change.c.kind == "erase", change.c.at >= since)
    return [
        msgspec.json.decode(body, type=Erasure) for body in conn.scalars(statement.order_by(change.c.at, change.c.id))
    ]


def replay_erasures(
    conn: sa.Connection, wanted: Iterable[Erasure], plugins: Callable[[str], Iterable[Forgetting]] | None = None
) -> int:
    """Forget again whom a restored backup remembers; returns how many erasures had to be done anew.

    Runs before the house serves.  *plugins* gives the plugins of a tenant.
    """
    done = 0
    change = tables.member_change
    for erasure in wanted:
        known = conn.scalar(
            sa.select(change.c.id).where(change.c.tenant == erasure.tenant, change.c.id == f"erase:{erasure.id}")
        )
        if known is None:
            _forget(conn, erasure, plugins(erasure.tenant) if plugins is not None else ())
            done += 1
    return done


def scrub(engine: sa.Engine) -> None:
    """Remove what a committed erasure leaves behind in the files and in this process.

    On SQLite deleted rows are already overwritten in the file; the write-ahead log is emptied too, and :class:`Unavailable`
    is raised if a reader holds it (call again).  PostgreSQL frees the old rows' space for reuse; archives and backups it
    made meanwhile forget when they are rotated, and hold nothing readable without the key they also held: keep both apart.
    """
    vault.forget_ciphers()
    if engine.dialect.name == "sqlite":
        if not checkpoint(engine, truncate=True):
            raise Unavailable("a reader still holds the write-ahead log; what was erased is in it until it is emptied")
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        names = ", ".join(["member", *(table.name for table, _ in _PERSONAL)])
        conn.exec_driver_sql("SET statement_timeout = 0")
        conn.exec_driver_sql(f"VACUUM {names}")
        conn.exec_driver_sql("RESET statement_timeout")


def _forget(conn: sa.Connection, erasure: Erasure, plugins: Iterable[Forgetting]) -> Receipt:
    tenant, numbers = erasure.tenant, erasure.members
    removed: dict[str, int] = {}
    entries = sa.select(tables.record.c.entry).where(
        tables.record.c.tenant == tenant, tables.record.c.member.in_(numbers)
    )
    # a skipped event's situation holds the member's profile as rules saw it
    waiting = sa.delete(tables.repair).where(tables.repair.c.tenant == tenant, tables.repair.c.entry.in_(entries))
    removed["repair"] = conn.execute(waiting).rowcount
    for table, column in _PERSONAL:
        gone = sa.delete(table).where(table.c.tenant == tenant, table.c[column].in_(numbers))
        removed[table.name] = conn.execute(gone).rowcount
    emptied = {"status": "erased", "secret": None, "tags": "[]", "language": "", "merged_into": 0}
    removed["member"] = conn.execute(_update_member(tenant, numbers).values(**emptied)).rowcount
    answers = {name: all(bool(forget(number)) for number in numbers) for name, forget in plugins}
    body = msgspec.json.encode(erasure)
    _note_change(conn, tenant, f"erase:{erasure.id}", "erase", erasure.at, numbers[0], body)
    return Receipt(erasure=erasure, removed=removed, plugins=answers)


# --- sealing --------------------------------------------------------------------------------------------------------


def seal_profile(key: bytes, profile: Profile) -> bytes:
    """The profile as it is stored; it opens only with the member's own key, so it cannot be put under another's name."""
    return vault.seal(key, msgspec.json.encode(profile))


def open_profile(key: bytes | None, body: bytes) -> Profile:
    """The profile again; an empty one if the key was destroyed."""
    text = vault.open_sealed(bytes(key), bytes(body)) if key is not None else None
    return msgspec.json.decode(text, type=Profile) if text is not None else Profile()


# --- rows -----------------------------------------------------------------------------------------------------------


def _fresh_numbers(
    conn: sa.Connection, tenant: str, newcomers: Sequence[Newcomer], draw: Callable[[int], int]
) -> list[int]:
    member = tables.member
    chosen = [newcomer.number for newcomer in newcomers]
    used: set[int] = set()
    open_places = list(range(len(newcomers)))
    for _ in range(8):
        for place in open_places:
            given = newcomers[place].number
            chosen[place] = given if given is not None else draw(MAX_NUMBER - 1) + 1
        taken: set[int] = set()
        for chunk in _chunks(cast(int, chosen[place]) for place in open_places):
            taken |= set(
                conn.scalars(sa.select(member.c.number).where(member.c.tenant == tenant, member.c.number.in_(chunk)))
            )
        again = []
        for place in open_places:
            number = cast(int, chosen[place])
            if number in taken or number in used:
                if newcomers[place].number is not None:
                    raise AliasTaken("that member number is taken", pointer=f"/{place}/number")
                again.append(place)
            else:
                used.add(number)
        if not again:
            return cast(list[int], chosen)
        open_places = again
    raise Unavailable("no free member number was found")


def _claim_aliases(conn: sa.Connection, tenant: str, owners: Mapping[str, int]) -> int:
    """Write fingerprints that are free; how many were.  Raises :class:`AliasTaken` if one is somebody else's."""
    alias = tables.alias
    # in one order for everybody, so that two who want the same ids wait for each other and not in a circle
    wanted = [{"tenant": tenant, "fingerprint": print_, "member": number} for print_, number in sorted(owners.items())]
    fresh: set[str] = set()
    for rows in _chunks(wanted):
        insert = _insert(conn, alias).values(rows).on_conflict_do_nothing().returning(alias.c.fingerprint)
        fresh |= set(conn.scalars(insert))
    for chunk in _chunks(owners.keys() - fresh):
        known = sa.select(alias.c.fingerprint, alias.c.member)
        for row in conn.execute(known.where(alias.c.tenant == tenant, alias.c.fingerprint.in_(chunk))):
            if row.member != owners[row.fingerprint]:
                raise AliasTaken
    return len(fresh)


def _insert(conn: sa.Connection, table: sa.Table) -> Any:
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgresql_insert

        return postgresql_insert(table)
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert(table)


def _store_profile(conn: sa.Connection, tenant: str, number: int, key: bytes, profile: Profile) -> None:
    body = seal_profile(key, profile)
    insert = _insert(conn, tables.person).values(tenant=tenant, member=number, body=body)
    conn.execute(insert.on_conflict_do_update(index_elements=["tenant", "member"], set_={"body": body}))


def _update_member(tenant: str, numbers: Collection[int]) -> sa.Update:
    return sa.update(tables.member).where(tables.member.c.tenant == tenant, tables.member.c.number.in_(numbers))


def _note_change(conn: sa.Connection, tenant: str, name: str, kind: str, at: int, member: int, body: bytes) -> None:
    row = {"tenant": tenant, "id": name, "kind": kind, "at": at, "member": member, "body": body}
    conn.execute(sa.insert(tables.member_change).values(**row))


def _lock_members(conn: sa.Connection, tenant: str, numbers: Collection[int]) -> dict[int, MemberRow]:
    """Lock and read; raises :class:`UnknownMember` if one is missing."""
    rows = _load_rows(conn, tenant, numbers, lock=True)
    if len(rows) < len(set(numbers)):
        raise UnknownMember
    return rows


def _lock_key(conn: sa.Connection, tenant: str, number: int) -> bytes:
    row = _lock_members(conn, tenant, [number])[number]
    secret = conn.scalar(
        sa.select(tables.member.c.secret).where(tables.member.c.tenant == tenant, tables.member.c.number == number)
    )
    if secret is None or row.status in {"merged", "erased"}:
        raise MemberInactive(f"{row.name} is {row.status}", status=row.status)
    return bytes(secret)


def _load_rows(conn: sa.Connection, tenant: str, numbers: Iterable[int], *, lock: bool = False) -> dict[int, MemberRow]:
    member = tables.member
    found: dict[int, MemberRow] = {}
    columns = [member.c[name] for name in ("number", "status", "enrolled_at", "tags", "language", "merged_into")]
    for chunk in _chunks(sorted(set(numbers))):
        statement = sa.select(*columns).where(member.c.tenant == tenant, member.c.number.in_(chunk))
        statement = statement.order_by(member.c.number)
        for row in conn.execute(
            statement.with_for_update() if lock else statement
        ):  # SQLite: the transaction is the lock
            found[row.number] = MemberRow(
                number=row.number,
                status=row.status,
                enrolled_at=row.enrolled_at,
                tags=msgspec.json.decode(row.tags, type=tuple[str, ...]),
                language=row.language,
                merged_into=row.merged_into,
            )
    return found


def _load_following(conn: sa.Connection, tenant: str, numbers: Iterable[int]) -> dict[int, MemberRow]:
    """Members by number, each as the one it answers as."""
    wanted = set(numbers)
    rows: dict[int, MemberRow] = {}
    missing = wanted
    while missing:
        fresh = _load_rows(conn, tenant, missing)
        rows |= fresh
        missing = {row.merged_into for row in fresh.values() if row.merged_into} - rows.keys()
    found = {}
    for number in wanted & rows.keys():
        row = rows[number]
        while row.merged_into:
            row = rows[row.merged_into]
        found[number] = row
    return found


def _rows(conn: sa.Connection, table: sa.Table, tenant: str, number: int) -> list[dict[str, Any]]:
    statement = sa.select(table).where(table.c.tenant == tenant, table.c.member == number)
    rows = conn.execute(statement.order_by(*table.primary_key.columns)).mappings()
    return [{name: value for name, value in row.items() if name not in {"tenant", "member"}} for row in rows]


def _readable(body: bytes | None) -> Any:
    """A stored JSON text as a document; sealed or foreign bytes as a note of their length."""
    if not body:
        return None
    try:
        return msgspec.json.decode(bytes(body))
    except msgspec.DecodeError:
        return {"bytes": len(body)}


def _json(value: Sequence[str]) -> str:
    return msgspec.json.encode(value).decode()


def _chunks(values: Iterable[T]) -> Iterator[list[T]]:
    everything = list(values)
    for start in range(0, len(everything), _CHUNK):
        yield everything[start : start + _CHUNK]
