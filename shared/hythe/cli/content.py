"""`hythe content`: the blobs of this host's content store, as the namespace sees them."""

from __future__ import annotations

import os
import sys

from hythe.cli import exits, output
from hythe.errors import HytheError, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context
    from hythe.client.content import BusContent

PIECE_BYTES = 8 << 20
MIN_PREFIX = 4


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
    for blob in _pages(context, "content", "blobs", filters=context.args.filters):
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
    content = _content(context)
    digest = _digest(context, args.digest)
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
        sys.stdout.flush()
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return exits.OK
    partial = f"{target}.{os.getpid()}.partial"
    try:
        with open(partial, "xb") as file:
            for chunk in chunks:
                file.write(chunk)
        os.rename(partial, target)
    except BaseException:
        _unlink(partial)
        raise
    return exits.OK


def info_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content info`."""
    parser.add_argument("digests", nargs="+", metavar="DIGEST", help="a digest, or a unique prefix of one")


def info(context: Context) -> int:
    """Show what is known about blobs, as JSON."""
    import json

    for text in context.args.digests:
        found = _ask(context, "content", "info", digest=str(_digest(context, text)))
        print(json.dumps(found, indent=None if context.as_json else 2, ensure_ascii=False))
    return exits.OK


def ingest_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content ingest`."""
    parser.description = (
        "Store stdin as a blob and print its digest. What an interrupted ingest brought is kept under REF: with --resume it"
        " goes on, and stdin is then expected from its beginning again."
    )
    parser.add_argument("--expected-digest", default="", metavar="DIGEST", help="refuse other bytes")
    parser.add_argument("--expected-size", type=int, metavar="BYTES", help="refuse more or fewer bytes")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="set a label; repeatable")
    parser.add_argument("--resume", action="store_true", help="go on with what is there under REF")
    parser.add_argument("reference", metavar="REF", help="any name for what comes in")


def ingest(context: Context) -> int:
    """Store stdin as a blob."""
    from hythe.digest import parse_digest

    args = context.args
    expected = parse_digest(args.expected_digest) if args.expected_digest else None
    labels = dict(_pair(text) for text in args.label)
    if sys.stdin.isatty():
        raise InvalidArgument("read the blob from the terminal", next_step="redirect a file into it: … < FILE")
    with _content(context).open_ingest(
        args.reference, total_bytes=args.expected_size, expected=expected, resume=args.resume
    ) as ingest:
        skip = ingest.offset
        while piece := sys.stdin.buffer.read(PIECE_BYTES):
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
        blob = ingest.commit(expected, args.expected_size, labels)
    if context.as_json:
        output.json_line(_ask(context, "content", "info", digest=str(blob.digest)))
    else:
        print(blob.digest)
    return exits.OK


def active_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content active`."""
    parser.description = "List ingests in progress or left for somebody to go on with."
    parser.add_argument("--abort", action="append", default=[], metavar="REF", help="remove one instead; repeatable")


def active(context: Context) -> int:
    """List ingests, or remove some."""
    if context.args.abort:
        for reference in context.args.abort:
            _ask(context, "ingest", "abort", reference=reference)
        return exits.OK
    rows = list(_pages(context, "ingest", "ingests"))
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
    changes = dict(_pair(text) for text in args.labels)
    found = _ask(context, "content", "label", digest=str(_digest(context, args.digest)), labels=changes)
    if context.as_json:
        output.json_line(found)
    else:
        for key, value in sorted(found["labels"].items()):
            print(output.visible(f"{key}={value}"))
    return exits.OK


def rm_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe content rm`."""
    parser.description = (
        "Take blobs out of the namespace, whatever needs them; their bytes go when no namespace has them."
    )
    parser.add_argument("digests", nargs="+", metavar="DIGEST", help="a digest, or a unique prefix of one")


def rm(context: Context) -> int:
    """Remove blobs, each even if one before could not be."""
    from hythe.cli.failure import render

    code = exits.OK
    for text in context.args.digests:
        try:
            digest = _digest(context, text)
            _ask(context, "content", "remove", digest=str(digest))
            print(digest)
        except HytheError as error:
            code = exits.code_of(error)
            print(render(error, 0.0, ""), file=sys.stderr)
    return code


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
    body = {"digests": [str(_digest(context, text)) for text in args.digests], "repair": args.repair}
    on_terminal = sys.stderr.isatty() and not args.quiet
    result: dict[str, Any] = {}
    for state, payload in context.bus.operate(_content(context).subject("content", "check"), body):
        if state == "done":
            result = payload
        elif on_terminal:
            done, total = output.size(payload["done_bytes"]), output.size(payload["total_bytes"])
            blobs = f"{payload['done_blobs']} of {payload['total_blobs']} blobs"
            sys.stderr.write(f"\rchecked {blobs}, {done} of {total}\x1b[K")
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


def _content(context: Context) -> BusContent:
    from hythe.client.content import BusContent

    return BusContent(context.bus, context.namespace, context.settings.host)


def _ask(context: Context, noun: str, verb: str, **body: Any) -> dict[str, Any]:
    return _content(context).ask(noun, verb, **body)


def _pages(context: Context, noun: str, field: str, **body: Any) -> Any:
    after = ""
    while True:
        page = _ask(context, noun, "list", after=after, **body)
        yield from page[field]
        after = page.get("next", "")
        if not after:
            return


def _digest(context: Context, text: str) -> Any:
    """Return the digest that `text` spells or is the only one to begin with.

    Raises:
        InvalidArgument: it is none, or several blobs begin with it.
        NotFound: no blob begins with it.
    """
    from hythe.digest import parse_digest
    from hythe.errors import NotFound

    hex_digits = text.removeprefix("sha256:")
    if len(hex_digits) >= 64:
        return parse_digest(f"sha256:{hex_digits}")
    if len(hex_digits) < MIN_PREFIX or not set(hex_digits) <= set("0123456789abcdef"):
        raise InvalidArgument(f"read digest {text!r}: expected sha256: and hex digits, at least {MIN_PREFIX} of them")
    page = _ask(context, "content", "list", filters=[f'digest~="^sha256:{hex_digits}"'], limit=5)
    found = [blob["digest"] for blob in page["blobs"]]
    if not found:
        raise NotFound(f"find blob {text}: there is none in namespace {context.namespace}", details={"kind": "blob"})
    if len(found) > 1:
        raise InvalidArgument(f"find blob {text}: several begin with it", cause=", ".join(found))
    return parse_digest(found[0])


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidArgument(f"read label {text!r}: expected KEY=VALUE")
    return key, value


def _labels(row: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(row["labels"].items()))


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
