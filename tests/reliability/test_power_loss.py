"""Power goes at any moment: every acknowledged event is there, the file is whole, the books prove (I6)."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.tests.lab import Lab
from tallystick import database, proofs
from tallystick.engine import Receipt
from tallystick.errors import TallyError, Unavailable
from tests.reliability import worker
from tests.reliability.cluster import Cluster

CUTS = int(os.environ.get("TALLY_CUTS", "200"))
SERVER_CUTS = int(os.environ.get("TALLY_SERVER_CUTS", "20"))
#: One life of the file system is as long as this; a long form has many.
AT_ONCE, SERVER_AT_ONCE = 200, 20
ROOT = Path(__file__).parents[2]
#: What is tested here is tested there: a planted copy of the core comes first.
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', ROOT)}:{ROOT}:{ROOT / 'core'}"}


def refuse(why: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture
def mounts(debian_tool: Callable[[str, str], str]) -> Iterator[Callable[..., None]]:
    """Call it with a mount point and what else the file system wants to know."""
    if not Path("/dev/fuse").exists():
        refuse("/dev/fuse is missing: a container needs --device /dev/fuse --cap-add SYS_ADMIN")
    fusermount = debian_tool("fusermount3", "fuse3")
    pytest.importorskip("mfusepy", reason="mfusepy is missing: pip install mfusepy")
    mounted: list[tuple[Path, subprocess.Popen[bytes]]] = []

    def mount(place: Path, images: Path, cuts: int, seed: int, *folder: Path) -> None:
        for each in (place, images):
            each.mkdir()
        command = [sys.executable, "-m", "tests.reliability.powerloss", *map(str, (place, images, cuts, seed, *folder))]
        mounted.append((place, subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT)))
        until = time.monotonic() + 300
        while not place.is_mount():
            assert time.monotonic() < until, "the file system was not mounted"
            time.sleep(0.02)

    yield mount
    for place, process in mounted:
        subprocess.run([fusermount, "-u", "-z", str(place)], check=False)
        process.wait(60)


def work(url: str, count: int, *more: str) -> list[str]:
    return [sys.executable, "-m", "tests.reliability.worker", url, "0", str(count), *more]


def look(url: str, acks: Path) -> tuple[set[str], set[str]]:
    """(acknowledged, recorded); raises if the database is not whole."""
    acknowledged = {line for line in acks.read_text().split("\n")[:-1] if line.startswith("n")}
    lab = Lab(url, fresh=False)
    try:
        if lab.db.dialect.name == "sqlite":
            with lab.db.connect() as conn:
                assert conn.scalar(sa.text("PRAGMA integrity_check")) == "ok"
        recorded = [record.id for record in lab.records() if record.id.startswith("n")]
        assert len(recorded) == len(set(recorded))
        lab.check()
        with database.reading(lab.db) as conn:
            assert proofs.verify(conn).findings == ()
    finally:
        lab.db.dispose()
    return acknowledged, set(recorded)


# -- SQLite -----------------------------------------------------------------------------------------------------------


def images_of(tmp_path: Path, mounts: Callable[..., None], cuts: int, seed: int, *more: str) -> list[Path]:
    """What a disk could hold at so many cuts of the power while a writer was at work."""
    place, images = tmp_path / "mount", tmp_path / "images"
    mounts(place, images, cuts, seed)
    command = work(f"sqlite:///{place}/house.db", cuts * 2, "--setup", "--acks", f"{place}/acks", *more)
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, timeout=600)
    return sorted(images.glob("[0-9]*"))


@pytest.mark.parametrize("life", range(-(-CUTS // AT_ONCE)))
def test_power_loss_takes_nothing_that_was_acknowledged(life: int, tmp_path: Path, mounts: Callable[..., None]) -> None:
    cuts = min(CUTS, AT_ONCE)
    images = images_of(tmp_path, mounts, cuts, 3 + life)
    assert len(images) == cuts
    most = 0
    for image in images:
        acknowledged, recorded = look(f"sqlite:///{image}/house.db", image / "acks")
        assert acknowledged <= recorded, image.name
        most = max(most, len(acknowledged))
        shutil.rmtree(image)
    assert most > cuts // 4, "the cuts came before anything was acknowledged"


def test_the_harness_sees_what_a_lesser_setting_loses(tmp_path: Path, mounts: Callable[..., None]) -> None:
    """The popular synchronous=NORMAL loses acknowledged events; a harness that does not see it sees nothing."""
    images = images_of(tmp_path, mounts, 30, 3, "--pragma", "PRAGMA synchronous = NORMAL")
    looked = [look(f"sqlite:///{image}/house.db", image / "acks") for image in images]
    assert len([1 for acknowledged, recorded in looked if not acknowledged <= recorded]) > 10


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("life", range(-(-SERVER_CUTS // SERVER_AT_ONCE)))
def test_power_loss_of_a_server_takes_nothing_that_was_acknowledged(
    life: int,
    cluster: tuple[Cluster, Path],
    mounts: Callable[..., None],
) -> None:
    """The whole machine: PostgreSQL's files lie on a disk that forgets what was not synced."""
    made, data = cluster
    place, images = made.base / f"mount{life}", made.base / f"images{life}"
    cuts = min(SERVER_CUTS, SERVER_AT_ONCE)
    mounts(place, images, cuts, 5 + life, data)
    with made.serving(place) as url:
        command = work(url, 100_000, "--acks", f"{place}/acks")
        writer = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT)
        until = time.monotonic() + 300
        while not (images / f"{cuts - 1}").exists():
            assert writer.poll() is None and time.monotonic() < until, "the cuts never came"
            time.sleep(0.05)
        writer.kill()
        writer.wait()
    most = 0
    for image in sorted(images.glob("[0-9]*")):
        with made.serving(image, "fsync=off") as url:
            acknowledged, recorded = look(url, image / "acks")
        assert acknowledged <= recorded, image.name
        most = max(most, len(acknowledged))
        shutil.rmtree(image)
    assert most > cuts, "the cuts came before anything was acknowledged"


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_server_whose_disk_fails_refuses_and_goes_on(
    error: str,
    cluster: tuple[Cluster, Path],
    mounts: Callable[..., None],
) -> None:
    """I8, S10: a write that finds no room, a sync that fails: PostgreSQL panics and recovers.  Nothing of ours has to."""
    made, data = cluster
    place = made.base / f"failing-{error}"
    mounts(place, made.base / f"nothing-{error}", 0, 1, data)
    with made.serving(place) as url:
        lab = Lab(url, fresh=False)
        for n in range(120):
            if n % 30 == 10:
                (place / "faults").write_text(f"{error} 1")
            (outcome,) = lab.engine.record([worker.event(lab, n)])
            assert isinstance(outcome, Receipt | Unavailable), outcome
        again = lab.engine.record([worker.event(lab, n) for n in range(120)])
        assert [outcome for outcome in again if isinstance(outcome, TallyError)] == []
        assert sorted(record.id for record in lab.records() if record.id.startswith("n")) == sorted(
            f"n{n}" for n in range(120)
        )
        lab.check()
        with database.reading(lab.db) as conn:
            assert proofs.verify(conn).findings == ()
        lab.db.dispose()
    said = (made.base / f"{place.name}.log").read_text()
    assert said.count({"ENOSPC": "No space left on device", "EIO": "Input/output error"}[error]) >= 4
