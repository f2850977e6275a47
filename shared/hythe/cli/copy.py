"""`hythe cp`: files into a container and out of it, whether it runs or not, by the rules of `docker cp`."""

from __future__ import annotations

import os
import sys

from hythe.archive.placing import Destination, in_container, split_argument, top_name
from hythe.cli import copy_local, exits
from hythe.cli.copy_shown import Shown
from hythe.client.attachment import Attachment
from hythe.client.io_channel import IoChannel
from hythe.client.io_input import Input
from hythe.client.io_produced import Produced
from hythe.client.io_taken import Taken, chunks
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator
    from typing import Any

    from hythe.archive.pack import Packer
    from hythe.cli.context import Context

WINDOW_BYTES = 4 << 20
STREAM = "-"
_TWICE = "copy out of the one with `hythe cp ONE:PATH -`, and pipe that into `hythe cp - OTHER:PATH`"


def cp_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe cp`."""
    parser.usage = "hythe cp [flags] CONTAINER:SRC DEST|-\n       hythe cp [flags] SRC|- CONTAINER:DEST"
    parser.add_argument("-a", "--archive", action="store_true", help="keep users and groups of the source")
    parser.add_argument("-L", "--follow-link", action="store_true", help="copy what SRC leads to, if it is a link")
    parser.add_argument("-q", "--quiet", action="store_true", help="show neither progress nor the result")
    parser.add_argument(
        "source", metavar="SRC", help="what to copy; SRC/. is what a directory has; - is a tar on stdin"
    )
    parser.add_argument("destination", metavar="DEST", help="where to; - is a tar on stdout")
    parser.epilog = (
        "A path in a container is relative to its root. A local name with a colon in it is written ./NAME.\n"
        "Without -a what is copied belongs to root in a container, and to you here."
    )


def cp(context: Context) -> int:
    """Copy in one direction."""
    args = context.args
    container, path = split_argument(args.source)
    to_container, to_path = split_argument(args.destination)
    if container and to_container:
        raise InvalidArgument("check the command line: copying between containers is not possible", next_step=_TWICE)
    if container:
        return _out(context, container, path)
    if to_container:
        return _into(context, to_container, to_path)
    raise InvalidArgument(
        "check the command line: neither path is in a container", next_step="write that one CONTAINER:PATH"
    )


def _begin(context: Context, key: str, channel: IoChannel, wishes: dict[str, Any]) -> Attachment:
    context.note(container__id=key, hythe__copy__direction=wishes["direction"])
    body = {"key": key, "io": channel.opening, **wishes}
    operation = context.bus.begin(context.subject("runtime", "container", "copy"), body)
    return Attachment(context.bus, operation, channel)


def _out(context: Context, key: str, path: str) -> int:
    args, asked = context.args, in_container(path)
    if args.destination == STREAM:
        return _to_stream(context, key, asked)
    with copy_local.refusals(f"copy to {args.destination}"):
        to = copy_local.destination(args.destination)
    taken = Taken()
    channel = IoChannel(context.bus, context.namespace, stdout=taken, window_bytes=WINDOW_BYTES)
    wishes = {"direction": "out", "path": asked.decode(), "follow_link": args.follow_link}
    attachment = _begin(context, key, channel, wishes)
    with attachment.operation, Shown(context, f"{key}:{path}", args.destination) as shown:
        _extract(context, chunks(attachment, taken), to, top_name(asked), shown)
        shown.result(attachment.operation.result)
    channel.close()
    return exits.OK


def _extract(context: Context, stream: Iterator[bytes], to: Destination, name: bytes, shown: Shown) -> None:
    from hythe.cli.copy_extract import extract  # not needed in the other direction

    with copy_local.refusals(f"copy to {context.args.destination}"):
        shown.warnings += extract(stream, to, name, keep_owner=context.args.archive, wrote=shown.moved)


def _to_stream(context: Context, key: str, asked: bytes) -> int:
    step = f"copy from {key}"
    if sys.stdout.isatty():
        raise InvalidArgument(f"{step}: a terminal takes no archive", next_step="redirect stdout, or name a path")
    if context.as_json:
        raise InvalidArgument(f"{step}: stdout cannot take both the archive and JSON", next_step="leave out --json")
    channel = IoChannel(context.bus, context.namespace, window_bytes=WINDOW_BYTES)
    wishes = {"direction": "out", "path": asked.decode(), "follow_link": context.args.follow_link}
    attachment = _begin(context, key, channel, wishes)
    with attachment.operation:
        while not attachment.finished:
            attachment.turn()
            result = attachment.operation.result
            if result is not None:
                channel.finals(int(result["stdout_bytes"]), 0)
            if channel.nobody_reads:
                return exits.BROKEN_PIPE
        copy_local.warn(attachment.operation.result)
    channel.close()
    return exits.OK


def _into(context: Context, key: str, path: str) -> int:
    args, asked = context.args, in_container(path)
    wishes = {"direction": "in", "path": asked.decode(), "keep_owner": args.archive}
    shown = Shown(context, args.source, f"{key}:{path}")
    if args.source == STREAM:
        if sys.stdin.isatty():
            raise InvalidArgument(
                f"copy to {key}: a terminal gives no archive", next_step="redirect stdin, or name a path"
            )
        _send(context, key, Input(0), {**wishes, "as_is": True}, shown)
        return exits.OK
    from hythe.archive.pack import Packer  # not needed in the other direction

    with copy_local.refusals(f"copy {args.source}"):
        found = copy_local.source(args.source, follow_link=args.follow_link)
        directory = os.open(found.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        packer = Packer()
        archive = _counted(packer, packer.chunks(directory, found.base, found.name), shown)
        _send(context, key, Produced(archive), wishes, shown)
    shown.warnings += packer.warnings
    return exits.OK


def _counted(packer: Packer, archive: Iterator[bytes], shown: Shown) -> Iterator[bytes]:
    before = 0
    for chunk in archive:
        yield chunk
        shown.moved(packer.file_bytes - before)
        before = packer.file_bytes


def _send(context: Context, key: str, source: Input | Produced, wishes: dict[str, Any], shown: Shown) -> None:
    channel = IoChannel(context.bus, context.namespace, source=source)
    attachment = _begin(context, key, channel, wishes)
    with attachment.operation, shown:
        while not attachment.finished:
            attachment.turn(read_stdin=True)
            if attachment.operation.result is not None:
                channel.finals(0, 0)
        shown.result(attachment.operation.result)
    channel.close()
