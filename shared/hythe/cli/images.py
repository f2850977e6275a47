"""`hythe images`: the table of its commands, and the list of images."""

from __future__ import annotations

import sys
import time

from hythe.cli import asking, exits, listing, output
from hythe.cli.image_words import NONE, short_id, split_name
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


HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Platform": "PLATFORM",
    "Reference": "REFERENCE",
}
"""The fields of a row that `--format` knows, with their headers."""
COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
COLUMNS_WITH_DIGEST = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")


def ls_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images ls`."""
    parser.description = "List the images of the namespace, the youngest first. SIZE is that of the compressed layers."
    parser.epilog = "example:\n  hythe images --filter reference='team/*' --format '{{.Repository}}:{{.Tag}} {{.Size}}'"
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="as in Docker; there are no hidden images here")
    add("--digests", action="store_true", help="show digests")
    add("-f", "--filter", action="append", default=[], metavar="KEY=VALUE",
        help="dangling=true|false, reference=PATTERN, label=NAME[=VALUE], before=IMAGE, since=IMAGE, until=TIME")  # fmt: skip
    add("--no-trunc", action="store_true", help="show whole ids")
    add("-q", "--quiet", action="store_true", help="only ids, each once")
    add("repository", metavar="REPOSITORY[:TAG]", nargs="?", help="only these; a pattern such as 'team/*'")


def ls(context: Context) -> int:
    """List the images of the namespace."""
    args = context.args
    now = time.time()
    rows = sorted(all_images(context), key=lambda row: -(output.epoch_s(row["image_created_at"]) or 0.0))
    wanted = [*args.filter, *([f"reference={args.repository}"] if args.repository else [])]
    if wanted:
        from hythe.cli import filters_docker  # only when something is filtered

        rows = filters_docker.select(rows, filters_docker.read(wanted, filters_docker.LIST_KEYS), now)
    if args.repository and not rows:
        print(f"no image matches {args.repository!r}; `hythe images --help` lists the commands", file=sys.stderr)
    elif not rows and sys.stderr.isatty():
        print(f"no {'such ' if wanted else ''}images in namespace {context.namespace}", file=sys.stderr)
    if args.quiet:
        for image_id in dict.fromkeys(short_id(row["id"] or row["digest"], whole=args.no_trunc) for row in rows):
            print(image_id)
    elif context.as_json:
        for row in rows:
            output.json_line(row)
    else:
        columns = COLUMNS_WITH_DIGEST if args.digests else COLUMNS
        listing.show_fields(args, [fields(row, now, whole=args.no_trunc) for row in rows], HEADERS, columns)
    return exits.OK


def all_images(context: Context) -> list[dict[str, Any]]:
    """Return every image of the namespace, by reference (`hythe.wire.images.ImageSummary`)."""
    subject = context.subject("distribution", "image", "list")
    return list(asking.pages(lambda after: context.bus.call(subject, {"after": after}), "images"))


def fields(row: dict[str, Any], now_s: float, *, whole: bool) -> dict[str, str]:
    """Return the fields of one image that people see, under Docker's names."""
    repository, tag, _ = split_name(row["reference"])
    size = "unknown" if row["size_bytes"] is None else output.size(row["size_bytes"])
    return {
        "ID": short_id(row["id"] or row["digest"], whole=whole),
        "Repository": NONE if row["dangling"] else repository,
        "Tag": tag or NONE,
        "Digest": row["digest"],
        "CreatedSince": output.age(row["image_created_at"], now_s),
        "CreatedAt": row["image_created_at"] or "N/A",
        "Size": size + ("" if row["complete"] else " (incomplete)"),
        "Platform": row["platform"],
        "Reference": row["reference"],
    }
