"""`hythe lease`: the table of its commands, and what leases there are."""

from __future__ import annotations

from hythe.cli import asking, exits, listing, output
from hythe.cli.subcommands import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context

    Row = dict[str, Any]

LS = Command("leases", "list leases", function="ls", traced=True, templates=True, default=True)
RM = Command("lease_changes", "end leases", function="rm", traced=True)
SUBCOMMANDS: dict[str, Command] = {
    "ls": LS,
    "list": LS,
    "create": Command("lease_changes", "make a lease", traced=True),
    "add": Command("lease_changes", "let a lease keep more", traced=True),
    "drop": Command("lease_changes", "let a lease keep something no longer", traced=True),
    "rm": RM,
    "remove": RM,
    "delete": RM,
}

HEADERS = {
    "ID": "LEASE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Ends": "ENDS",
    "Resources": "RESOURCES",
    "Labels": "LABELS",
}
"""The fields of a row that `--format` knows, with their headers."""
COLUMNS = ("ID", "CreatedSince", "Ends", "Resources", "Labels")


def ls_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe lease ls`."""
    parser.description = (
        "List the leases of the namespace: what keeps content, images and snapshots that nothing refers to yet."
    )
    parser.add_argument("-f", "--filter", action="append", default=[], metavar="FILTER",
        help="containerd's: id==ID, id~=^pull, labels.KEY==VALUE; several are or")  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="only ids")


def ls(context: Context) -> int:
    """List leases by id."""
    filters = context.args.filter
    rows = asking.pages(lambda after: ask(context, "list", filters=filters, after=after), "leases")
    listing.show(context, rows, "id", _fields, HEADERS, COLUMNS)
    return exits.OK


def ask(context: Context, verb: str, **body: Any) -> Row:
    """Make one request about leases to metadata and return its answer."""
    return context.bus.call(context.subject("metadata", "lease", verb), body)


def _fields(row: Row, now_s: float) -> dict[str, str]:
    return {
        "ID": row["id"],
        "CreatedSince": output.age(row["created_at"], now_s),
        "CreatedAt": row["created_at"],
        "Ends": _ends(row),
        "Resources": str(len(row["resources"])),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(row["labels"].items())),
    }


def _ends(row: Row) -> str:
    if row["expired"]:
        return "expired"
    return "never" if row["left_s"] is None else f"in {output.duration(row['left_s'])}"
