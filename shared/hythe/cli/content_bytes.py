"""`hythe content get` and `ingest`: the bytes of blobs out and in."""

from __future__ import annotations

import sys

from hythe.cli import archive_file, exits, output
from hythe.cli.content_words import ask, content_of, find_digest, parse_label
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from hythe.cli.context import Context
    from hythe.cli.day_lease import DayLease
    from hythe.digest import Digest
    from hythe.ports.namespace_content import LabelledBlob

PIECE_BYTES = 8 << 20


def get_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content get`."""
    parser.description = "Write the bytes of a blob to stdout, or to a file that appears when it is whole and verified."
    parser.add_argument("--output", metavar="FILE", help="write there; `-` is stdout")
    parser.add_argument("--offset", type=int, default=0, metavar="BYTES", help="first byte wanted")
    parser.add_argument("--length", type=int, metavar="BYTES", help="bytes wanted; all to the end by default")
    parser.add_argument("digest", metavar="DIGEST", help="a digest, or a unique prefix of one")


def get(context: Context) -> int:
    """Write a blob, checked against its digest where all of it was asked for."""
    from hythe.digest import verified

    args = context.args
    content = content_of(context)
    digest = find_digest(context, args.digest)
    size_bytes = content.info(digest).size_bytes
    chunks = content.read(digest, args.offset, args.length)
    if args.offset == 0 and args.length in (None, size_bytes):
        chunks = verified(chunks, digest, size_bytes, str(digest))
    target = args.output or "-"
    if target == "-" and sys.stdout.isatty():
        raise InvalidArgument(
            "write the blob to the terminal: it may hold anything",
            next_step=f"redirect it, or use --output FILE: hythe content get {args.digest} > FILE",
        )
    if target == "-":
        archive_file.write_stdout(chunks)
    else:
        archive_file.write_file(chunks, target)
    return exits.OK


def ingest_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content ingest`."""
    parser.description = (
        "Store stdin as a blob and print its digest. Unless something refers to it by then, it is collected after a day: a lease "
        "keeps it so long. What an interrupted ingest brought is kept under REF: with --resume it"
        " goes on, and stdin is then expected from its beginning again."
    )
    parser.add_argument("--expected-digest", default="", metavar="DIGEST", help="refuse other bytes")
    parser.add_argument("--expected-size", type=int, metavar="BYTES", help="refuse more or fewer bytes")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="set a label; repeatable")
    parser.add_argument("--resume", action="store_true", help="go on with what is there under REF")
    parser.add_argument("reference", metavar="REF", help="any name for what comes in")


def ingest(context: Context) -> int:
    """Store stdin as a blob that a lease keeps for a day."""
    from hythe.cli.day_lease import DayLease
    from hythe.digest import parse_digest

    args = context.args
    expected = parse_digest(args.expected_digest) if args.expected_digest else None
    labels = dict(parse_label(text) for text in args.label)
    if sys.stdin.isatty():
        raise InvalidArgument("read the blob from the terminal", next_step="redirect a file into it: … < FILE")
    lease = DayLease(context)
    try:
        blob = _ingest_stdin(context, expected, labels, lease)
    except BaseException:
        lease.end()
        raise
    if context.as_json:
        output.json_line(ask(context, "content", "info", digest=str(blob.digest)))
    else:
        print(blob.digest)
        if sys.stderr.isatty():
            print(f"kept until {lease.until}, longer if something refers to it", file=sys.stderr)
    return exits.OK


def _ingest_stdin(context: Context, expected: Digest | None, labels: dict[str, str], lease: DayLease) -> LabelledBlob:
    """Put stdin into content; the lease keeps the blob from before it is one."""
    import hashlib

    from hythe.digest import Digest

    args, hasher = context.args, hashlib.sha256()
    if expected is not None:
        lease.keep(expected)
    with content_of(context).open_ingest(
        args.reference, total_bytes=args.expected_size, expected=expected, resume=args.resume
    ) as ingest:
        skip = ingest.offset
        while piece := sys.stdin.buffer.read(PIECE_BYTES):
            hasher.update(piece)
            if skip:
                skipped = min(skip, len(piece))
                skip, piece = skip - skipped, piece[skipped:]
            if piece:
                ingest.write(piece)
        if skip:
            raise InvalidArgument(
                f"ingest {args.reference}: stdin ended {skip} bytes before what is there already",
                next_step=f"give all of it, or drop what is there: hythe content ingest without --resume {args.reference}",
            )
        if expected is None:
            lease.keep(Digest(hasher.hexdigest()))
        return ingest.commit(expected, args.expected_size, labels)
