"""`hythe lease create`, `add`, `drop` and `rm`."""

from __future__ import annotations

from hythe.cli import exits, output
from hythe.cli.content_words import parse_label
from hythe.cli.each import tried
from hythe.cli.flag_values import wrong
from hythe.cli.leases import ask
from hythe.errors import InvalidArgument
from hythe.labels import GC_EXPIRE, GC_FLAT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence
    from typing import Any

    from hythe.cli.context import Context

LONGEST_S = 31 * 86_400
_RESOURCE = "content:DIGEST (or the digest alone), image:REF, snapshot/overlayfs:KEY or ingest:REF"
_ADVICE = "write a span such as 24h or 7d, or a time such as 2026-11-23T20:15:00Z"


def create_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe lease create`."""
    parser.description = (
        "Make a lease: what it names, and what that refers to, is not collected while the lease lasts. Prints its id."
    )
    add = parser.add_argument
    add("--id", default="", metavar="ID", help="a random one by default")
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--expires", default="24h", metavar="SPAN|TIME",
        help="how long it lasts, anew after each start of metadata, or until when; 24h by default")  # fmt: skip
    ends.add_argument("--no-expiry", action="store_true", help="it lasts until it is removed")
    add("--flat", action="store_true", help="keep only what is named, not what that refers to")
    add("-l", "--label", action="append", default=[], metavar="KEY=VALUE", help="label; repeatable")
    add("resources", nargs="*", metavar="RESOURCE", help=_RESOURCE)


def create(context: Context) -> int:
    """Make a lease."""
    args = context.args
    labels = dict(parse_label(text) for text in args.label)
    if args.flat:
        labels[GC_FLAT] = "true"
    body: dict[str, Any] = {"id": args.id, "labels": labels, "resources": _resources(args.resources)}
    if not args.no_expiry and GC_EXPIRE not in labels:
        body["duration_s"] = _span_s(args.expires)
        if body["duration_s"] is None:
            labels[GC_EXPIRE] = args.expires
    made = ask(context, "create", **body)
    if context.as_json:
        output.json_line(made)
    else:
        print(output.visible(made["id"]))
    return exits.OK


def _span_s(text: str) -> float | None:
    """Return a span in seconds, None for a time.

    Raises:
        InvalidArgument: it is neither, or longer than a lease may last.
    """
    from hythe.cli.moments import span_s

    found = span_s(text)
    if found is None and output.epoch_s(text) is None:
        raise wrong("--expires", text, "it is neither a span nor a time", _ADVICE)
    if found is not None and not 0 < found <= LONGEST_S:
        raise wrong(
            "--expires", text, "a lease lasts more than nothing and at most 31d", "or give a time, or --no-expiry"
        )
    return found


def add_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe lease add`."""
    parser.description = "Let a lease keep more. Prints all that it keeps then."
    _add_what(parser)


def add(context: Context) -> int:
    """Let a lease keep more."""
    return _change(context, "add")


def drop_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe lease drop`."""
    parser.description = "Let a lease keep these no longer. Prints all that it keeps then."
    _add_what(parser)


def drop(context: Context) -> int:
    """Let a lease keep something no longer."""
    return _change(context, "drop")


def _add_what(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="LEASE")
    parser.add_argument("resources", nargs="+", metavar="RESOURCE", help=_RESOURCE)


def _change(context: Context, verb: str) -> int:
    args = context.args
    found = ask(context, verb, id=args.id, resources=_resources(args.resources))
    if context.as_json:
        output.json_line(found)
    else:
        for resource in found["resources"]:
            print(output.visible(f"{resource['kind']}:{resource['name']}"))
    return exits.OK


def rm_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe lease rm`."""
    from hythe.cli.collecting import sync_argument

    parser.description = "End leases. What only they kept goes with the next collection; with --sync at once."
    sync_argument(parser)
    parser.add_argument("ids", nargs="+", metavar="LEASE")


def rm(context: Context) -> int:
    """End leases, each even if one before could not be; then collect, if that is asked for."""

    def remove(lease: str) -> None:
        ask(context, "get", id=lease)  # removing one that isn't there is no fault to metadata, but a typing error here
        ask(context, "remove", id=lease)
        print(output.visible(lease))

    first = tried(context.args.ids, remove)
    if context.args.sync:
        from hythe.cli.collecting import collect

        collect(context)
    if first is not None:
        raise first
    return exits.OK


def _resources(texts: Sequence[str]) -> list[dict[str, str]]:
    return [_resource(text) for text in texts]


def _resource(text: str) -> dict[str, str]:
    """Return the resource that `text` spells.

    Raises:
        InvalidArgument: it spells none.
    """
    kind, _, name = ("content", ":", text) if text.startswith("sha256:") else text.partition(":")
    if kind == "image" and name:
        from hythe.reference import parse_reference

        name = str(parse_reference(name))
    if not name or not (kind in ("content", "image", "ingest") or kind.startswith("snapshot/")):
        raise InvalidArgument(f"read resource {text!r}: it is none", next_step=f"write {_RESOURCE}")
    if kind == "content":
        from hythe.digest import parse_digest

        name = str(parse_digest(name))
    return {"kind": kind, "name": name}
