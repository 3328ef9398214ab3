"""A stand-in for site-packages, where tests lay down plugins as their wheels would."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tallystick import config, discovery
from tallystick.document import Document
from tallystick.house import House, build_house, prepare

MANIFEST = 'id = "{id}"\napi = ">=1,<2"\nsummary = "A plugin."\n'


class Site:
    """A folder that Python takes for site-packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages: list[str] = []

    def install(
        self,
        name: str,
        *,
        code: str = "raise RuntimeError('imported')",
        manifest: str | None = MANIFEST,
        dist: str | None = None,
        source: Path | None = None,
        entry: str | None = None,
        version: str = "1.5",
    ) -> Path:
        """Lay down what a wheel of plugin *name* would; with *source* the package stays there, as in an editable install."""
        package = f"tallystick_{name}"
        self.packages.append(package)
        info = self.folder / f"{dist or package}-{version}.dist-info"
        info.mkdir()
        project = (dist or package).replace("_", "-")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[tallystick.plugins]\n{name} = {entry or package + ':plugin.toml'}\n")
        folder = (source or self.folder) / package
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(code)
        if manifest is not None:
            (folder / "plugin.toml").write_text(manifest.replace("{id}", name))
        if source is not None:
            (self.folder / f"{package}.pth").write_text(f"{source}\n")
        return folder


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    site = Site(folder)
    yield site
    for package in site.packages:
        for module in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[module]


@contextmanager
def house_of(
    folder: Path, name: str, manifest: str, modules: Mapping[str, str], settings: str,
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000,
) -> Iterator[House]:  # fmt: skip
    """An open house in *folder* with one plugin, laid down there as its wheel would; *settings* say ``{url}`` of the database."""
    package = Site(folder).install(name, code="", manifest=manifest)
    for module, code in modules.items():
        (package / f"{module}.py").write_text(code)
    sys.path.insert(0, str(folder))
    try:
        installed = {name: discovery.discover()[name]}
        text = settings.format(url=f"sqlite:///{folder / 'tally.db'}")
        checked = config.check(Document(text, "tally.toml"), installed=installed)
        prepare(checked, installed=installed)
        with build_house(checked, installed=installed, clock=clock) as house:
            yield house
    finally:
        sys.path.remove(str(folder))
        for module in [each for each in sys.modules if each.partition(".")[0] == package.name]:
            del sys.modules[module]
