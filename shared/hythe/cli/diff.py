"""`hythe diff`: what a container has changed of its image."""

from __future__ import annotations

import sys

from hythe.cli import exits, output
from hythe.errors import DataLoss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context


def diff_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe diff`."""
    parser.description = (
        "Show what a container has changed of its image's files, one a line: A added, C changed, D deleted. "
        "A directory in which something changed is changed, too. A running container is looked at as it is."
    )
    parser.add_argument("container", metavar="CONTAINER")


def diff(context: Context) -> int:
    """Print the changes as they come."""
    print_changes(context, context.subject("runtime", "container", "changes"), {"key": context.args.container})
    return exits.OK


def print_changes(context: Context, subject: str, body: dict[str, Any]) -> None:
    """Print what an operation tells of changes.

    Raises:
        DataLoss: some of it was lost on the way.
        HytheError: what the service says.
    """
    told = 0
    for state, payload in context.bus.operate(subject, body):
        if state != "done":
            if payload["first"] != told:
                raise _lost()
            told += len(payload["changes"])
            for change in payload["changes"]:
                if context.as_json:
                    output.json_line({"kind": change["kind"], "path": change["path"]})
                else:
                    sys.stdout.write(f"{change['kind']} {output.visible(change['path'])}\n")
        elif payload["count"] != told:
            raise _lost()


def _lost() -> DataLoss:
    return DataLoss("list changes: some of them were lost, for the connection to the bus broke", next_step="try again")
