"""`hythe metadata`: the table of its commands, and what is done to the file of a metadata store."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hythe.cli import exits, output
from hythe.cli.metadata_programs import said_by
from hythe.cli.subcommands import Command
from hythe.errors import Unimplemented

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context
    from hythe.settings import Settings

SUBCOMMANDS: dict[str, Command] = {
    "backup": Command("metadata", "write all records into a file, while the stack runs or not"),
    "restore": Command("metadata", "put a backup in the place of all records; the stack must be down"),
    "check": Command("metadata", "look whether the store is whole, while the stack runs or not"),
    "upgrade": Command("metadata", "bring the store to this version; the stack must be down"),
    "copy": Command("metadata_copy", "move all records to another store; the stack must be down"),
    "unmove": Command("metadata_copy", "use a store again whose records were moved away; the stack must be down"),
    "graph": Command("metadata_graph", "show what refers to what", traced=True, formats=("dot", "json")),
}
STORE_FILE = "metadata.db"


def backup_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe metadata backup`."""
    parser.description = "Write one state of all records into a new file, without holding up the service."
    parser.add_argument("file", metavar="FILE", help="new file")


def backup(context: Context) -> int:
    """Write a backup."""
    done = maintain(context, "backup", str(Path(context.args.file).absolute()))
    if context.as_json:
        output.json_line(done)
    else:
        print(done["target"])
    return exits.OK


def restore_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe metadata restore`."""
    parser.description = (
        "Put a backup in the place of all records. The store that was there is kept beside it. Commands from before the backup"
        " are refused from then on, and nothing is collected until `hythe gc --confirm`."
    )
    parser.add_argument("file", metavar="FILE", help="what `hythe metadata backup` wrote")


def restore(context: Context) -> int:
    """Restore a backup."""
    done = maintain(context, "restore", str(Path(context.args.file).absolute()))
    if context.as_json:
        output.json_line(done)
    else:
        print(f"restored {done['restored']}")
        if done["before"]:
            print(f"the store before is kept as {done['before']}")
        print("`hythe up`, then `hythe gc` shows what would go, and `hythe gc --confirm` lets it go", file=sys.stderr)
    return exits.OK


def check_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe metadata check`."""
    parser.description = "Look whether the pages of the store are sound, and whether what is in them fits together."


def check(context: Context) -> int:
    """Check the store; the exit code is 8 if it isn't whole."""
    findings = maintain(context, "check")["findings"]
    if context.as_json:
        output.json_line({"whole": not findings, "findings": findings})
    else:
        for finding in findings:
            print(output.visible(finding))
        print(f"{len(findings)} findings" if findings else "whole")
    return exits.DATA_LOSS if findings else exits.OK


def upgrade_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe metadata upgrade`."""
    parser.description = "Bring the store to the version of this Hythe. `hythe up` does it, too; make a backup before."


def upgrade(context: Context) -> int:
    """Upgrade the store."""
    done = maintain(context, "upgrade")
    if context.as_json:
        output.json_line(done)
    elif done["from"] == done["to"]:
        print(f"version {done['to']}, as it was")
    else:
        print(f"version {done['from']} is version {done['to']} now")
    return exits.OK


def store_path(settings: Settings) -> str:
    """Return the file of the store that the settings name.

    Raises:
        Unimplemented: it is a Redis server.
    """
    url = urlsplit(settings.metadata_url)
    if not settings.metadata_url:
        return str(settings.root / "metadata" / STORE_FILE)
    if url.scheme != "sqlite":
        raise Unimplemented(
            f"find the file of the metadata store: HYTHE_METADATA_URL names a {url.scheme} server, which has none",
            next_step="back up and restore Redis by its own means, or `hythe metadata copy --to sqlite:///FILE`",
        )
    return unquote(url.path)


def maintain(context: Context, *arguments: str) -> dict[str, Any]:
    """Run `hythe_metadata.maintenance` on the store, and return what it says; see `said_by` for the errors."""
    return said_by("hythe_metadata.maintenance", ("--store", store_path(context.settings), *arguments), arguments[0])
