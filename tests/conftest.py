"""Fixtures of all tests; each lives with its subject in `tests.fixtures`."""

import signal

# A suite that was started in the background ignores SIGINT, and so would every command that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.fixtures.limits",
    "tests.fixtures.redis",
    "tests.fixtures.servers",
    "tests.fixtures.stack_bus",
    "tests.fixtures.stacks",
    "tests.fixtures.disks",
    "tests.fixtures.content_service",
    "tests.fixtures.s3",
    "tests.fixtures.record_stores",
]
