"""`hythe pull`, `push` and `images copy`: images between registries and this host."""

from __future__ import annotations

import sys

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
