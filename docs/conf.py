"""How the documentation is built: `sphinx-build -W docs docs/_build`. Chinese pages lie under `zh_CN`, file by file."""

import tomllib
from pathlib import Path

_pyproject = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())

project = "Tallystick"
author = "The Tallystick authors"
copyright = "The Tallystick authors, Apache-2.0"
release = version = _pyproject["project"]["version"]

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"Tallystick {release}"
html_copy_source = False
html_show_sphinx = False
