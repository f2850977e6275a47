"""Fixtures of all tests; each lives with its subject in `tests.fixtures`."""

pytest_plugins = [
    "tests.fixtures.limits",
    "tests.fixtures.servers",
    "tests.fixtures.stacks",
    "tests.fixtures.disks",
]
