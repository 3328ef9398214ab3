"""How long a plugin's author and an operator wait; wall seconds, best of three.  Odoo 18 on such a machine in brackets."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tallystick import config, discovery, house, switchboard
from tallystick.document import Document
from tallystick.scaffold import new_plugin

ROOT = Path(__file__).parent.parent


def best(work: Callable[[], object], rounds: int = 3) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def fresh_database() -> house.House:
    """A database with all first-party plugins that run without settings of their own, and the house on it."""
    folder = Path(tempfile.mkdtemp(prefix="tally-bench-"))
    installed = discovery.discover()
    tables = "".join(f"[tenants.shop.plugins.{name}]\n" for name in sorted(installed) if runs_by_itself(name))
    text = f'[house]\ndatabase = "sqlite:///{folder}/t.db"\n[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n{tables}'
    checked = config.check(Document(text), installed=installed)
    house.prepare(checked, installed=installed)
    return house.build_house(checked, installed=installed)


def runs_by_itself(name: str) -> bool:
    said = {"zone": "UTC", "currency": "USD", "plugins": {name: {}}}
    tenant, _, absent = config.check_tenant("shop", said, discovery.discover())
    return tenant is not None and not absent


def toggle(built: house.House) -> None:
    last = tuple(built.tenants()["shop"].plugins)[-1]
    switchboard.disable(built, "shop", last, actor="bench")
    switchboard.enable(built, "shop", last, actor="bench")


def main() -> None:
    print(f"discovery of {len(discovery.discover())} plugins: {best(discovery.discover) * 1000:.1f} ms (5 ms for 100)")
    print(f"a fresh database with all first-party plugins: {best(fresh_database):.2f} s (Odoo 30 s)")
    built = fresh_database()
    print(f"a plugin off or on again, without a restart: {best(lambda: toggle(built)) / 2:.3f} s (Odoo 3.46 s)")
    built.db.dispose()
    start = [sys.executable, "-c", "from tallystick.cli import cli; cli(['--version'], standalone_mode=False)"]
    print(f"the command starts: {best(lambda: subprocess.run(start, check=True, capture_output=True)):.2f} s")
    folder = Path(tempfile.mkdtemp(prefix="tally-bench-")) / "stars"
    new_plugin("stars", folder)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "guest"]
    one = best(lambda: subprocess.run(words, cwd=folder, check=True, capture_output=True))
    print(f"one plugin test as a whole command: {one:.2f} s (Odoo 4.55 s)")


if __name__ == "__main__":
    main()
