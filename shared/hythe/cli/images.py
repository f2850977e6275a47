"""`hythe pull` and `hythe images`."""

from __future__ import annotations

import sys
import time

from hythe.cli import exits, output
from hythe.cli.progress import make_progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context


def pull_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe pull`."""
    parser.description = "Fetch an image and unpack it on this host. Prints REFERENCE@DIGEST; progress goes to stderr."
    parser.add_argument("--platform", default="", metavar="OS/ARCH", help="instead of the host's own")
    parser.add_argument("--plain-http", action="store_true", help="speak HTTP without TLS to the registry")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    parser.add_argument("reference", metavar="IMAGE")


def pull(context: Context) -> int:
    """Pull an image."""
    args = context.args
    body = {
        "reference": args.reference,
        "platform": args.platform,
        "host": context.settings.host,
        "plain_http": args.plain_http,
    }
    progress = make_progress(sys.stderr, quiet=args.quiet)
    result: dict[str, Any] = {}
    for state, payload in context.bus.operate(context.subject("runtime", "image", "pull"), body):
        if state == "done":
            result = payload
        elif payload.get("layer"):
            layer = payload["layer"]
            progress.layer(layer["digest"], layer["state"], layer["done_bytes"], layer["total_bytes"])
    progress.end()
    image = result["image"]
    if context.as_json:
        output.json_line({**image, "fetched_bytes": result["fetched_bytes"]})
    else:
        print(f"{image['reference']}@{image['target']['digest']}")
    return exits.OK


def images_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images`."""
    parser.add_argument("--no-trunc", action="store_true", help="show whole digests")
    parser.add_argument("-q", "--quiet", action="store_true", help="only references")


def images(context: Context) -> int:
    """List the images of the namespace."""
    args = context.args
    rows: list[dict[str, Any]] = []
    after = ""
    while True:
        page = context.bus.call(context.subject("distribution", "image", "list"), {"after": after})
        rows += page["images"]
        after = page.get("next", "")
        if not after:
            break
    if args.quiet:
        for row in rows:
            print(row["reference"])
    elif context.as_json:
        for row in rows:
            output.json_line(row)
    else:
        now = time.time()
        output.table(
            ("REFERENCE", "DIGEST", "PLATFORM", "CREATED", "SIZE"),
            [_cells(row, now, whole=args.no_trunc) for row in rows],
        )
    return exits.OK


def _cells(row: dict[str, Any], now: float, *, whole: bool) -> tuple[str, ...]:
    digest = row["digest"] if whole else row["digest"].removeprefix("sha256:")[:12]
    known = "?" if row["size_bytes"] is None else output.size(row["size_bytes"])
    total = known + ("" if row["complete"] else " (incomplete)")
    return row["reference"], digest, row["platform"], output.since(row["created_at"], now), total
