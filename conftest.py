"""For the tests of the core, of every plugin and of the whole house alike."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# The same examples on every machine, however busy it is; `pytest --hypothesis-profile wander` looks elsewhere.
settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("wander", settings.get_profile("steady"), derandomize=False)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """Hypothesis takes constants from the modules that happen to be loaded, which are others in each worker."""
    if config.getoption("--hypothesis-profile") is None:
        nothing = providers._local_constants  # noqa: SLF001 - there is no setting for it
        providers._get_local_constants = lambda: nothing  # noqa: SLF001


pytest_plugins = ["tests.databases", "tests.debian"]
