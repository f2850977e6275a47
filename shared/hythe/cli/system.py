"""`hythe system`: the table of its commands, and what takes how much disk."""

from __future__ import annotations

from hythe.cli import exits, output
from hythe.cli.subcommands import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context

    Row = dict[str, Any]

SUBCOMMANDS: dict[str, Command] = {
    "df": Command("system", "show how much disk images, containers, snapshots and volumes take", traced=True),
}

ASK_S = 20.0
TITLES = {"images": "Images", "containers": "Containers", "snapshots": "Snapshots", "volumes": "Volumes"}
"""Kinds of rows, in the order in which they are shown."""


def df_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe system df`."""
    parser.description = (
        "Show how much disk is taken in all namespaces on all hosts, how much of it is in use, and how much the next collection"
        " (or the removal of unused anonymous volumes) would give back."
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="also what each image takes")


def df(context: Context) -> int:
    """Show what takes how much."""
    body = {"images": context.args.verbose}
    usage = context.bus.call(context.subject("metadata", "gc", "usage"), body, timeout_s=ASK_S)
    if context.as_json:
        output.json_line(usage)
    else:
        header, rows = table_of(usage["rows"])
        output.table(header, rows)
        if context.args.verbose:
            _images(usage["images"])
    for host in usage["silent"]:
        output.warn(f"bundle on {host} doesn't answer: its containers, snapshots and volumes are missing")
    if usage["unmeasured"]:
        output.warn(f"{usage['unmeasured']} snapshots or volumes were not measured in time and count as 0 B; ask again")
    return exits.OK


def table_of(rows: list[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the lines of the table; the column of hosts is left out where there is one."""
    order = list(TITLES)
    ordered = sorted(rows, key=lambda row: (row["host"].startswith("shared:"), row["host"], order.index(row["kind"])))
    lines: list[tuple[str, ...]] = [
        (
            str(row["host"]),
            TITLES[row["kind"]],
            str(row["total"]),
            str(row["active"]),
            output.size(row["size_bytes"]),
            _part(row["reclaimable_bytes"], row["size_bytes"]),
        )
        for row in ordered
    ]
    header: tuple[str, ...] = ("HOST", "TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE")
    if len({line[0] for line in lines}) > 1:
        return header, lines
    return header[1:], [line[1:] for line in lines]


def _part(reclaimable: int, size: int) -> str:
    return f"{output.size(reclaimable)} ({100 * reclaimable // size}%)" if size else output.size(reclaimable)


def _images(images: list[Row]) -> None:
    print("\nWhat each image takes, with what it shares with others:\n")
    output.table(
        ("NAMESPACE", "IMAGE", "DIGEST", "SIZE", "UNIQUE SIZE", "CONTAINERS"),
        [
            (
                image["namespace"],
                image["reference"],
                image["digest"].removeprefix("sha256:")[:12],
                output.size(image["size_bytes"]),
                output.size(image["unique_bytes"]),
                str(image["containers"]),
            )
            for image in images
        ],
    )
