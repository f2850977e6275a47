"""`hythe gc`: the table of its commands, and collecting garbage now."""

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
    "run": Command("garbage", "collect what nothing refers to, on all hosts", traced=True, default=True),
    "why": Command("garbage_why", "say what keeps a blob or a snapshot, or when it goes", traced=True),
}

WORDS = {"content": ("blob", "blobs"), "snapshot": ("snapshot", "snapshots"), "ingest": ("ingest", "ingests"),
         "lease": ("lease", "leases")}  # fmt: skip
"""What people call one and several of a kind."""


def run_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe gc`."""
    parser.description = (
        "Collect the content, snapshots, ingests and ended leases that nothing refers to, on all hosts of the cluster. A host"
        " that doesn't answer is passed over and caught up with later. A host that knows another metadata store, or whose store"
        " was restored, only tells what would go, until you --confirm that this store may delete there."
    )
    parser.epilog = "example:\n  hythe gc --dry-run"
    parser.add_argument("-v", "--verbose", action="store_true", help="list what went")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--dry-run", action="store_true", help="only list what would go, with sizes")
    only.add_argument(
        "--confirm", action="store_true", help="let this metadata store delete on hosts that don't trust it"
    )


def run(context: Context) -> int:
    """Collect and say what became of it."""
    args = context.args
    report = context.operate("metadata", "gc", "run", {"dry_run": args.dry_run, "confirm": args.confirm})
    if context.as_json:
        output.json_line(report)
        return exits.OK
    if args.dry_run or args.verbose:
        _items(report)
    _hosts(report)
    print(total(report))
    if report["suspended"]:
        output.warn(f"nothing was collected: {report['suspended']}")
    for host in report["hosts"]:
        if host["state"] == "untrusted" and not args.dry_run:
            output.warn(
                f"{host['owner']} on {host['host']} doesn't trust this metadata store ({host['reason']}): nothing was removed"
                " there; `hythe gc --dry-run` shows what would go, `hythe gc --confirm` lets it go"
            )
    return exits.OK


def total(report: Row) -> str:
    """Return one line that sums up a collection."""
    counts: dict[str, int] = {}
    for item in report["items"]:
        counts[item["kind"]] = counts.get(item["kind"], 0) + 1
    parts = [f"{counts[kind]} {words[counts[kind] > 1]}" for kind, words in WORDS.items() if counts.get(kind)]
    what = ", ".join(parts) if len(report["items"]) == report["removed"] else f"{report['removed']} things"
    verb = "would remove" if report["dry_run"] or report["suspended"] else "removed"
    freed = "freeing" if report["dry_run"] or report["suspended"] else "freed"
    took = f"in {report['total_ms'] / 1000:.2f} s"
    return f"{verb} {what or 'nothing'}, {freed} {output.size(report['freed_bytes'])}, {took}"


def _items(report: Row) -> None:
    if not report["items"]:
        return
    rows = [
        (
            item["kind"],
            item["namespace"],
            item["name"],
            output.size(item["size_bytes"]) if item["kind"] == "content" else "",
        )
        for item in report["items"]
    ]
    output.table(("KIND", "NAMESPACE", "NAME", "SIZE"), rows)
    more = report["removed"] - len(rows)
    print(f"and {more} more\n" if more > 0 else "")


def _hosts(report: Row) -> None:
    rows = [
        (
            host["host"],
            host["owner"],
            host["state"],
            str(host["removed"]),
            str(host["kept"]),
            output.size(host["freed_bytes"]),
            host["reason"],
        )
        for host in report["hosts"]
    ]
    output.table(("HOST", "OWNER", "STATE", "REMOVED", "KEPT", "FREED", "REASON"), rows)
