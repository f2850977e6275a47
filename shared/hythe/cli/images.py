"""`hythe images`: the table of its commands, and the list of images."""

from __future__ import annotations

import time

from hythe.cli import exits, output
from hythe.cli.subcommands import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context


LS = Command("images", "list images", traced=True, templates=True, default=True, words=True)
RM = Command("image_names", "remove images", traced=True)
SUBCOMMANDS: dict[str, Command] = {
    "ls": LS,
    "list": LS,
    "pull": Command("image_transfer", "fetch an image and unpack it", traced=True),
    "push": Command("image_transfer", "send an image to a registry", traced=True),
    "copy": Command("image_transfer", "copy an image from registry to registry", traced=True),
    "tag": Command("image_names", "give an image another name", traced=True),
    "rm": RM,
    "remove": RM,
    "prune": Command("image_prune", "remove images that nothing needs", traced=True),
    "inspect": Command("image_show", "show everything known about images", traced=True, templates=True),
    "history": Command("image_show", "show how an image was made", traced=True, templates=True),
    "check": Command("image_check", "look whether all content of images is here", traced=True),
    "usage": Command("image_check", "show how much room images take", traced=True),
    "referrers": Command("image_check", "list what a registry has about an image", traced=True),
    "import": Command(
        "image_archive", "read images from an archive or a directory", function="import_images", traced=True
    ),
    "export": Command("image_archive", "write images into an archive or a directory", traced=True, output_file=True),
    "login": Command("registry_login", "keep the credentials for a registry", traced=True),
    "logout": Command("registry_login", "forget the credentials for a registry", traced=True),
}


def ls_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images`."""
    parser.add_argument("--no-trunc", action="store_true", help="show whole digests")
    parser.add_argument("-q", "--quiet", action="store_true", help="only references")


def ls(context: Context) -> int:
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
