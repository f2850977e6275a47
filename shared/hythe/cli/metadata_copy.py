"""`hythe metadata copy` and `hythe metadata unmove`: move all records between SQLite and Redis, and take that back."""

from __future__ import annotations

import os
import sys

from hythe.cli import exits, output
from hythe.cli.metadata_programs import said_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context

_MODULE = "hythe_metadata.adapters.moving"
_TARGET_VARIABLE = "HYTHE_METADATA_COPY_TO"


def copy_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe metadata copy`."""
    parser.description = (
        "Move all records to another store, which must be empty, and read them back before they count. The stack must be down."
        " The store that HYTHE_METADATA_URL names now refuses all use afterwards, so that there are never two."
    )
    parser.add_argument("--to", required=True, metavar="URL",
        help="redis://[USER:PASSWORD@]HOST[:PORT][/DB][?prefix=NAME], rediss://…, unix:///SOCKET or sqlite:///FILE")  # fmt: skip


def copy(context: Context) -> int:
    """Move the records."""
    done = _move(context, "copy", {_TARGET_VARIABLE: context.args.to})
    if context.as_json:
        output.json_line(done)
    else:
        print(f"moved {done['records']} records and {done['events']} events to {done['to']}")
        print("set HYTHE_METADATA_URL to that store, then `hythe up`", file=sys.stderr)
    return exits.OK


def unmove_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe metadata unmove`."""
    parser.description = (
        "Make the store that HYTHE_METADATA_URL names usable again after its records were moved away, as it was left then. What"
        " was changed at the other place since is not in it, and hosts that have heard of that place collect nothing until"
        " `hythe gc --confirm`."
    )


def unmove(context: Context) -> int:
    """Take a move back."""
    done = _move(context, "unmove", {})
    if context.as_json:
        output.json_line(done)
    else:
        print(done["store"])
    return exits.OK


def _move(context: Context, what: str, variables: dict[str, str]) -> dict[str, Any]:
    """Run the mover of `hythe_metadata` with these settings, and return what it says; see `said_by` for the errors."""
    return said_by(_MODULE, (what,), what, {**os.environ, **context.settings.environment("metadata"), **variables})
