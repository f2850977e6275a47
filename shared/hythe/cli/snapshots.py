"""`hythe snapshot`: the table of its commands, and those that look at the snapshots of this host."""

from __future__ import annotations

from hythe.cli import exits, listing, output
from hythe.cli.snapshot_words import PER_HOST, ask, mount_command, operate, pages
from hythe.cli.subcommands import Command
from hythe.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator
    from typing import Any

    from hythe.cli.context import Context

LS = Command("snapshots", "list snapshots", function="ls", traced=True, templates=True, default=True)
RM = Command("snapshot_changes", "remove snapshots", function="rm", traced=True)
SUBCOMMANDS: dict[str, Command] = {
    "ls": LS,
    "list": LS,
    "tree": Command("snapshots", "show what lies on what", traced=True),
    "info": Command("snapshots", "show what is recorded of snapshots", traced=True),
    "usage": Command("snapshots", "show how much room snapshots take", traced=True),
    "mounts": Command("snapshots", "print the commands that mount a snapshot", traced=True),
    "diff": Command(
        "snapshot_diff", "show or write what a snapshot changes of its parent", traced=True, output_file=True
    ),
    "mount": Command("snapshot_mount", "mount what a snapshot shows at a directory", traced=True),
    "unmount": Command("snapshot_mount", "unmount what `mount` mounted", traced=True),
    "prepare": Command("snapshot_changes", "make a snapshot that can be written to", traced=True),
    "view": Command("snapshot_changes", "make a snapshot to read only", traced=True),
    "commit": Command("snapshot_changes", "make a layer of a snapshot that was written to", traced=True),
    "label": Command("snapshot_changes", "set labels of a snapshot", traced=True),
    "rm": RM,
    "remove": RM,
    "delete": RM,
    "cleanup": Command("snapshot_changes", "remove directories that no record speaks of", traced=True),
}

HEADERS = {
    "Name": "KEY",
    "Parent": "PARENT",
    "Kind": "KIND",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "UpdatedAt": "UPDATED AT",
    "Labels": "LABELS",
}
"""The fields of a row that `--format` knows, with their headers."""
COLUMNS = ("Name", "Parent", "Kind", "CreatedSince")
PAGE_BYTES = 4096


def ls_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot ls`."""
    parser.description = (
        f"List snapshots. A FILTER is containerd's: kind==active, parent==NAME, name~=^sha256:, labels.KEY==VALUE; "
        f"several are or. {PER_HOST}"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="only keys")
    parser.add_argument("filters", nargs="*", metavar="FILTER")


def ls(context: Context) -> int:
    """List the snapshots of the host."""
    listing.show(context, pages(context, context.args.filters), "name", _fields, HEADERS, COLUMNS)
    return exits.OK


def _fields(row: dict[str, Any], now_s: float) -> dict[str, str]:
    return {
        "Name": row["name"],
        "Parent": row["parent"],
        "Kind": row["kind"],
        "CreatedSince": output.age(row["created_at"], now_s),
        "CreatedAt": row["created_at"],
        "UpdatedAt": row["updated_at"],
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(row["labels"].items())),
    }


def tree_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot tree`."""
    parser.description = f"Show snapshots, each below the one that it lies on. {PER_HOST}"


def tree(context: Context) -> int:
    """Show what lies on what."""
    every = list(pages(context))
    known = {snapshot["name"] for snapshot in every}
    above: dict[str, list[dict[str, Any]]] = {}
    for snapshot in every:
        parent = snapshot["parent"]
        above.setdefault(parent if parent in known else "", []).append(snapshot)  # it may have come between two pages
    for level, snapshot in _walk(above):
        if context.as_json:
            output.json_line(snapshot)
        else:
            print(output.visible("  " * level + ("\\_ " if level else "") + snapshot["name"]))
    return exits.OK


def _walk(above: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each snapshot after the one that it lies on, with how many lie below; chains of layers are longer than stacks."""
    waiting = [(0, snapshot) for snapshot in reversed(above.get("", []))]
    while waiting:
        level, snapshot = waiting.pop()
        yield level, snapshot
        waiting += [(level + 1, child) for child in reversed(above.get(snapshot["name"], []))]


def info_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot info`."""
    parser.description = f"Show what is recorded of snapshots, as JSON. {PER_HOST}"
    parser.add_argument("names", nargs="+", metavar="KEY")


def info(context: Context) -> int:
    """Show what is recorded of snapshots, as JSON."""
    for name in context.args.names:
        print(output.json_text(ask(context, "info", name=name), indent=None if context.as_json else 2))
    return exits.OK


def usage_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot usage`."""
    parser.description = (
        "Show how much room snapshots take, each by itself: on overlayfs without what lies below it, as a native copy with it. "
        f"{PER_HOST}"
    )
    parser.add_argument("-b", "--bytes", action="store_true", help="sizes in bytes")
    parser.add_argument("names", nargs="*", metavar="KEY", help="all by default")


def usage(context: Context) -> int:
    """Show what snapshots take."""
    args = context.args
    rows = list(_usages(context))
    if context.as_json:
        for row in rows:
            output.json_line(row)
        return exits.OK
    total = {"name": "total", **{key: sum(row[key] for row in rows) for key in ("size_bytes", "inodes")}}
    output.table(
        ("KEY", "SIZE", "INODES"),
        [
            (
                row["name"],
                str(row["size_bytes"]) if args.bytes else output.size(row["size_bytes"]),
                str(row["inodes"]),
            )
            for row in [*rows, total]
        ],
    )
    return exits.OK


def _usages(context: Context) -> Iterator[dict[str, Any]]:
    named = context.args.names
    for name in named or [snapshot["name"] for snapshot in pages(context)]:
        try:
            found = operate(context, "usage", name=name)
        except NotFound:
            if named:
                raise
            continue  # gone meanwhile
        yield {"name": name, "size_bytes": found["size_bytes"], "inodes": found["inodes"]}


def mounts_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot mounts`."""
    parser.description = (
        f"Print the commands that mount an active snapshot or a view at TARGET, for a shell of this host. {PER_HOST}"
    )
    parser.epilog = "example:\n  hythe snapshot mounts /mnt mine | sudo sh"
    parser.add_argument("target", metavar="TARGET", help="where it shall be mounted")
    parser.add_argument("name", metavar="KEY")


def mounts(context: Context) -> int:
    """Print how a snapshot is mounted."""
    show_mounts(context, ask(context, "mounts", name=context.args.name)["mounts"], context.args.target)
    return exits.OK


def show_mounts(context: Context, found: list[dict[str, Any]], target: str) -> None:
    """Print mounts as commands, or as JSON."""
    for mount in found:
        if context.as_json:
            output.json_line(mount)
            continue
        print(output.visible(mount_command(mount, target)))
        if len(",".join(mount["options"])) >= PAGE_BYTES:
            output.warn("these are more layers than mount(8) can name; `hythe snapshot mount` can")
