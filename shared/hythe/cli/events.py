"""``hythe events``: what happens on all hosts, live, or from a time or a place in the stream on."""

from __future__ import annotations

import math
import sys
import time

from hythe import subjects
from hythe.cli import exits, output
from hythe.cli.moments import moment_s, rfc3339_us
from hythe.errors import DeadlineExceeded, HytheError, InvalidArgument, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from hythe.cli.context import Context
    from hythe.cli.event_lines import Writer
    from hythe.client.event_reader import EventReader

WAIT_S = 60.0
TIMES = "10m, 2h, 3d, RFC 3339, a date, or seconds since 1970"


def events_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe events`."""
    parser.description = (
        "Show what happens on all hosts, each event once, until interrupted. With --since, --until or --from-seq it begins\n"
        "with what is stored. Whoever remembers the last `seq` of --format json goes on behind it with --from-seq SEQ+1.\n"
        "What the stream no longer has is told: `gap FROM..TO`."
    )
    parser.add_argument("--since", default="", metavar="TIME", help=f"begin with what was stored since: {TIMES}")
    parser.add_argument(
        "--until", default="", metavar="TIME", help="end with what was stored until then; may lie ahead"
    )
    parser.add_argument("--from-seq", type=int, default=None, metavar="N", help="begin at sequence N of the stream")
    parser.add_argument("--no-follow", action="store_true", help="end after what is stored now")
    parser.add_argument("--filter", "-f", action="append", default=[], metavar="FILTER",
        help="type=, event=, container=, image=, label= or host= as in Docker, or containerd's: topic~=|^/tasks/|")  # fmt: skip
    parser.add_argument("--all-namespaces", "-A", action="store_true", help="of every namespace, not only of one")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show who asked, with which request, in which trace"
    )


def events(context: Context) -> int:
    """Show events; each once and, per object, in the order of its number."""
    from hythe.cli.event_lines import Writer
    from hythe.client.event_reader import EventReader

    args, now = context.args, time.time()
    since_s = moment_s(args.since, now, "--since") if args.since else None
    until_s = moment_s(args.until, now, "--until") if args.until else math.inf
    if args.from_seq is not None and (args.from_seq < 1 or since_s is not None):
        what = "not together with --since" if since_s is not None else "expected a number from 1 on"
        raise InvalidArgument(f"read --from-seq {args.from_seq}: {what}")
    if args.no_follow and since_s is None and args.from_seq is None and not args.until:
        raise InvalidArgument("read the options: --no-follow needs --since, --until or --from-seq")
    if args.until and since_s is None and args.from_seq is None:
        since_s = 0.0
    writer = Writer(args.format, args.filter, verbose=args.verbose)
    subject = subjects.ALL_EVENTS if args.all_namespaces else subjects.events_of_namespace(context.namespace)
    since = rfc3339_us(since_s) if since_s is not None else ""
    reader = EventReader(context.bus, subject, first=args.from_seq or 0, since_rfc3339=since)
    try:
        if args.no_follow or until_s <= now:
            reader.stream.stop_at_end()
        elif sys.stderr.isatty():
            where = "all namespaces" if args.all_namespaces else f"namespace {context.namespace}"
            sys.stderr.write(f"watching {where}; Ctrl-C ends\n")
        _show(reader, writer, until_s)
    except KeyboardInterrupt:
        pass
    reader.stream.close()
    return exits.OK


def _show(reader: EventReader, writer: Writer, until_s: float) -> None:
    from hythe.client.event_reader import StoredEvent

    stopping = False
    while not reader.stream.done:
        try:
            if not stopping and time.time() > until_s:
                reader.stream.stop_at_end()
                stopping = True
            wait_s = min(WAIT_S, max(0.0, until_s - time.time())) if not stopping else WAIT_S
            items = reader.turn(wait_s)
        except (Unavailable, DeadlineExceeded) as failure:
            _recover(reader, failure)
            continue
        for item in items:
            if isinstance(item, StoredEvent) and item.stored_ns > until_s * 1e9:
                return
            writer.write(item)


def _recover(reader: EventReader, failure: HytheError) -> None:
    following = reader.stream.position + 1
    try:
        reader.stream.recover(failure, lambda error: output.warn(f"waiting for the bus: {error.message}"))
    except HytheError as error:
        error.next_step = f"go on with `hythe events --from-seq {following}` when the bus is back"
        raise
