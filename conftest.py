"""For the tests of the core, of every plugin and of the whole house alike."""

pytest_plugins = ["tests.databases", "tests.debian"]
