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

CUTS = int(os.environ.get("TALLY_CUTS", "200"))
ROOT = Path(__file__).parents[2]
#: What is tested here is tested there: a planted copy of the core comes first.
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', ROOT)}:{ROOT}:{ROOT / 'core'}"}


def refuse(why: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture
def power(tmp_path: Path, debian_tool: Callable[[str, str], str]) -> Iterator[Callable[..., Path]]:
    """Call it to run a writer on a file system that loses power; it returns the folder of images."""
    if not Path("/dev/fuse").exists():
        refuse("/dev/fuse is missing: a container needs --device /dev/fuse --cap-add SYS_ADMIN")
    fusermount = debian_tool("fusermount3", "fuse3")
    pytest.importorskip("mfusepy", reason="mfusepy is missing: pip install mfusepy")
    mounts: list[tuple[Path, subprocess.Popen[bytes]]] = []

    def run(cuts: int, count: int, *more: str) -> Path:
        mount, images = tmp_path / f"mount{len(mounts)}", tmp_path / f"images{len(mounts)}"
        mount.mkdir()
        images.mkdir()
        command = [sys.executable, "-m", "tests.reliability.powerloss", str(mount), str(images), str(cuts), "3"]
        mounts.append((mount, subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT)))
        until = time.monotonic() + 20
        while not mount.is_mount():
            assert time.monotonic() < until, "the file system was not mounted"
            time.sleep(0.02)
        url = f"sqlite:///{mount}/house.db"
        work = [
            sys.executable,
            "-m",
            "tests.reliability.worker",
            url,
            "0",
            str(count),
            "--setup",
            "--acks",
            f"{mount}/acks",
            *more,
        ]
        subprocess.run(work, cwd=ROOT, env=ENVIRONMENT, check=True, timeout=200)
        return images

    yield run
    for mount, process in mounts:
        subprocess.run([fusermount, "-u", "-z", str(mount)], check=False)
        process.wait(10)


def look(image: Path) -> tuple[set[str], set[str]]:
    """(acknowledged, recorded); raises if the database is not whole."""
    acknowledged = {line for line in (image / "acks").read_text().split("\n")[:-1] if line.startswith("n")}
    lab = Lab(f"sqlite:///{image}/house.db", fresh=False)
    try:
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


def test_power_loss_takes_nothing_that_was_acknowledged(power: Callable[..., Path]) -> None:
    images = power(CUTS, CUTS * 2)
    cuts = sorted(images.glob("[0-9]*"))
    assert len(cuts) == CUTS
    most = 0
    for image in cuts:
        acknowledged, recorded = look(image)
        assert acknowledged <= recorded, image.name
        most = max(most, len(acknowledged))
        shutil.rmtree(image)
    assert most > CUTS // 4, "the cuts came before anything was acknowledged"


def test_the_harness_sees_what_a_lesser_setting_loses(power: Callable[..., Path]) -> None:
    """The popular synchronous=NORMAL loses acknowledged events; a harness that does not see it sees nothing."""
    images = power(30, 60, "--pragma", "PRAGMA synchronous = NORMAL")
    lost = [image for image in images.glob("[0-9]*") if not (found := look(image))[0] <= found[1]]
    assert len(lost) > 10
