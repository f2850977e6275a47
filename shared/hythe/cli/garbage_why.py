"""`hythe gc why`: what keeps a blob or a snapshot, or when it goes."""

from __future__ import annotations

from hythe.cli import exits, output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context

    Row = dict[str, Any]

ASK_S = 20.0
SHOWN = 10


def why_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe gc why`."""
    parser.description = (
        "Say why something isn't collected: the shortest path to it from each root (image, container, lease, root label, mount),"
        " with the label or field of each step; or that nothing refers to it, and when it goes."
    )
    parser.epilog = "example:\n  hythe gc why sha256:4bf92f35"
    parser.add_argument("name", metavar="DIGEST|SNAPSHOT", help="a digest or its beginning, or the key of a snapshot")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--snapshot", dest="kind", action="store_const", const="snapshot", default="",
        help="a snapshot is meant, though its key looks like a digest")  # fmt: skip
    kinds.add_argument("--content", dest="kind", action="store_const", const="content", help="a blob is meant")
    parser.add_argument("-a", "--all", action="store_true", help=f"all paths, not only the {SHOWN} shortest")


def why(context: Context) -> int:
    """Show the paths."""
    args = context.args
    body = {"name": args.name, "kind": args.kind}
    answer = context.bus.call(context.subject("metadata", "gc", "why"), body, timeout_s=ASK_S)
    for host in answer["silent"]:
        output.warn(f"bundle on {host} doesn't answer: what keeps it there is missing")
    if context.as_json:
        output.json_line(answer)
        return exits.OK
    print(output.visible(headline(answer)))
    paths = answer["paths"]
    for path in paths if args.all else paths[:SHOWN]:
        print()
        for line in path_lines(path):
            print(output.visible(line))
    if len(paths) > SHOWN and not args.all:
        print(f"\nand {len(paths) - SHOWN} more paths (--all shows them)")
    return exits.OK


def headline(answer: Row) -> str:
    """Return what it is and whether it stays."""
    where = f" on {', '.join(answer['hosts'])}" if answer["hosts"] else ""
    size = f", {output.size(answer['size_bytes'])}" if answer["size_bytes"] else ""
    what = f"{answer['kind']} {answer['name']}{where}{size}"
    if not answer["exists"]:
        what += ": no host has it"
    if answer["paths"]:
        return f"{what}: kept" + (f"; {answer['goes']}" if answer["goes"] else "")
    return f"{what}: nothing keeps it; goes {answer['goes']}"


def path_lines(path: list[Row]) -> list[str]:
    """Return a path as lines, each step below the one that refers to it."""
    lines = []
    for depth, step in enumerate(path):
        name = f"{step['kind']} {step['name']}"
        namespace = f" (namespace {step['namespace']})" if step["namespace"] and depth == 0 else ""
        if depth == 0:
            root = f", {step['via']}" if step["via"] != step["kind"] else ""
            lines.append(f"{name}{namespace}{root}")
        else:
            lines.append(f"{'  ' * depth}└ {step['via']} → {name}")
    return lines
