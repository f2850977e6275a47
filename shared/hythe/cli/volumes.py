"""`hythe volume`: the table of its commands, and what is known of the volumes of this host."""

from __future__ import annotations

from hythe.cli import asking, exits, listing, output
from hythe.cli.each import tried
from hythe.cli.subcommands import Command
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from hythe.cli.context import Context

    Row = dict[str, Any]

LS = Command("volumes", "list volumes", function="ls", traced=True, templates=True, default=True)
RM = Command("volume_changes", "remove volumes, with all that is in them", function="rm", traced=True)
SUBCOMMANDS: dict[str, Command] = {
    "ls": LS,
    "list": LS,
    "inspect": Command("volumes", "show everything known about volumes", traced=True, templates=True),
    "create": Command("volume_changes", "make a volume", traced=True),
    "rm": RM,
    "remove": RM,
    "prune": Command("volume_changes", "remove the volumes that no container uses", traced=True),
}

HEADERS = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
}
"""The fields of a row that `--format` knows, with their headers."""
COLUMNS = ("Driver", "Name")
FILTERS = ("dangling", "driver", "label", "name")
_YES, _NO = ("true", "1", "t"), ("false", "0", "f")


def ls_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe volume ls`."""
    parser.description = "List the volumes of the namespace on this host."
    parser.add_argument("-f", "--filter", action="append", default=[], metavar="KEY=VALUE",
        help="dangling=true|false (no container uses it), driver=local, label=NAME[=VALUE], name=PART")  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="only names")


def ls(context: Context) -> int:
    """List the volumes of the namespace."""
    from hythe.cli.filters_docker import read

    rows = select(all_volumes(context), read(context.args.filter, FILTERS))
    listing.show(context, rows, "name", lambda row, _: fields(row), HEADERS, COLUMNS)
    return exits.OK


def inspect_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe volume inspect`."""
    parser.description = "Show everything known about volumes, as a JSON array in Docker's shape."
    parser.add_argument("names", nargs="+", metavar="VOLUME")


def inspect(context: Context) -> int:
    """Show all volumes that there are; then the first error is raised."""
    found: list[Row] = []
    first = tried(context.args.names, lambda name: found.append(docker_object(ask(context, "inspect", name=name))))
    if context.as_json:
        for row in found:
            output.json_line(row)
    elif context.args.format != "table":
        from hythe.cli import templates  # only when one is given

        templates.show_objects(context.args.format, found)
    else:
        print(output.json_text(found, indent=4))
    if first is not None:
        raise first
    return exits.OK


def ask(context: Context, verb: str, **body: Any) -> Row:
    """Make one request about volumes to this host's bundle service and return its answer."""
    return context.bus.call(asking.bundle_subject(context, "volume", verb), body)


def all_volumes(context: Context) -> Iterator[Row]:
    """Yield every volume of the namespace by name (`hythe.wire.volumes.VolumeInfo`)."""
    return asking.pages(lambda after: ask(context, "list", after=after), "volumes")


def select(rows: Iterator[Row], filters: Mapping[str, Sequence[str]]) -> list[Row]:
    """Return the volumes that every filter lets through: of several values of one key one is enough, but all labels count.

    Raises:
        InvalidArgument: ``dangling`` is neither true nor false.
    """
    for value in filters.get("dangling", ()):
        if value.lower() not in (*_YES, *_NO):
            raise InvalidArgument(f"read --filter 'dangling={value}': expected true or false")
    return [row for row in rows if all(_passes(row, key, values) for key, values in filters.items())]


def _passes(row: Row, key: str, values: Sequence[str]) -> bool:
    match key:
        case "dangling":
            return (not row["containers"]) in [value.lower() in _YES for value in values]
        case "driver":
            return row["driver"] in values
        case "name":
            return any(value in row["name"] for value in values)
    pairs = [value.partition("=") for value in values]
    return all(name in row["labels"] and (not equals or row["labels"][name] == text) for name, equals, text in pairs)


def fields(row: Row) -> dict[str, str]:
    """Return the fields of one volume that people see, under Docker's names."""
    return {
        "Name": row["name"],
        "Driver": row["driver"],
        "Scope": "local",
        "Mountpoint": row["mountpoint"],
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(row["labels"].items())),
        "Links": str(len(row["containers"])),
    }


def docker_object(row: Row) -> Row:
    """Return a volume in the shape of ``docker volume inspect``, with what Hythe knows beside; fields in docs/output.md."""
    from hythe.cli.templates import FreeMap

    return {
        "CreatedAt": row["created_at"],
        "Driver": row["driver"],
        "Labels": FreeMap(row["labels"]),
        "Mountpoint": row["mountpoint"],
        "Name": row["name"],
        "Options": {},
        "Scope": "local",
        "Anonymous": row["anonymous"],
        "Container": row["container"],
        "Containers": row["containers"],
        "Host": row["host"],
    }
