"""Programs that some tests need from Debian: where one is missing a test is skipped, but never in CI."""

import os
import shutil
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def debian_tool() -> Callable[[str, str], str]:
    """Call with a program and its package: returns the program's path, or skips the test (in CI: fails it)."""

    def find(program: str, package: str) -> str:
        path = shutil.which(program)
        if path is None:
            missing = f"{program} is missing: apt-get install {package}"
            if os.environ.get("CI"):
                pytest.fail(missing)
            pytest.skip(missing)
        return path

    return find
