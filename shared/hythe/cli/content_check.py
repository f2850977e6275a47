"""`hythe content check`: whether blobs are whole, and fetching again those that are not."""

from __future__ import annotations

import sys

from hythe.cli import exits, output
from hythe.cli.content_words import content_of, find_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context


def check_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content check`."""
    parser.description = (
        "Read and hash every blob of the namespace, or those named. Exits with 12 if something is not whole afterwards."
    )
    parser.add_argument("--repair", action="store_true", help="fetch what is not whole again from where it came from")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    parser.add_argument("digests", nargs="*", metavar="DIGEST", help="a digest, or a unique prefix of one")


def check(context: Context) -> int:
    """Check blobs, and repair them if asked to."""
    args = context.args
    body = {"digests": [str(find_digest(context, text)) for text in args.digests], "repair": args.repair}
    on_terminal = sys.stderr.isatty() and not args.quiet

    def told(payload: dict[str, Any]) -> None:
        if on_terminal:
            done, total = output.size(payload["done_bytes"]), output.size(payload["total_bytes"])
            blobs = f"{payload['done_blobs']} of {payload['total_blobs']} blobs"
            sys.stderr.write(f"\rchecked {blobs}, {done} of {total}\x1b[K")

    result = context.follow(content_of(context).subject("content", "check"), body, told)
    if on_terminal:
        sys.stderr.write("\r\x1b[K")
    if context.as_json:
        output.json_line(result)
    else:
        for finding in result["findings"]:
            source = f" (from {finding['source']})" if finding["source"] else ""
            print(output.visible(f"{finding['digest']}: {finding['state']}{source}: {finding['cause']}"))
        print(f"{result['blobs']} blobs, {output.size(result['size_bytes'])}: {_verdict(result['findings'])}")
    unhealthy = any(finding["state"] != "repaired" for finding in result["findings"])
    return exits.UNHEALTHY if unhealthy else exits.OK


def _verdict(findings: list[dict[str, Any]]) -> str:
    if not findings:
        return "all whole"
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding["state"]] = counts.get(finding["state"], 0) + 1
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
