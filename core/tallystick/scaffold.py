"""`tally new plugin`: a plugin whose tests pass and which is certified as it comes, to be changed from there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Final

from packaging.version import Version

from .errors import InvalidRequest
from .manifest import RESERVED

#: What a plugin can be made with.
PARTS: Final = ("tables", "jobs", "routes", "page")

_ID: Final = re.compile(r"[a-z][a-z0-9_]{1,29}")
#: Template -> where its file goes.
_FILES: Final = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "package.init.py": "$package/__init__.py",
    "package.plugin.toml": "$package/plugin.toml",
    "package.example.toml": "$package/example.toml",
    "package.settings.py": "$package/settings.py",
    "package.rules.py": "$package/rules.py",
    "package.hooks.py": "$package/hooks.py",
    "test_plugin.py": "tests/test_$id.py",
}
#: What stands otherwise in hooks.py and plugin.toml where the plugin keeps tables.
_WITHOUT_TABLES: Final = {
    "abc": "Sequence",
    "typing": "",
    "nouns": "Situation",
    "rooms": "rules",
    "given": "settings: Settings",
    "kept": "        self.settings = settings",
    "hooks": '"earn"',
    "top_plate": "",
}
_WITH_TABLES: Final = {
    "abc": "Mapping, Sequence",
    "typing": "from typing import Any\n",
    "nouns": "Programme, Situation",
    "rooms": "rules, tables",
    "given": "settings: Settings, programme: Programme",
    "kept": "        self.settings = settings\n        self.programme = programme",
    "hooks": '"earn", "committed", "export_member", "erase_member"',
    "top_plate": 'tables = ["${id}_given"]\nmetadata = "$package.tables:METADATA"\nmigrations = "$package.migrations"\n',
}


def new_plugin(name: str, folder: Path, parts: Collection[str] = ()) -> list[Path]:
    """Write the project of a plugin called *name* into *folder*, which must not exist; the files written.

    Raises InvalidRequest for a name that is no id, an unknown part, and a folder that is there already.
    """
    if _ID.fullmatch(name) is None:
        raise InvalidRequest(f'found "{name}"; expected an id of small letters, digits and _, beginning with a letter')
    if name in RESERVED:
        raise InvalidRequest(f'found "{name}"; expected another name, for the house itself uses this one')
    if unknown := sorted({*parts} - {*PARTS}):
        raise InvalidRequest(f'found "{unknown[0]}"; expected some of {", ".join(PARTS)}')
    if folder.exists():
        raise InvalidRequest(f"{folder} exists already; nothing was changed")
    written = []
    for path, text in sorted(_render(name, parts)):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        written.append(file)
    return written


def _render(name: str, parts: Collection[str]) -> Iterator[tuple[str, str]]:
    core = Version(version("tallystick-core"))
    words = {
        "id": name,
        "unit": name,
        "dist": name.replace("_", "-"),
        "package": f"tallystick_{name}",
        "Class": "".join(word.capitalize() for word in name.split("_")),
        "title": name.replace("_", " ").capitalize(),
        "core": f"{core.major}.{core.minor},<{core.major}.{core.minor + 1}"
        if core.major == 0
        else f"{core.major},<{core.major + 1}",
        "page_permission": f"{name}.read" if "routes" in parts else "plugins.read",
    }
    chosen = [part for part in PARTS if part in parts]
    words |= _WITH_TABLES if "tables" in parts else _WITHOUT_TABLES
    words["top_plate"] = Template(words["top_plate"]).substitute(words)
    words["more_plate"] = "".join(_fill(f"with_{part}.plate", words) for part in chosen)
    words["more_hooks"] = _fill("with_tables.hooks", words) if "tables" in parts else ""
    words["more_tests"] = "".join(_fill(f"with_{part}.test", words) for part in chosen)
    words["stage"] = "Stage, " if {"tables", "jobs"} & {*parts} else ""
    words["http"] = ', "httpx2>=2.16"' if {"routes", "page"} & {*parts} else ""
    for template, path in _FILES.items():
        yield Template(path).substitute(words), _fill(template, words).rstrip() + "\n"
    for part in chosen:
        yield f"{words['package']}/{part}.py", _fill(f"with_{part}.file", words)
    if "tables" in parts:
        yield f"{words['package']}/migrations/__init__.py", '"""Steps from one version of the tables to the next."""\n'
        yield f"{words['package']}/migrations/v0001_tables.py", _fill("with_tables.migration", words)
    yield f"{words['package']}/py.typed", ""


def _fill(template: str, words: dict[str, str]) -> str:
    text = (resources.files("tallystick") / "templates" / "plugin" / f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(words)
