"""``hythe events``: what happens in the namespace, live, and with ``--since`` what has happened."""

from __future__ import annotations

import json
import sys
import time

from hythe import subjects
from hythe.cli import exits, output
from hythe.errors import InvalidArgument, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def events_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe events`."""
    parser.description = "Show the events of the namespace as they happen, until interrupted."
    parser.add_argument("--since", default="", metavar="TIME", help="begin with stored ones: 10m, 2h, or RFC 3339")
    parser.add_argument("--no-follow", action="store_true", help="with --since: end after the stored ones")


def events(context: Context) -> int:
    """Show events; each once and, per object, in the order of its number."""
    arguments = context.args
    since = _since(arguments.since)
    if arguments.no_follow and not since:
        raise InvalidArgument("read the options: --no-follow needs --since")
    shown: set[tuple[str, str, str, int]] = set()

    def show(data: bytes) -> None:
        event = json.loads(data)
        key = (event["topic"].split("/")[1], event["host"], event["object_id"], event["number"])
        if key in shown:
            return  # live and stored overlap while the one goes over into the other
        shown.add(key)
        _write(context, event)

    subject = subjects.events_of_namespace(context.namespace)
    live: list[bytes] = []
    if not arguments.no_follow:
        context.bus.subscribe(subject, lambda frame: live.append(frame.data))
        context.bus.flush()
    if since:
        from hythe.client.jetstream import Consumer

        with Consumer(context.bus, subjects.EVENT_STREAM, subject, since_rfc3339=since) as consumer:
            for stored in consumer.read(consumer.pending):
                show(stored.data)
    if arguments.no_follow:
        return exits.OK
    if sys.stderr.isatty():
        sys.stderr.write(f"watching namespace {context.namespace}; Ctrl-C ends\n")
    try:
        while True:
            while live:
                show(live.pop(0))
            try:
                context.bus.pump(60)
            except Unavailable:
                context.bus.reconnect()
    except KeyboardInterrupt:
        return exits.OK


def _write(context: Context, event: dict[str, Any]) -> None:
    if context.as_json:
        output.json_line(event)
    else:
        details = " ".join(f"{key}={value}" for key, value in event["attributes"].items())
        place = f" {event['host']}" if event["host"] else ""
        line = f"{event['time']}{place} {event['topic']} {event['object_id']} {details}".rstrip()
        print(output.visible(line), flush=True)


def _since(text: str) -> str:
    """Return the RFC 3339 time that `text` means: one itself, or a span back from now such as ``10m``."""
    if not text:
        return ""
    if text[:-1].isdigit() and text[-1] in UNITS_S:
        at = time.time() - int(text[:-1]) * UNITS_S[text[-1]]
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    try:
        time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        raise InvalidArgument(f"read --since {text!r}: expected e.g. 10m, 2h or 2026-11-23T20:15:00Z") from None
    return text if text.endswith("Z") or "+" in text[19:] else text + "Z"
