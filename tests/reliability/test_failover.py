"""A standby takes over from a server that is gone: with synchronous replication nothing that was acknowledged is lost (I12)."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.reliability.cluster import Cluster, administering
from tests.reliability.test_power_loss import ENVIRONMENT, ROOT, look, work

FAILOVERS = int(os.environ.get("TALLY_FAILOVERS", "1"))


@pytest.mark.parametrize("life", range(FAILOVERS))
def test_a_standby_that_takes_over_has_all_that_was_acknowledged(
    life: int,
    cluster: tuple[Cluster, Path],
) -> None:
    made, data = cluster
    mine, standby, acks = made.base / f"first{life}", made.folder(f"second{life}"), made.base / f"acks{life}"
    subprocess.run(["cp", "-a", str(data), str(mine)], check=True)
    first, url = made.start(mine)
    made.run(
        "pg_basebackup", "-d", url.replace("/house?", "/postgres?"), "-D", standby, "-R", "-c", "fast", "--no-sync"
    )
    with made.serving(standby, "hot_standby=on") as there:
        with administering(url) as server:
            server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            server.execute("SELECT pg_reload_conf()")
            until = time.monotonic() + 120
            while not server.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone():
                assert time.monotonic() < until, "the standby never followed"
                time.sleep(0.02)
        writer = subprocess.Popen(work(url, 100_000, "--acks", str(acks)), cwd=ROOT, env=ENVIRONMENT)
        while not acks.exists() or acks.read_text().count("\n") < 60 + 7 * life:
            assert writer.poll() is None and time.monotonic() < until + 120, "nothing was ever acknowledged"
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        writer.kill()
        writer.wait()
        with administering(there) as server:
            assert server.execute("SELECT pg_promote()").fetchone() == (True,)
        acknowledged, recorded = look(there, acks)
        assert acknowledged <= recorded
        assert len(acknowledged) >= 50
    shutil.rmtree(standby)
    shutil.rmtree(mine)
