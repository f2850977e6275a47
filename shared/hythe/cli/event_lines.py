"""How `hythe events` writes what it reads: a line for people, JSON Lines, or a template; gaps on stderr as well."""

from __future__ import annotations

import sys

from hythe.cli import event_filters, output
from hythe.client.event_reader import Missing, StoredEvent
from hythe.client.stream_parts import Gap
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from hythe.cli.templates import Template
    from hythe.client.event_reader import Unreadable

_NS = 1_000_000_000
_EVERY = ("caller", "request_id", "trace_id")


class Writer:
    """Writes what passes the filters; what is missing passes them all."""

    def __init__(self, form: str, filters: Sequence[str], *, verbose: bool) -> None:
        """Read form and filters.

        Raises:
            InvalidArgument: a filter or the template is not understood.
        """
        self._passes = event_filters.read(filters)
        self._json = form == "json"
        self._verbose = verbose
        self._template = _template(form) if "{{" in form else None

    def write(self, item: StoredEvent | Gap | Missing | Unreadable) -> None:
        """Write one item.

        Raises:
            InvalidArgument: the template names a field that events have not.
        """
        if isinstance(item, StoredEvent):
            if self._passes(item):
                self._event(item)
        elif isinstance(item, Gap):
            self._missing(
                {"gap": {"from": item.first, "to": item.last}},
                f"gap {item.first}..{item.last}: the stream no longer has what had these sequences",
            )
        elif isinstance(item, Missing):
            of = item.event.body
            about = {
                "type": item.event.noun,
                "namespace": of["namespace"],
                "host": of["host"],
                "object_id": of["object_id"],
            }
            self._missing(
                {"missing": {**about, "from": item.first, "to": item.last}},
                f"missing {item.first}..{item.last}: events of {item.event.noun} {of['object_id']} by their own numbers",
            )
        else:
            output.warn(f"message {item.sequence} is no event: {item.cause}")

    def _missing(self, told: dict[str, object], line: str) -> None:
        if self._json:
            output.json_line(told)
        sys.stdout.flush()
        print(output.visible(line), file=sys.stderr, flush=True)

    def _event(self, event: StoredEvent) -> None:
        if self._json:
            output.json_line({"seq": event.sequence, "type": event.noun, **event.body, "stored_at": _stored_at(event)})
        elif self._template is not None:
            print(self._template.render(_row(event)), flush=True)
        else:
            print(output.visible(self._line(event)), flush=True)

    def _line(self, event: StoredEvent) -> str:
        body = event.body
        attributes = body["attributes"]
        words = [body["time"], body["host"], body["topic"], body["object_id"]]
        if self._verbose:
            words += [f"{name}={attributes[name]}" for name in attributes]
            words += [f"{name}={body[name]}" for name in _EVERY if body[name]]
        else:
            shown = (name for name in attributes if attributes[name] and name.partition(".")[0] not in _LONG)
            words += [f"{name}={attributes[name]}" for name in shown]
        return " ".join(word for word in words if word)


_LONG = ("rootfs", "command", "io", "labels")


def _template(form: str) -> Template:
    from hythe.cli.templates import parse  # only where one is given

    template = parse(form)
    if template.table:
        raise InvalidArgument("read --format: events make no table, for they never end", next_step="leave `table` out")
    return template


def _row(event: StoredEvent) -> dict[str, Any]:
    """Return an event by Docker's names of fields, and Hythe's beside them."""
    from hythe.cli.templates import FreeMap

    body = event.body
    attributes = FreeMap(body["attributes"])
    at_s = output.epoch_s(body["time"]) or 0.0
    return {
        "Type": event.noun,
        "Action": body["topic"].rpartition("/")[2],
        "Actor": {"ID": body["object_id"], "Attributes": attributes},
        "ID": body["object_id"],
        "From": attributes.get("image", ""),
        "Time": int(at_s),
        "TimeNano": round(at_s * 1_000_000) * 1000,
        "Topic": body["topic"],
        "At": body["time"],
        "Namespace": body["namespace"],
        "Host": body["host"],
        "Number": body["number"],
        "Seq": event.sequence,
        "Caller": body["caller"],
        "RequestID": body["request_id"],
        "TraceID": body["trace_id"],
        "Attributes": attributes,
    }


def _stored_at(event: StoredEvent) -> str:
    from hythe.cli.moments import rfc3339_us

    return rfc3339_us(event.stored_ns / _NS)
