"""`--sync` of commands that take names away: what is left without one is collected before the command returns."""

from __future__ import annotations

from hythe.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from hythe.cli.context import Context

SWEPT = "swept"


def sync_argument(parser: ArgumentParser) -> None:
    """Add the flag `--sync`."""
    parser.add_argument("--sync", action="store_true", help="collect what is left without a name, and wait for that")


def collect(context: Context) -> int:
    """Collect now, on every host that can be reached, and return the bytes that were freed; say which keep theirs, and why.

    Raises:
        HytheError: metadata is away, or refuses.
    """
    report = context.operate("metadata", "gc", "run", {})
    if report.get("suspended"):
        output.warn(f"nothing was collected: {report['suspended']}")
    for host in report.get("hosts", ()):
        if host["state"] != SWEPT:
            why = f": {host['reason']}" if host.get("reason") else ""
            output.warn(f"{host['owner']} on {host['host']} was not collected, {host['state']}{why}")
    return int(report["freed_bytes"])
