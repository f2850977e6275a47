"""`hythe logs`: a container's output, or the log of one of the stack's own processes."""

from __future__ import annotations

from hythe.cli import exits
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from hythe.cli.context import Context


def logs_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe logs`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the container ends")
    parser.add_argument("--tail", default="all", metavar="N", help="only the last N lines of each stream")
    parser.add_argument("-t", "--timestamps", action="store_true", help="begin each line with its time")
    parser.add_argument("--service", default="", metavar="NAME", help="the log of one of Hythe's own processes")
    parser.add_argument("container", metavar="CONTAINER", nargs="?")


def logs(context: Context) -> int:
    """Show output on the streams that it was written to."""
    args = context.args
    if bool(args.service) == bool(args.container):
        raise InvalidArgument("check the command line: give a CONTAINER, or --service NAME", next_step="see --help")
    if args.tail != "all" and not (args.tail.isascii() and args.tail.isdigit()):
        raise InvalidArgument(f"check --tail {args.tail!r}: expected a number of lines, or all")
    tail = None if args.tail == "all" else int(args.tail)
    if args.service:
        from hythe.cli.service_logs import show

        return show(context.settings.log_dir, args.service, follow=args.follow, tail_lines=tail)
    return _of_container(context, tail)


def _of_container(context: Context, tail: int | None) -> int:
    from hythe.client.attachment import Attachment
    from hythe.client.io_channel import IoChannel

    args = context.args
    channel = IoChannel(context.bus, context.namespace)
    body = {
        "key": args.container,
        "io": channel.opening,
        "follow": args.follow,
        "tail_lines": tail,
        "timestamps": args.timestamps,
    }
    with context.bus.begin(context.subject("runtime", "container", "logs"), body) as operation:
        attachment = Attachment(context.bus, operation, channel)
        while not attachment.finished:
            attachment.turn()
            if operation.result is not None:
                channel.finals(operation.result["stdout_bytes"], operation.result["stderr_bytes"])
            if channel.nobody_reads:
                return exits.BROKEN_PIPE
    channel.close()
    return exits.OK
