"""For the tests of the core, of every plugin and of the whole house alike."""

from hypothesis import HealthCheck, settings

# The same examples on every machine, however busy it is; `pytest --hypothesis-profile wander` looks elsewhere.
settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("wander", settings.get_profile("steady"), derandomize=False)
settings.load_profile("steady")

pytest_plugins = ["tests.databases", "tests.debian"]
