"""``python -m hythe_metadata.adapters.moving``: moves the metadata store to another place, or takes a move back.

`hythe metadata copy` and `hythe metadata unmove` run it, with the settings in its environment. The last line of its output is
JSON; an error is one line of JSON on stderr and exit code 1.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hythe import settings
from hythe.errors import HytheError, InvalidArgument
from hythe_metadata.adapters.problem_line import as_line
from hythe_metadata.adapters.sqlite_dump import SqliteDump
from hythe_metadata.adapters.store_file import STORE_FILE
from hythe_metadata.adapters.store_url import Place, SqlitePlace, read_url
from hythe_metadata.copying import copy

if TYPE_CHECKING:
    from hythe_metadata.adapters.redis_dump import RedisDump

TARGET_VARIABLE = "HYTHE_METADATA_COPY_TO"
"""The URL to move to comes in the environment, for it may have a password, which all can read on a command line."""


def move(source_url: str, target_url: str, default: Path, *, allow_relaxed: bool = False) -> dict[str, Any]:
    """Move the store at `source_url` to `target_url`; return what was moved, as JSON has it.

    Args:
        default: file that is meant where a URL is empty.

    Raises:
        InvalidArgument: a URL is none, or both name one place.
        HytheError: as `hythe_metadata.copying.copy` says; nothing was moved.
    """
    source_place, target_place = read_url(source_url, default), read_url(target_url, default)
    if not target_url or str(source_place) == str(target_place):
        raise InvalidArgument("copy metadata store: it needs another place to go to", next_step="give --to URL")
    source = _opened(source_place, allow_relaxed=allow_relaxed)
    try:
        target = _opened(target_place, allow_relaxed=allow_relaxed)
        try:
            copied = copy(source, target, str(target_place))
        finally:
            target.close()
    finally:
        source.close()
    return {
        "from": str(source_place),
        "to": str(target_place),
        "store_id": copied.head.store_id,
        "era": copied.head.era,
        "revision": copied.head.revision,
        "records": copied.records,
        "events": copied.events,
    }


def unmove(url: str, default: Path, *, allow_relaxed: bool = False) -> dict[str, Any]:
    """Make a store usable again that was moved, as it was left; return which, as JSON has it.

    Raises:
        HytheError: as `move`.
    """
    place = read_url(url, default)
    store = _opened(place, allow_relaxed=allow_relaxed)
    try:
        store.release()
    finally:
        store.close()
    return {"store": str(place)}


def _opened(place: Place, *, allow_relaxed: bool) -> SqliteDump | RedisDump:
    if isinstance(place, SqlitePlace):
        return SqliteDump(place.path)
    from hythe_metadata.adapters.redis_dump import RedisDump  # redis takes time and memory that SQLite has no use for

    return RedisDump(place, allow_relaxed=allow_relaxed)


def main() -> None:
    """Do what the first argument says: ``copy`` or ``unmove``."""
    os.umask(0o077)
    try:
        loaded = settings.load()
        default, relaxed = loaded.root / "metadata" / STORE_FILE, loaded.metadata_allow_relaxed
        match sys.argv[1:]:
            case ["copy"]:
                target = os.environ.get(TARGET_VARIABLE, "")
                done = move(loaded.metadata_url, target, default, allow_relaxed=relaxed)
            case ["unmove"]:
                done = unmove(loaded.metadata_url, default, allow_relaxed=relaxed)
            case _:
                raise InvalidArgument("move metadata store: say copy or unmove")
        print(json.dumps(done))
    except HytheError as error:
        print(as_line(error), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
