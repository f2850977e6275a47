"""`hythe bundle pack`, `unpack` and `pull`: bundles carried as archives and through registries."""

from __future__ import annotations

import sys

from hythe.cli import asking, exits, output
from hythe.cli.bundle_words import absolute, container_of, is_directory, long_arguments, operate
from hythe.cli.commit import source_date_epoch
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context

ARTIFACT_TYPE = "application/vnd.hythe.bundle.v1+json"
_SUFFIXES = {".tar": "none", ".tar.gz": "gzip", ".tgz": "gzip", ".tar.zst": "zstd", ".tzst": "zstd"}


def pack_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe bundle pack`."""
    parser.description = (
        "Write config.json, hythe.json and root file system of a bundle as one archive, or as an artifact in a registry. "
        "The same bundle gives the same bytes; with SOURCE_DATE_EPOCH set, no time in them is later."
    )
    parser.epilog = (
        "example:\n  hythe bundle pack web -o web.tar.zst\n  hythe bundle pack ./web --push registry:5000/bundles/web:1"
    )
    add = parser.add_argument
    add("-o", "--output", default="", metavar="FILE", help="archive to write; its suffix says how it is compressed")
    add("--compress", choices=("none", "gzip", "zstd"), default="", help="in place of what the suffix says")
    add(
        "--push", default="", metavar="REF", help="keep it under this name, and send it to the registry that this names"
    )
    add("--plain-http", action="store_true", help="speak HTTP without TLS to the registry")
    long_arguments(parser)
    add("bundle", metavar="DIR|CONTAINER", help="a directory has a slash in its name, or is here")


def pack(context: Context) -> int:
    """Pack a bundle."""
    args = context.args
    if bool(args.output) == bool(args.push):
        raise InvalidArgument("check the command line: say either -o FILE or --push REF")
    body: dict[str, Any] = {"epoch_s": source_date_epoch()}
    host = ""
    if is_directory(args.bundle):
        body["directory"] = absolute(args.bundle)
    else:
        body["id"], host = container_of(context, args.bundle)
    result = _push(context, body, host) if args.push else _write(context, body, host)
    for text in result.get("warnings", ()):
        output.warn(text)
    if context.as_json:
        output.json_line(result)
    else:
        shown = result["file"] if args.output else f"{result['reference']}@{result['target']['digest']}"
        print(output.visible(shown))
    return exits.OK


def _write(context: Context, body: dict[str, Any], host: str) -> dict[str, Any]:
    args = context.args
    file = absolute(args.output)
    return operate(context, "pack", {**body, "file": file, "compression": args.compress or _by_suffix(file)}, host)


def _push(context: Context, body: dict[str, Any], host: str) -> dict[str, Any]:
    args = context.args
    if args.compress:
        raise InvalidArgument("check the command line: what is pushed is compressed by gzip; leave out --compress")
    if host not in ("", context.settings.host):
        raise InvalidArgument(
            f"push the bundle of {args.bundle}: it is on host {host}, whose content can't be pushed from here",
            next_step=f"call `hythe bundle pack` on {host}",
        )
    stored = operate(context, "store", {**body, "reference": args.push}, host)
    order = {"image": stored["reference"], "plain_http": args.plain_http}
    from hythe.cli.progress import make_progress

    with make_progress(sys.stderr, args.progress, quiet=args.quiet) as progress:
        for state, payload in context.bus.operate(context.subject("distribution", "image", "push"), order):
            if state != "done":
                progress.message(payload)
    return stored


def _by_suffix(file: str) -> str:
    for suffix, compression in _SUFFIXES.items():
        if file.endswith(suffix):
            return compression
    return "none"


def unpack_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe bundle unpack`."""
    parser.description = "Make the new directory DIR of an archive that `hythe bundle pack` wrote."
    long_arguments(parser)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("directory", metavar="DIR", help="a directory that isn't there, or an empty one")


def unpack(context: Context) -> int:
    """Unpack a bundle."""
    args = context.args
    return _made(
        context, operate(context, "unpack", {"file": absolute(args.file), "directory": absolute(args.directory)})
    )


def pull_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe bundle pull`."""
    parser.description = (
        "Fetch what `hythe bundle pack --push` sent to a registry, and make the new directory DIR of it."
    )
    parser.add_argument("--plain-http", action="store_true", help="speak HTTP without TLS to the registry")
    long_arguments(parser)
    parser.add_argument("reference", metavar="REF")
    parser.add_argument("directory", metavar="DIR", help="a directory that isn't there, or an empty one")


def pull(context: Context) -> int:
    """Pull a bundle."""
    args = context.args

    order = {"reference": args.reference, "artifact_type": ARTIFACT_TYPE, "plain_http": args.plain_http}
    fetched = asking.with_progress(context, context.subject("distribution", "image", "fetch"), order)
    image = {"reference": fetched["reference"], "digest": fetched["target"]["digest"]}
    body = {"image": image, "directory": absolute(args.directory), "plain_http": args.plain_http}
    return _made(context, operate(context, "fetch", body))


def _made(context: Context, made: dict[str, Any]) -> int:
    if context.as_json:
        output.json_line(made)
    else:
        print(output.visible(made["directory"]))
    return exits.OK
