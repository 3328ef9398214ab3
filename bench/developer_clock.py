"""How long a plugin's author and an operator wait.  Odoo 18 on such a machine in brackets.

Wall and CPU seconds, best of three each: on a machine that is shared only the CPU seconds say something.
``python bench/developer_clock.py`` writes the table of docs/explanation/developers-clock.md to standard output.
"""

import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

from tallystick import config, discovery, house, switchboard
from tallystick.document import Document
from tallystick.scaffold import new_plugin

ROUNDS = 3
#: Only what comes with pytest and Tallystick: other plugins of pytest that happen to be installed are not loaded.
BARE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tallystick.fixtures"]
COMPILED = Path(tempfile.mkdtemp(prefix="tally-bench-pyc-"))
PLATE = 'id = "{name}"\napi = ">=1,<2"\nsummary = "A plugin."\n'


def best(work: Callable[[], object]) -> tuple[float, float]:
    """(wall, CPU) seconds, children included, each the best of the rounds."""
    walls, cpus = [], []
    for _ in range(ROUNDS):
        wall, cpu = time.perf_counter(), spent()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(spent() - cpu)
    return min(walls), min(cpus)


def spent() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def surroundings(**more: str) -> dict[str, str]:
    """As after `pip install`: what is imported was compiled before.  The first round does it, the best one counts."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**known, "PYTHONPYCACHEPREFIX": str(COMPILED), **more}


def run(words: list[str], cwd: Path | None = None, **more: str) -> str:
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=cwd, env=surroundings(**more))
    return done.stdout


HELP = "import sys; from tallystick.__main__ import main; sys.argv[1:] = ['--help']; main()"


def fresh_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="tally-bench-"))


def shop(plugins: str) -> house.House:
    """A house on a new database with these plugins' tables of settings."""
    installed = discovery.discover()
    head = f'[house]\ndatabase = "sqlite:///{fresh_folder()}/t.db"\n[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n'
    checked = config.check(Document(head + plugins), installed=installed)
    house.prepare(checked, installed=installed)
    return house.build_house(checked, installed=installed)


def fill(plugins: str) -> None:
    built = shop(plugins)
    built.db.dispose()


def first_party() -> str:
    return "".join(f"[tenants.shop.plugins.{name}]\n" for name in sorted(discovery.discover()) if runs_by_itself(name))


def runs_by_itself(name: str) -> bool:
    said = {"zone": "UTC", "currency": "USD", "plugins": {name: {}}}
    tenant, _, absent = config.check_tenant("shop", said, discovery.discover())
    return tenant is not None and not absent


def toggle(built: house.House) -> None:
    last = tuple(built.tenants()["shop"].plugins)[-1]
    switchboard.disable(built, "shop", last, actor="bench")
    switchboard.enable(built, "shop", last, actor="bench")


def first_answer() -> tuple[float, float]:
    """From the start of `tally serve` until it has answered once."""
    folder = fresh_folder()
    tally = [sys.executable, "-m", "tallystick"]
    run([*tally, "init"], cwd=folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        server = subprocess.Popen(
            [*tally, "serve", "--port", str(port)], cwd=folder, env=surroundings(), stderr=subprocess.DEVNULL
        )
        while not answers(port):
            time.sleep(0.005)
        used = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        found.append((time.perf_counter() - begin, (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")))
        server.terminate()
        server.wait()
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=20) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def one_test(name: str) -> tuple[tuple[float, float], float]:
    """The whole command, and what pytest says that the test took."""
    folder = fresh_folder() / "stars"
    new_plugin("stars", folder)
    whole = best(lambda: run([*PYTEST, "-k", name], cwd=folder, **BARE))
    said = run([*PYTEST, "-k", name, "--durations=0", "-vv"], cwd=folder, **BARE)
    inside = sum(float(line.split("s ")[0]) for line in said.splitlines() if " setup " in line or " call " in line)
    return whole, inside


def many(count: int) -> tuple[float, float, float]:
    """Milliseconds to discover *count* more plugins, to read all their manifests, and to check a tenant that runs none of them."""
    site = fresh_folder()
    for n in range(count):
        name = f"many_{n}"
        info = site / f"tallystick_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tallystick-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[tallystick.plugins]\n{name} = tallystick_{name}:plugin.toml\n")
        (site / f"tallystick_{name}").mkdir()
        (site / f"tallystick_{name}" / "plugin.toml").write_text(PLATE.format(name=name))
    before = discovery.distributions
    # only these: what else is installed on the machine is not what is asked about
    discovery.distributions = lambda: distributions(path=[str(site)])  # type: ignore[attr-defined]
    sys.path.insert(0, str(site))
    try:
        found = best(discovery.discover)[1]
        read = best(lambda: discovery.manifests(discovery.discover()))[1]
        said = {"zone": "UTC", "currency": "USD"}
        checked = best(lambda: config.check_tenant("shop", said, discovery.discover()))[1]
    finally:
        sys.path.remove(str(site))
        discovery.distributions = before  # type: ignore[attr-defined]
    return found * 1_000, read * 1_000, checked * 1_000


def main() -> None:
    load = os.getloadavg()[0]
    print(f"Load average {load:.1f} on {os.cpu_count()} cores.\n")
    print("| | wall | CPU | asked | Odoo 18 |\n|---|---|---|---|---|")

    def row(what: str, found: tuple[float, float], asked: str, odoo: str) -> None:
        print(f"| {what} | {found[0]:.2f} s | {found[1]:.2f} s | {asked} | {odoo} |", flush=True)

    for code in ("pass", "import sqlalchemy", "import pytest"):  # the yardstick: what nobody here can make shorter
        row(f"`python -c '{code}'`", best(lambda code=code: run([sys.executable, "-c", code])), "", "")  # type: ignore[misc]
    row("`tally --help`", best(lambda: run([sys.executable, "-c", HELP])), "", "")
    row("first answer after start", first_answer(), "0.5 s", "2.0-2.3 s")
    plugins = first_party()
    built = shop(plugins)
    wall, cpu = best(lambda: toggle(built))
    built.db.dispose()
    row("a plugin on, without a restart", (wall / 2, cpu / 2), "0.3 s", "3.46 s")
    whole, inside = one_test("guest")
    row("one pure plugin test, whole command", whole, "1.0 s", "4.55 s")
    row("the same inside pytest", (inside, inside), "0.3 s", "")
    whole, inside = one_test("return")
    row("one story in a real house, whole command", whole, "1.0 s", "4.55 s")
    row("the same inside pytest", (inside, inside), "0.3 s", "")
    row(
        f"a fresh database with {plugins.count('[')} first-party plugins",
        best(lambda: fill(plugins)),
        "3 s",
        "30 s",
    )
    print("\n| installed | found | manifests read | a tenant that runs none of them, checked |\n|---|---|---|---|")
    for count in (0, 10, 50, 100):
        found, read, checked = many(count)
        print(f"| {count} | {found:.1f} ms | {read:.1f} ms | {checked:.1f} ms |", flush=True)


if __name__ == "__main__":
    main()
