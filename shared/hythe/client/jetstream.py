"""Streams by plain ``$JS.API`` requests: make them, read single messages, read a stretch through a consumer.

Only what nats-server 2.9 and 2.15 both have is used; a newer option is sent where the server's version has it, and the
configuration that comes back is looked at, for old servers ignore in silence what they do not know.
"""

from __future__ import annotations

import binascii
import json

from hythe.client.answers import no_answer
from hythe.errors import HytheError, Internal, NotFound, ResourceExhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from hythe.client.protocol import Frame
    from hythe.client.sync_bus import SyncBus

BATCH = 256
_NO_MESSAGE = 10037
_NO_STREAM = 10059
_FETCH_TIMEOUT_S = 5.0


class Stored:
    """One stored message: its sequence in the stream, subject and bytes."""

    __slots__ = ("data", "sequence", "subject")

    def __init__(self, sequence: int, subject: str, data: bytes) -> None:
        self.sequence = sequence
        self.subject = subject
        self.data = data


def api(bus: SyncBus, call: str, body: dict[str, Any], *, timeout_s: float = _FETCH_TIMEOUT_S) -> dict[str, Any]:
    """Make one request ``$JS.API.<call>`` and return its answer.

    Raises:
        NotFound: there is no such stream or message; details ``err_code``.
        ResourceExhausted: the server has no room.
        Internal: any other refusal; `cause` is the server's text.
    """
    answer = json.loads(bus.request(f"$JS.API.{call}", json.dumps(body).encode(), None, timeout_s).data)
    error = answer.get("error")
    if error is None:
        found: dict[str, Any] = answer
        return found
    code = int(error.get("err_code", 0))
    kind: type[HytheError] = NotFound if code in (_NO_MESSAGE, _NO_STREAM) or error.get("code") == 404 else Internal
    if error.get("code") == 503 or code in (10023, 10047, 10028):
        kind = ResourceExhausted
    raise kind(
        f"ask JetStream {call}: refused",
        cause=str(error.get("description", "")),
        service="nats-server",
        details={"err_code": str(code)},
    )


def ensure_stream(bus: SyncBus, config: dict[str, Any]) -> dict[str, Any]:
    """Create the stream, or change the present one to `config`; return the configuration that the server then has."""
    name = str(config["name"])
    try:
        api(bus, f"STREAM.INFO.{name}", {})
    except NotFound:
        answer = api(bus, f"STREAM.CREATE.{name}", config)
    else:
        answer = api(bus, f"STREAM.UPDATE.{name}", config)
    found: dict[str, Any] = answer["config"]
    return found


def last_message(bus: SyncBus, stream: str, subject: str) -> Stored | None:
    """Return the newest message under `subject`, wildcards allowed, or None."""
    return _get(bus, stream, {"last_by_subj": subject})


def messages_of(bus: SyncBus, stream: str, subject: str, *, after: int = 0) -> Iterator[Stored]:
    """Yield the messages under `subject` beyond sequence `after`, one request each: for few messages among many."""
    sequence = after + 1
    while (found := _get(bus, stream, {"seq": sequence, "next_by_subj": subject})) is not None:
        yield found
        sequence = found.sequence + 1


def _get(bus: SyncBus, stream: str, body: dict[str, Any]) -> Stored | None:
    try:
        answer = api(bus, f"STREAM.MSG.GET.{stream}", body)["message"]
    except NotFound as error:
        if error.details.get("err_code") == str(_NO_MESSAGE):
            return None
        raise
    return Stored(int(answer["seq"]), str(answer["subject"]), binascii.a2b_base64(answer.get("data", "")))


class Consumer:
    """A short-lived reader of one filter, from the oldest message or from a time; use it as a block.

    Attributes:
        pending: messages that were there when the consumer was made.
    """

    def __init__(self, bus: SyncBus, stream: str, subject: str, *, since_rfc3339: str = "") -> None:
        self._bus = bus
        self._stream = stream
        config: dict[str, Any] = {
            "filter_subject": subject,
            "ack_policy": "none",
            "deliver_policy": "by_start_time" if since_rfc3339 else "all",
            "inactive_threshold": 30_000_000_000,
            "mem_storage": True,
        }
        if since_rfc3339:
            config["opt_start_time"] = since_rfc3339
        answer = api(bus, f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
        self.name = str(answer["name"])
        self.pending = int(answer["num_pending"])

        self._inbox = bus.new_inbox(separate=True)
        self._found: list[Stored] = []
        self._ended = False
        self._subscription = bus.subscribe(self._inbox, self._take)

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bus.unsubscribe(self._subscription)
        api(self._bus, f"CONSUMER.DELETE.{self._stream}.{self.name}", {})

    def _take(self, frame: Frame) -> None:
        if frame.status:
            self._ended = True
        else:
            self._found.append(Stored(_stream_sequence(frame.reply), frame.subject, frame.data))

    def read(self, most: int) -> Iterator[Stored]:
        """Yield up to `most` messages that are there, in order.

        Raises:
            DeadlineExceeded: the server stops in the middle.
        """
        left = most
        while left > 0:
            batch = self._batch(min(left, BATCH))
            yield from batch
            if not batch:
                return
            left -= len(batch)

    def _batch(self, size: int) -> list[Stored]:
        self._found, self._ended = [], False
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self.name}"
        self._bus.publish(subject, json.dumps({"batch": size, "no_wait": True}).encode(), None, self._inbox)
        while not self._ended and len(self._found) < size:
            if not self._bus.pump(_FETCH_TIMEOUT_S):
                raise no_answer(subject, _FETCH_TIMEOUT_S)
        return self._found


def _stream_sequence(reply: str) -> int:
    """Return the stream sequence that the reply subject of a consumed message holds.

    Spec: NATS ADR-15: ``$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.…``, two tokens more since 2.11.
    """
    parts = reply.split(".")
    offset = 5 if len(parts) == 9 else 7
    return int(parts[offset])
