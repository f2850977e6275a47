"""`hythe namespace`: the table of its commands, and what namespaces there are."""

from __future__ import annotations

from hythe.cli import asking, exits, listing, output
from hythe.cli.subcommands import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Mapping
    from typing import Any

    from hythe.cli.context import Context

    Row = dict[str, Any]

LS = Command("namespaces", "list namespaces", function="ls", traced=True, templates=True, default=True)
RM = Command("namespace_changes", "remove namespaces that are empty", function="rm", traced=True)
SUBCOMMANDS: dict[str, Command] = {
    "ls": LS,
    "list": LS,
    "create": Command("namespace_changes", "make a namespace", traced=True),
    "label": Command("namespace_changes", "set labels of a namespace", traced=True),
    "rm": RM,
    "remove": RM,
}

HEADERS = {
    "Name": "NAME",
    "Labels": "LABELS",
    "Records": "RECORDS",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "UpdatedAt": "UPDATED AT",
}
"""The fields of a row that `--format` knows, with their headers."""
COLUMNS = ("Name", "Labels", "Records")
_WORDS = {"content": "blob"}


def ls_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe namespace ls`."""
    parser.description = "List namespaces, with how many records of which kind each has."
    parser.add_argument("-f", "--filter", action="append", default=[], metavar="FILTER",
        help="containerd's: name==NAME, name~=^team-, labels.KEY==VALUE; several are or")  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="only names")


def ls(context: Context) -> int:
    """List namespaces by name."""
    filters = context.args.filter
    rows = asking.pages(lambda after: ask(context, "list", filters=filters, after=after), "namespaces")
    listing.show(context, rows, "name", _fields, HEADERS, COLUMNS)
    return exits.OK


def ask(context: Context, verb: str, **body: Any) -> Row:
    """Make one request about namespaces to metadata and return its answer."""
    return context.bus.call(context.subject("metadata", "namespace", verb), body)


def _fields(row: Row, now_s: float) -> dict[str, str]:
    return {
        "Name": row["name"],
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(row["labels"].items())),
        "Records": _counted(row["records"]),
        "CreatedSince": output.age(row["created_at"], now_s),
        "CreatedAt": row["created_at"],
        "UpdatedAt": row["updated_at"],
    }


def _counted(records: Mapping[str, int]) -> str:
    """Return how many records of which kinds there are: ``1 container, 3 images``."""
    return ", ".join(
        f"{count} {_WORDS.get(kind, kind)}{'' if count == 1 else 's'}" for kind, count in sorted(records.items())
    )
