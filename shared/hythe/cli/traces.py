"""`hythe trace ls` and `hythe trace show`."""

from __future__ import annotations

import os
import shutil
import sys
import time

from hythe.cli import exits, output
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import TextIO

    from hythe.cli.context import Context
    from hythe.client.spans import Trace

DEFAULT_LIMIT = 20


def trace_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe trace`."""
    parser.description = "ls: list the traces of the last 24 h, newest first. show: one trace as a waterfall."
    parser.add_argument("verb", choices=("ls", "show"))
    parser.add_argument("id", nargs="?", metavar="ID|last", help="with show: beginning of a trace id, or `last`")
    parser.add_argument(
        "--limit", type=int, default=DEFAULT_LIMIT, metavar="N", help=f"with ls: at most N ({DEFAULT_LIMIT})"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="with ls: only ids")


def trace(context: Context) -> int:
    """List traces, or show one."""
    listing = context.args.verb == "ls"
    if listing == bool(context.args.id):
        wanted = "`trace ls` takes no id" if listing else "`trace show` needs the beginning of an id, or `last`"
        raise InvalidArgument(f"read the command line: {wanted}", next_step="`hythe trace ls` lists the ids")
    return _list(context) if listing else _show(context)


def _list(context: Context) -> int:
    from hythe.client.trace_store import newest_roots

    roots = newest_roots(context.bus, context.namespace, max(0, context.args.limit))
    if context.args.quiet:
        for root in roots:
            print(root["trace_id"])
    elif context.as_json:
        for root in roots:
            output.json_line(root)
    else:
        now = time.time()
        output.table(
            ("TRACE ID", "COMMAND", "STARTED", "TOOK", "RESULT"),
            [
                (
                    str(root["trace_id"]),
                    str(root.get("name", "")),
                    f"{output.duration(now - int(root.get('start_ns', 0)) / 1e9)} ago",
                    f"{(int(root.get('end_ns', 0)) - int(root.get('start_ns', 0))) / 1e6:.1f} ms",
                    "ok" if root.get("status") == "ok" else f"error: {root.get('status_message', '')}",
                )
                for root in roots
            ],
        )
    return exits.OK


def _show(context: Context) -> int:
    from hythe.client.trace_store import find_trace_id, read_trace

    trace_id = find_trace_id(context.bus, context.namespace, context.args.id)
    found = read_trace(context.bus, trace_id)
    if context.as_json:
        from hythe.client.spans import to_json

        output.json_line(to_json(found))
    else:
        write_waterfall(found, sys.stdout)
    return exits.OK


def show_own(context: Context, code: int) -> None:
    """Send this command's spans now and write the waterfall of its trace to stderr.

    Raises:
        HytheError: the bus does not answer.
    """
    from hythe.client.trace_store import read_trace

    trace_id = context.finish(None, code)
    if not trace_id:
        output.warn("this command is not traced: its caller's TRACEPARENT says so")
        return
    write_waterfall(read_trace(context.bus, trace_id), sys.stderr)


def write_waterfall(found: Trace, out: TextIO) -> None:
    """Write a trace as wide as the terminal, in colour where that is one."""
    from hythe.cli.waterfall import render

    terminal = out.isatty()
    width = shutil.get_terminal_size((120, 24)).columns
    out.write(render(found, width, colour=terminal and not os.environ.get("NO_COLOR")))
    out.flush()
