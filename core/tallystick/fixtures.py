"""The pytest plugin `tallystick`: installed with the core, it gives every plugin's tests a house to play in.

A test module says how its shop is set up by ``SHOP``, the TOML of a tenant's table; without it nothing runs but the core.
The house stands on a SQLite file, or on the database of the fixture ``database_url`` where a test asks for one.
Nothing of Tallystick is imported before a fixture is used.
"""

from __future__ import annotations

import gc
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from .effects import Effect
    from .engine import Outcome
    from .house import House
    from .testing.stage import Stage


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-golden`` writes the effects that are as they shall be from now on."""
    parser.addoption("--update-golden", action="store_true", help="write golden effects anew instead of comparing them")


def pytest_configure(config: pytest.Config) -> None:
    """A plugin's project whose tests are run counts as installed for the run, so that a fresh folder needs no pip."""
    file = config.rootpath / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}) if file.is_file() else {}
    entries = project.get("entry-points", {}).get("tallystick.plugins")
    if not entries or any(metadata.distributions(name=project["name"])):
        return
    site = Path(tempfile.mkdtemp(prefix="tallystick-site-"))
    name, version = project["name"].replace("-", "_"), project["version"]
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n")
    lines = [f"{plugin} = {entry}\n" for plugin, entry in entries.items()]
    (info / "entry_points.txt").write_text("[tallystick.plugins]\n" + "".join(lines))
    added = [str(config.rootpath), str(site)]
    sys.path[:0] = added

    def tidy() -> None:
        sys.path[:] = [each for each in sys.path if each not in added]
        shutil.rmtree(site, ignore_errors=True)

    config.add_cleanup(tidy)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Call it with a tenant's TOML, and an empty database's URL if it shall not be SQLite, for a whole house."""
    collecting = gc.isenabled()
    gc.disable()  # what is imported stays: looking through it for garbage takes a tenth of the time
    try:
        from .testing.stage import make_stage
    finally:
        gc.freeze()
        gc.unfreeze()  # what was frozen is old: it is not looked through as soon as anything else is made
        if collecting:
            gc.enable()

    with ExitStack() as stack:

        def make(settings: str, url: str | None = None) -> Stage:
            return stack.enter_context(make_stage(settings, url or f"sqlite:///{tmp_path}/house.db", tmp_path))

        yield make


@pytest.fixture
def tenant(request: pytest.FixtureRequest, stage: Callable[..., Stage]) -> Stage:
    """A shop set up by the test module's ``SHOP``, at 2025-01-01 noon."""
    url = request.getfixturevalue("database_url") if "database_url" in request.fixturenames else None
    return stage(getattr(request.module, "SHOP", ""), url)


@pytest.fixture
def house(tenant: Stage) -> House:
    """The shop's house."""
    return tenant.house


@pytest.fixture
def member(tenant: Stage) -> str:
    """A member of the shop, known as m-1."""
    tenant.enrol("m-1")
    return "m-1"


class Clock:
    """What the house takes for now."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    @property
    def now(self) -> datetime:
        """The present instant."""
        return self._stage.now

    def at(self, when: datetime) -> None:
        """Go to an instant."""
        self._stage.at(when)

    def wait(self, **length: float) -> None:
        """Let some time pass: ``wait(days=30)``."""
        self._stage.at(self._stage.now + timedelta(**length))


@pytest.fixture
def clock(tenant: Stage) -> Clock:
    """The shop's clock; nothing moves it but the test."""
    return Clock(tenant)


@pytest.fixture
def story(tenant: Stage) -> Callable[[str], Any]:
    """Play a story of one line per event: ``2025-01-03  m-1 buys 123.45  earns 123 points``."""
    from .testing.stories import play

    return lambda text: play(text, stage=tenant)


@pytest.fixture
def outbox(tenant: Stage) -> Callable[[], list[tuple[str, Any]]]:
    """Call it for (channel, body) of everything that leaves the house: messages, device commands, derived events."""
    import msgspec

    def look() -> list[tuple[str, Any]]:
        rows = tenant.rows("SELECT channel, body FROM intent WHERE tenant = :t ORDER BY entry, place", t=tenant.tenant)
        return [(channel, msgspec.json.decode(bytes(body))) for channel, body in rows]

    return look


@pytest.fixture
def client(tenant: Stage) -> Iterator[TestClient]:
    """An HTTP client of the shop, with the key of an owner."""
    from starlette.testclient import TestClient

    from . import keys
    from .web import build_app

    tenant.house.open()
    with tenant.house.db.begin() as conn:
        _, secret = keys.create(conn, tenant=tenant.tenant, role="owner", name="test", now=tenant.clock[0])
    with TestClient(build_app(tenant.house), headers={"authorization": f"Bearer {secret}"}) as found:
        yield found


class Device:
    """A device at the shop that speaks its own language, which some plugin's ``decode`` understands."""

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage, self.name, self._sent = stage, name, 0

    def sends(self, frame: bytes, *, member: str = "") -> list[Outcome]:
        """Hand the house a frame: what became of each event that the first plugin that understands it makes of it."""
        about = {"id": self.name, "name": self.name, "place": ""}
        pipeline = self._stage.house.registry.latest(self._stage.tenant).pipeline
        answers = (decode(frame=frame, device=about) for _, decode in pipeline.implementations("decode"))
        documents = next((each for each in answers if each is not None), None)
        assert documents is not None, "no plugin understands this frame"
        self._sent += 1
        found = []
        for place, document in enumerate(documents):
            said = {"id": f"{self.name}/{self._sent}/{place}", "source": self.name, "member": member, **document}
            found.append(
                self._stage.try_send(
                    said["type"], said.get("data", {}), member=said["member"], id=said["id"], source=said["source"]
                )
            )
        return found

    def told(self) -> list[tuple[str, Any]]:
        """(command, facts) of everything the house wants it to do, oldest first."""
        import msgspec

        rows = self._stage.rows(
            "SELECT body FROM intent WHERE tenant = :t AND channel = 'command' ORDER BY entry, place",
            t=self._stage.tenant,
        )
        found = [msgspec.json.decode(bytes(body)) for (body,) in rows]
        return [(each["command"], each["facts"]) for each in found if each["device"] == self.name]


@pytest.fixture
def device(tenant: Stage) -> Device:
    """A device of the shop: ``device.sends(b"...")`` comes in through ``decode``, ``device.told()`` is what it shall do."""
    return Device(tenant, "device-1")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Sequence[Effect]], None]:
    """Call it with effects: they must be those of ``golden/<test>.json`` beside the test; ``--update-golden`` writes it."""
    from .testing.golden import compare

    name = request.node.name.replace("[", "-").replace("]", "").replace("/", "-")
    file = request.path.parent / "golden" / f"{name}.json"
    update = bool(request.config.getoption("--update-golden"))
    return lambda effects: compare(effects, file, update=update)
