"""`hythe snapshot diff`: what a snapshot changes of its parent or another, as a list or as a layer in a file."""

from __future__ import annotations

from hythe.cli import archive_file, asking, exits, output
from hythe.cli.commit import COMPRESSIONS, follow, source_date_epoch
from hythe.cli.content_words import content_of
from hythe.cli.day_lease import DayLease
from hythe.cli.diff import print_changes
from hythe.digest import parse_digest, verified

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context


def diff_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot diff`."""
    parser.description = (
        "Show what a snapshot of this host changes of its parent, or of OTHER, one a line: A added, C changed, D deleted. "
        "With -o that is written as the archive of an image layer, and the layer's digest is printed."
    )
    add = parser.add_argument
    add("-o", "--output", default="", metavar="FILE", help="write the layer to this file; - is stdout")
    add("--compress", choices=COMPRESSIONS, default="gzip", help="how the layer is compressed (gzip)")
    add(
        "--keep",
        action="store_true",
        help="leave the layer in content for a day, longer if something refers to it then",
    )
    add("key", metavar="KEY", help="name of a snapshot; of a container's it is the container's id")
    add("other", metavar="OTHER", nargs="?", default="", help="snapshot to compare with; the parent by default")


def diff(context: Context) -> int:
    """Print the changes, or write them as a layer."""
    args = context.args
    body = {"key": args.key, "other": args.other}
    if not args.output:
        subject = asking.bundle_subject(context, "snapshot", "changes")
        print_changes(context, subject, body)
        return exits.OK
    to_stdout = args.output == "-"
    if to_stdout:
        archive_file.check_stdout()
    layer = follow(
        context,
        asking.bundle_subject(context, "snapshot", "diff"),
        {**body, "compression": args.compress, "source_date_epoch": source_date_epoch()},
    )
    blob, content = layer["blob"], content_of(context)
    digest, lease = parse_digest(blob["digest"]), DayLease(context)
    try:
        lease.keep(digest)  # before the lease of the service runs out
        chunks = verified(content.read(digest), digest, blob["size_bytes"], blob["digest"])
        if to_stdout:
            archive_file.write_stdout(chunks)
        else:
            archive_file.write_file(chunks, args.output)
    finally:
        if not args.keep:
            lease.end()
            if layer["new"]:
                content.delete(digest)
    if to_stdout:
        return exits.OK
    if context.as_json:
        output.json_line(_row(layer))
    else:
        print(blob["digest"])
    return exits.OK


def _row(layer: dict[str, Any]) -> dict[str, Any]:
    """Return a layer as programs get it; fields in docs/output.md."""
    blob = layer["blob"]
    return {
        "digest": blob["digest"],
        "media_type": blob["media_type"],
        "size_bytes": blob["size_bytes"],
        "diff_id": layer["diff_id"],
        "archive_bytes": layer["archive_bytes"],
        "entries": layer["entries"],
    }
