"""What a user loses when somebody puts an older copy of the metadata store in its place: nothing of the bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from scripts.lab.stack import Stack


def collect(stack: Stack) -> None:
    """Have garbage collected, as whoever ends a lease may."""
    lease = stack.hythe("lease", "create").stdout.strip()
    done = stack.hythe("lease", "rm", "--sync", lease)
    assert done.code == 0, done.stderr


def ingest(stack: Stack, data: bytes) -> str:
    """Put a blob into content under a lease of a day; return its digest."""
    command = [str(stack.program), "content", "ingest", "x"]
    done = subprocess.run(command, input=data, capture_output=True, env=stack.environment(), timeout=60, check=True)
    return done.stdout.decode().strip()


def test_older_copy_of_the_store_deletes_nothing(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """What was brought after the copy was made stays, though the copy knows nothing of it and of no collection since."""
    stack, copy = make_stack(), tmp_path / "copy.db"
    stack.up()
    collect(stack)
    stack.down()
    store = stack.root / "metadata" / "metadata.db"
    shutil.copy(store, copy)
    stack.up()
    digest = ingest(stack, b"made since the copy")
    stack.down()
    shutil.copy(copy, store)
    stack.up()
    collect(stack)
    listed = stack.hythe("content", "ls", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["digest"] for line in listed] == [digest]
