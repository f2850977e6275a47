"""``python -m hythe_metadata.maintenance``: what is done to the file of a metadata store.

`hythe metadata` runs it; a backup and a check also beside the service. The last line of its output is JSON; an error is one
line of JSON on stderr and exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hythe.errors import FailedPrecondition, HytheError
from hythe.process import DirectoryLock
from hythe_metadata.adapters.store_file import StoreFile


def backup(store: StoreFile, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write a backup."""
    return {"target": str(arguments.file), "size_bytes": store.backup(arguments.file)}


def restore(store: StoreFile, arguments: argparse.Namespace) -> dict[str, Any]:
    """Put a backup in the place of the store."""
    before = store.restore(arguments.file)
    return {"restored": str(store.path), "before": str(before) if before else ""}


def check(store: StoreFile, arguments: argparse.Namespace) -> dict[str, Any]:
    """Look whether the store is whole."""
    return {"findings": store.check()}


def upgrade(store: StoreFile, arguments: argparse.Namespace) -> dict[str, Any]:
    """Bring the store to the present version."""
    before, now = store.upgrade()
    return {"from": before, "to": now}


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep the service away from the store while the block lasts.

    Raises:
        FailedPrecondition: it is running.
    """
    try:
        lock = DirectoryLock(directory)
    except FailedPrecondition as error:
        raise FailedPrecondition(
            f"change the metadata store in {directory}: hythe-metadata is using it",
            next_step="stop it with `hythe down`",
        ) from error
    try:
        yield
    finally:
        lock.release()


def main() -> None:
    """Do one thing to the store."""
    parser = argparse.ArgumentParser(prog="python -m hythe_metadata.maintenance", description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="file of the store")
    commands = parser.add_subparsers(required=True)
    for work, with_file, alone in (
        (backup, True, False),
        (restore, True, True),
        (check, False, False),
        (upgrade, False, True),
    ):
        command = commands.add_parser(work.__name__, help=work.__doc__)
        command.set_defaults(work=work, alone=alone)
        if with_file:
            command.add_argument("file", type=Path)
    arguments = parser.parse_args()
    os.umask(0o077)
    try:
        with _alone(arguments.store.parent) if arguments.alone else contextlib.nullcontext():
            print(json.dumps(arguments.work(StoreFile(arguments.store), arguments)))
    except HytheError as error:
        problem = {"code": error.code, "message": error.message, "cause": error.cause, "next_step": error.next_step}
        problem |= {"outcome": error.outcome}
        print(json.dumps(problem), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
