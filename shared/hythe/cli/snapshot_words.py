"""What the commands of `hythe snapshot` have in common: asking the host's bundle service, and mounts as people write them."""

from __future__ import annotations

from hythe.cli import asking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from hythe.cli.context import Context

PER_HOST = "Snapshots belong to the host: all namespaces see the same ones."


def ask(context: Context, verb: str, **body: Any) -> dict[str, Any]:
    """Make one short request to the host's bundle service and return its answer."""
    return context.bus.call(asking.bundle_subject(context, "snapshot", verb), body)


def operate(context: Context, verb: str, **body: Any) -> dict[str, Any]:
    """Have the host's bundle service do something that may take long, and return the result."""
    return context.follow(asking.bundle_subject(context, "snapshot", verb), body)


def pages(context: Context, filters: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield all snapshots that match, by name (`hythe.wire.snapshots.SnapshotInfo`)."""
    return asking.pages(lambda after: ask(context, "list", filters=list(filters), after=after), "snapshots")


def mount_command(mount: dict[str, Any], target: str) -> str:
    """Return the line for a shell that makes a mount at `target`."""
    from shlex import quote  # only where commands are printed

    inner = mount.get("target", "")
    kind = [] if mount["type"] == "bind" else ["-t", mount["type"]]
    options = ["-o", ",".join(mount["options"])] if mount["options"] else []
    words = ["mount", *kind, *options, mount["source"], f"{target}/{inner}" if inner else target]
    return " ".join(map(quote, words))
