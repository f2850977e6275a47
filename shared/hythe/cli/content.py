"""`hythe content`: what is known of the blobs of this host's content store, as the namespace sees them."""

from __future__ import annotations

from hythe.cli import exits, output
from hythe.cli.content_words import ask, find_digest, pages, parse_label, show_labels
from hythe.cli.each import for_each
from hythe.cli.subcommands import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context

LS = Command("content", "list blobs", function="ls", traced=True, default=True)
SUBCOMMANDS: dict[str, Command] = {
    "ls": LS,
    "list": LS,
    "get": Command("content_bytes", "write a blob's bytes to stdout or a file", traced=True),
    "info": Command("content", "show what is known about blobs", traced=True),
    "ingest": Command("content_bytes", "store stdin as a blob", traced=True),
    "active": Command("content", "list blobs on their way in", traced=True),
    "label": Command("content", "set labels of a blob", traced=True),
    "rm": Command("content", "take blobs out of the namespace", traced=True),
    "check": Command("content_check", "find blobs that are not whole, and repair them", traced=True),
}


def ls_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content ls`."""
    parser.description = (
        "List blobs. A FILTER is containerd's: size==123, digest~=^sha256:ab, labels.KEY==VALUE; several are or."
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="only digests")
    parser.add_argument("filters", nargs="*", metavar="FILTER")


def ls(context: Context) -> int:
    """List the blobs of the namespace."""
    rows: list[dict[str, Any]] = []
    for blob in pages(context, "content", "blobs", filters=context.args.filters):
        if context.args.quiet:
            print(blob["digest"])
        elif context.as_json:
            output.json_line(blob)
        else:
            rows.append(blob)
    if not context.args.quiet and not context.as_json:
        import time

        now = time.time()
        output.table(
            ("DIGEST", "SIZE", "AGE", "LABELS"),
            [
                (row["digest"], output.size(row["size_bytes"]), output.since(row["created_at"], now), _labels(row))
                for row in rows
            ],
        )
    return exits.OK


def info_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content info`."""
    parser.add_argument("digests", nargs="+", metavar="DIGEST", help="a digest, or a unique prefix of one")


def info(context: Context) -> int:
    """Show what is known about blobs, as JSON."""

    for text in context.args.digests:
        found = ask(context, "content", "info", digest=str(find_digest(context, text)))
        print(output.json_text(found, indent=None if context.as_json else 2))
    return exits.OK


def active_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content active`."""
    parser.description = "List ingests in progress or left for somebody to go on with."
    parser.add_argument("--abort", action="append", default=[], metavar="REF", help="remove one instead; repeatable")


def active(context: Context) -> int:
    """List ingests, or remove some."""
    if context.args.abort:
        for reference in context.args.abort:
            ask(context, "ingest", "abort", reference=reference)
        return exits.OK
    rows = list(pages(context, "ingest", "ingests"))
    if context.as_json:
        for row in rows:
            output.json_line(row)
        return exits.OK
    import time

    now = time.time()
    output.table(
        ("REF", "SIZE", "OF", "STARTED", "UPDATED"),
        [
            (
                row["reference"],
                output.size(row["offset"]),
                "?" if row["total_bytes"] is None else output.size(row["total_bytes"]),
                output.since(row["started_at"], now),
                output.since(row["updated_at"], now),
            )
            for row in rows
        ],
    )
    return exits.OK


def label_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content label`."""
    parser.description = "Set labels of a blob; `KEY=` takes one away. Prints all it has then."
    parser.add_argument("digest", metavar="DIGEST", help="a digest, or a unique prefix of one")
    parser.add_argument("labels", nargs="+", metavar="KEY=VALUE")


def label(context: Context) -> int:
    """Set labels."""
    args = context.args
    changes = dict(parse_label(text) for text in args.labels)
    found = ask(context, "content", "label", digest=str(find_digest(context, args.digest)), labels=changes)
    show_labels(context, found)
    return exits.OK


def rm_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content rm`."""
    parser.description = (
        "Take blobs out of the namespace, whatever needs them; their bytes go when no namespace has them."
    )
    parser.add_argument("digests", nargs="+", metavar="DIGEST", help="a digest, or a unique prefix of one")


def rm(context: Context) -> int:
    """Remove blobs, each even if one before could not be."""

    def remove(text: str) -> None:
        digest = find_digest(context, text)
        ask(context, "content", "remove", digest=str(digest))
        print(digest)

    for_each(context.args.digests, remove)
    return exits.OK


def _labels(row: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(row["labels"].items()))
