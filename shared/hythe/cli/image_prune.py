"""`hythe images prune`: images that nothing needs, after a question."""

from __future__ import annotations

import time

from hythe.cli import asking, collecting, exits, output
from hythe.cli.filters_docker import read
from hythe.cli.image_words import DANGLING, familiar
from hythe.cli.moments import moment_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from hythe.cli.context import Context

PRUNE_S = 60.0
FILTERS = ("label", "until")


def prune_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images prune`."""
    parser.description = (
        "Remove the images that no name points to, with --all every image that no container uses. Asks first. Content that "
        "nothing keeps any more goes with the next collection; with --sync, before the command returns."
    )
    parser.epilog = "example:\n  hythe images prune -a --filter until=240h --dry-run"
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="every image that no container uses")
    add("-f", "--force", action="store_true", help="do not ask")
    add("--filter", action="append", default=[], metavar="KEY=VALUE", help="until=TIME, label=NAME[=VALUE]")
    collecting.sync_argument(parser)
    add("--dry-run", action="store_true", help="only show what would be removed")


def prune(context: Context) -> int:
    """Remove images."""
    body = request_body(context.args, time.time())
    args = context.args
    what = "all images that no container uses" if args.all else "all images without a name"
    if not args.dry_run and not args.force and not asking.agreed("images", what):
        return exits.OK
    answer = context.bus.call(context.subject("distribution", "image", "prune"), body, timeout_s=PRUNE_S)
    freed = {"freed_bytes": collecting.collect(context)} if args.sync and not args.dry_run else {}
    if context.as_json:
        output.json_line({**answer, **freed})
    else:
        _show({**answer, **freed}, dry_run=args.dry_run)
    return exits.OK


def request_body(args: Namespace, now_s: float) -> dict[str, Any]:
    """Return the request ``distribution.image.prune`` (`hythe.wire.images.ImagePrune`).

    Raises:
        InvalidArgument: a filter is unknown, or ``until`` is no time.
    """
    filters = read(args.filter, FILTERS)
    moments = [moment_s(text, now_s) for text in filters.get("until", [])]
    return {
        "all": args.all,
        "before": output.rfc3339(max(moments)) if moments else "",
        "labels": filters.get("label", []),
        "dry_run": args.dry_run,
    }


def _show(answer: dict[str, Any], *, dry_run: bool) -> None:
    named = [familiar(reference) for reference in answer["untagged"] if not reference.startswith(DANGLING)]
    for word, names in (("untagged", named), ("deleted", answer["deleted"])):
        for name in names:
            print(f"{f'Would be {word}' if dry_run else word.capitalize()}: {output.visible(name)}")
    if "freed_bytes" in answer:
        print(f"Total reclaimed space: {output.size(answer['freed_bytes'])}")
    else:
        when = "" if dry_run or not answer["reclaimable_bytes"] else "; it goes with the next collection"
        print(f"Total reclaimable space: {output.size(answer['reclaimable_bytes'])}{when}")
