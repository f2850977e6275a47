"""`hythe bundle run`: a new container from a bundle directory that has its own config.json and root file system."""

from __future__ import annotations

import os

from hythe.cli import output
from hythe.cli.bundle_words import absolute, ask, label_of
from hythe.cli.run import start
from hythe.errors import InvalidArgument
from hythe.reference import bundle_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context


def run_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe bundle run`."""
    parser.description = (
        "Run what DIR/config.json says in a new container, with DIR's own root file system. DIR stays when it ends."
    )
    parser.epilog = "example:\n  umoci unpack --image layout:tag DIR && hythe bundle run --rm DIR"
    add = parser.add_argument
    add("--rm", action="store_true", help="remove the container when it ends; DIR stays")
    add("--name", default="", help="name of the container; the first 12 digits of its id by default")
    add("-i", "--interactive", action="store_true", help="give it this command's stdin")
    add("-d", "--detach", action="store_true", help="print its id once it runs, and leave it running")
    add("-l", "--label", action="append", default=[], metavar="NAME[=VALUE]", help="label of the container")
    add("--stop-signal", default="", metavar="SIGNAL", help="signal that asks it to end; as DIR's annotations say")
    add("--stop-timeout", type=float, default=10.0, metavar="SECONDS", help="from that signal to SIGKILL (10)")
    add("--trace", action="store_true", help="show the trace of this run on stderr afterwards")
    add("directory", metavar="DIR", help="directory of the host with config.json")


def run(context: Context) -> int:
    """Run the bundle and end as it ends."""
    args = context.args
    if args.detach and args.interactive:
        raise InvalidArgument("check the command line: --interactive needs the command to stay; leave out --detach")
    directory = absolute(args.directory)
    args.image = bundle_reference(directory)  # what messages about the container call it
    if ask(context, "inspect", {"directory": directory})["terminal"]:
        output.warn(f"{directory} asks for a terminal; it runs without one")
    container = os.urandom(16).hex()
    return start(context, container, request_body(container, directory, context))


def request_body(container: str, directory: str, context: Context) -> dict[str, Any]:
    """Return the request ``runtime.container.run`` (`hythe.wire.runtime.Run`) but for its io channel."""
    args = context.args
    return {
        "id": container,
        "name": args.name,
        "image": "",
        "spec": {
            "directory": directory,
            "stdin": args.interactive,
            "auto_remove": args.rm,
            "labels": dict(label_of(text) for text in args.label),
            "stop_signal": args.stop_signal,
            "stop_timeout_s": args.stop_timeout,
        },
        "host": context.settings.host,
        "wait": not args.detach,
    }
