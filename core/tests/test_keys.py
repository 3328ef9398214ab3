"""Keys open what they say, until they are revoked, and nobody can read them from the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from tallystick import keys, tables
from tallystick.access import PERMISSIONS, Principal, demand, may
from tallystick.database import connect
from tallystick.errors import Forbidden, InvalidKey, NotFound, Unauthorized
from tallystick.keys import GRACE, MEMORY_SECONDS, Keyring
from tallystick.manifest import ROLES

NOW = 1_795_256_100_000_000
DAY = 24 * 3600 * 1_000_000


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = connect(database_url)
    tables.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def make(engine: sa.Engine) -> Callable[..., tuple[keys.Key, str]]:
    def make(**more: object) -> tuple[keys.Key, str]:
        with engine.begin() as conn:
            return keys.create(conn, **{"tenant": "cafe", "role": "cashier", "name": "till 1", "now": NOW, **more})  # type: ignore[arg-type]

    return make


def opens(engine: sa.Engine, text: str, now: int = NOW) -> bool:
    with engine.connect() as conn:
        try:
            keys.authenticate(conn, text, now)
        except Unauthorized:
            return False
    return True


def test_a_key_says_who_it_is(engine: sa.Engine, make: Callable[..., tuple[keys.Key, str]]) -> None:
    key, text = make(scopes=["events.write", "members.read"])
    with engine.connect() as conn:
        principal = keys.authenticate(conn, text, NOW).principal
    assert principal == Principal(
        key=key.id, tenant="cafe", role="cashier", scopes=frozenset({"events.write", "members.read"})
    )
    assert principal.actor == f"key:{key.id}"


def test_the_secret_is_in_no_column(engine: sa.Engine, make: Callable[..., tuple[keys.Key, str]]) -> None:
    _, text = make()
    secret = text.split("_", 2)[2]
    with engine.connect() as conn:
        stored = conn.execute(sa.select(tables.api_key)).one()
    assert len(secret) >= 43  # 256 bits
    assert secret not in repr(tuple(stored))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: "",
        lambda _: "tk",
        lambda text: text[:-1],
        lambda text: text + "x",
        lambda text: text.replace("tk_", "tk-"),
        lambda text: text[:5] + ("0" if text[5] != "0" else "1") + text[6:],
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text + "é",
        lambda text: text + "\ud800",
        lambda _: "tk_" + "x" * 5_000,
        lambda _: "tk__",
    ],
)
def test_anything_else_opens_nothing(
    engine: sa.Engine, make: Callable[..., tuple[keys.Key, str]], spoil: Callable[[str], str]
) -> None:
    _, text = make()
    assert opens(engine, text)
    assert not opens(engine, spoil(text))


def test_a_key_expires(engine: sa.Engine, make: Callable[..., tuple[keys.Key, str]]) -> None:
    _, text = make(expires_at=NOW + DAY)
    assert opens(engine, text, NOW + DAY - 1)
    assert not opens(engine, text, NOW + DAY)


def test_a_revoked_key_opens_nothing(engine: sa.Engine, make: Callable[..., tuple[keys.Key, str]]) -> None:
    key, text = make()
    with engine.begin() as conn:
        first = keys.revoke(conn, tenant="cafe", key_id=key.id, now=NOW + 1)
        assert keys.revoke(conn, tenant="cafe", key_id=key.id, now=NOW + 2) == first
    assert not opens(engine, text, NOW + 1)


def test_rotation_leaves_two_active_and_never_three(
    engine: sa.Engine, make: Callable[..., tuple[keys.Key, str]]
) -> None:
    first, text = make(scopes=["events.write"])
    with engine.begin() as conn:
        second, second_text = keys.rotate(conn, tenant="cafe", key_id=first.id, now=NOW)
    assert (second.role, second.scopes, second.name, second.replaces) == (
        "cashier",
        ("events.write",),
        "till 1",
        first.id,
    )
    assert opens(engine, text, NOW + GRACE - 1)
    assert opens(engine, second_text, NOW + GRACE - 1)
    assert not opens(engine, text, NOW + GRACE)
    with engine.begin() as conn:
        with pytest.raises(InvalidKey):
            keys.rotate(conn, tenant="cafe", key_id=first.id, now=NOW)
        _, third_text = keys.rotate(conn, tenant="cafe", key_id=second.id, now=NOW)
    assert [opens(engine, one, NOW + 1) for one in (text, second_text, third_text)] == [False, True, True]


def test_rotation_does_not_prolong_a_life(engine: sa.Engine, make: Callable[..., tuple[keys.Key, str]]) -> None:
    first, text = make(expires_at=NOW + GRACE // 2)
    with engine.begin() as conn:
        second, _ = keys.rotate(conn, tenant="cafe", key_id=first.id, now=NOW)
    assert second.expires_at == first.expires_at
    assert not opens(engine, text, NOW + GRACE // 2)


def test_rotation_without_grace_ends_the_old_key_at_once(
    engine: sa.Engine, make: Callable[..., tuple[keys.Key, str]]
) -> None:
    first, text = make()
    with engine.begin() as conn:
        keys.rotate(conn, tenant="cafe", key_id=first.id, now=NOW, grace=0)
    assert not opens(engine, text)


def test_another_tenants_key_looks_like_a_missing_one(
    engine: sa.Engine, make: Callable[..., tuple[keys.Key, str]]
) -> None:
    key, text = make(tenant="bar")
    with engine.begin() as conn:
        for act in (keys.revoke, keys.rotate):
            with pytest.raises(NotFound) as other:
                act(conn, tenant="cafe", key_id=key.id, now=NOW)
            with pytest.raises(NotFound) as missing:
                act(conn, tenant="cafe", key_id="0" * 16, now=NOW)
            assert str(other.value) == str(missing.value)
        assert keys.list_keys(conn, tenant="cafe") == []
    assert opens(engine, text)


@pytest.mark.parametrize("wrong", [{"role": "king"}, {"role": "member"}, {"member": 7}, {"expires_at": NOW}])
def test_a_key_that_makes_no_sense_is_not_made(
    make: Callable[..., tuple[keys.Key, str]], wrong: dict[str, object]
) -> None:
    with pytest.raises(InvalidKey):
        make(**wrong)


def test_revocation_is_seen_within_seconds(engine: sa.Engine, make: Callable[..., tuple[keys.Key, str]]) -> None:
    """A keyring of another process believes what it knows for two seconds, and not longer."""
    key, text = make()
    seconds = [100.0]
    ring = Keyring(engine, clock=lambda: NOW, monotonic=lambda: seconds[0])
    assert ring.remembered(text) is None
    assert ring.authenticate(text).key == key.id
    with engine.begin() as conn:
        keys.revoke(conn, tenant="cafe", key_id=key.id, now=NOW)
    assert ring.remembered(text) is not None
    seconds[0] += MEMORY_SECONDS + 0.001
    with pytest.raises(Unauthorized):
        ring.authenticate(text)


def test_a_remembered_key_expires_in_time(engine: sa.Engine, make: Callable[..., tuple[keys.Key, str]]) -> None:
    _, text = make(expires_at=NOW + 1)
    now = [NOW]
    ring = Keyring(engine, clock=lambda: now[0], monotonic=lambda: 0.0)
    ring.authenticate(text)
    now[0] += 1
    with pytest.raises(Unauthorized):
        ring.authenticate(text)


# --- permissions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_allowed_that_is_not_written(role: str) -> None:
    principal = Principal(key="k", tenant="cafe", role=role)
    assert not may(principal, "")
    assert not may(principal, "tiers.edit")
    assert may(principal, "tiers.edit", {"tiers.edit": frozenset({role})})
    with pytest.raises(Forbidden):
        demand(principal, "tiers.edit", {"tiers.edit": frozenset()})


def test_a_plugin_cannot_widen_a_permission_of_the_core() -> None:
    principal = Principal(key="k", tenant="cafe", role="device")
    assert not may(principal, "members.merge", {"members.merge": frozenset({"device"})})


def test_scopes_narrow_and_never_widen() -> None:
    narrow = Principal(key="k", tenant="cafe", role="cashier", scopes=frozenset({"events.write", "keys.write"}))
    assert may(narrow, "events.write")
    assert not may(narrow, "members.read")
    assert not may(narrow, "keys.write")


def test_members_may_only_look() -> None:
    assert {name for name, roles in PERMISSIONS.items() if "member" in roles} == {
        "members.read",
        "profiles.read",
        "entries.read",
        "rules.ask",
    }
