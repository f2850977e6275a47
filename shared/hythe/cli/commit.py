"""`hythe commit`: a new image of what a container, or a snapshot, has changed."""

from __future__ import annotations

import os
import sys

from hythe.cli import asking, exits, output
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context

EPOCH = "SOURCE_DATE_EPOCH"
MAX_EPOCH = 253402300799
COMPRESSIONS = ("gzip", "zstd", "none")


def commit_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe commit`."""
    parser.description = (
        "Make an image of what a container has changed and the image below it, on the container's host, and name it "
        "REFERENCE. Prints the image's id. Files of a running container are read as they are: it is not paused."
    )
    parser.epilog = (
        f"With {EPOCH} in the environment (seconds since 1970) later times of files, and the image's own, become that "
        "one: the same files then give the same image."
    )
    add = parser.add_argument
    add("-a", "--author", default="", help="who makes it")
    add("-m", "--message", default="", help="what the image's history says of it")
    add("-c", "--change", action="append", default=[], metavar="INSTRUCTION",
        help="change the image's config as in a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, "
        "WORKDIR; may be repeated")  # fmt: skip
    add("--compress", choices=COMPRESSIONS, default="gzip", help="how the new layer is compressed (gzip)")
    add("--snapshot", action="store_true", help="make it of a snapshot of this host (`hythe snapshot ls`)")
    add("source", metavar="CONTAINER|SNAPSHOT")
    add("reference", metavar="REFERENCE")


def commit(context: Context) -> int:
    """Commit and print the id of the image."""
    args = context.args
    image = {
        "reference": args.reference,
        "author": args.author,
        "message": args.message,
        "changes": args.change,
        "compression": args.compress,
        "source_date_epoch": source_date_epoch(),
    }
    subject = (
        asking.bundle_subject(context, "image", "commit")
        if args.snapshot
        else context.subject("runtime", "container", "commit")
    )
    result = follow(context, subject, {"key": args.source, "image": image})
    if context.as_json:
        output.json_line(committed_row(result))
    else:
        print(result["id"])
    return exits.OK


def committed_row(result: dict[str, Any]) -> dict[str, Any]:
    """Return a new image as programs get it; fields in docs/output.md."""
    layer = result["layer"]
    return {
        "reference": result["reference"],
        "digest": result["digest"],
        "id": result["id"],
        "size_bytes": result["size_bytes"],
        "host": result["host"],
        "layer": layer["blob"]["digest"],
        "layer_size_bytes": layer["blob"]["size_bytes"],
        "diff_id": layer["diff_id"],
        "entries": layer["entries"],
    }


def follow(context: Context, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    """Follow an operation that writes a layer to its result; the service ends it when this command is interrupted."""
    try:
        return context.follow(subject, body)
    except KeyboardInterrupt:
        print("cancelled; nothing of it is kept", file=sys.stderr)
        raise


def source_date_epoch() -> int | None:
    """Return the time that the environment's SOURCE_DATE_EPOCH names; None where it is unset or empty.

    Raises:
        InvalidArgument: it is no number of seconds since 1970.

    Spec: reproducible-builds.org, SOURCE_DATE_EPOCH.
    """
    text = os.environ.get(EPOCH, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_EPOCH:
        raise InvalidArgument(
            f"read {EPOCH}: {text[:40]!r} is no number of seconds since 1970", next_step=f"unset {EPOCH}, or set it"
        )
    return int(text)
