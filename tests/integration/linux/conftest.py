"""Fixtures of the tests of mounts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.linux.layers import remove


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name; what is mounted there at the end is unmounted."""
    directory = Path(tempfile.mkdtemp(prefix="hythe-mount-"))
    try:
        yield directory
    finally:
        remove(directory)
