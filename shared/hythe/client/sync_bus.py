"""The command line's connection to the bus: requests, operations, subscriptions, one thing at a time.

Requests are at most once: no responders means not executed, silence means that the outcome is unknown (ARCHITECTURE §3).
"""

from __future__ import annotations

import json
import os
import time

from hythe import subjects
from hythe.bus import nkey
from hythe.client.answers import kind_of, no_answer, not_running, read_answer
from hythe.client.link import START_STACK, Link
from hythe.client.protocol import Frame, encode_publish
from hythe.client.waiting import Waiting, WaitingBlock
from hythe.errors import HytheError, PermissionDenied, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from hythe.client.operation import Operation
    from hythe.client.root_span import CommandSpan, CommandTrace
    from hythe.settings import Settings

CALL_TIMEOUT_S = 1.8
SERVER_TIMEOUT_S = 0.1
RECONNECT_S = 5.0
REQUEST_ID_HEADER = "hythe-request-id"
BEGIN_BEFORE_HEADER = "hythe-begin-before"
TIMEOUT_HEADER = "hythe-timeout-ms"


class SyncBus:
    """A connection with its own inbox; not for use by several threads."""

    def __init__(self, url: str, key: nkey.Key, key_name: str, trace: CommandTrace | None = None) -> None:
        """Connect; see `Link` for the errors.

        Args:
            key_name: name of the key, which fixes the caller in subjects and the prefix of the inboxes.
            trace: makes a span for each request and carries its context to the services.
        """
        self.key_name = key_name
        self.url = url
        self.trace = trace
        self._key = key
        self._inbox = f"{subjects.inbox_prefix(key_name)}.{os.urandom(11).hex()}"
        self._inbox_number = 0
        self._waiting: dict[str, Waiting] = {}
        self._callbacks: dict[int, tuple[str, Callable[[Frame], None]]] = {}
        self._pongs = 0
        self._on_reconnect: list[Callable[[], None]] = []
        self._link = self._connect()

    def _connect(self) -> Link:
        link = Link(self.url, self._key, f"hythe-{self.key_name}")
        lines = [f"SUB {self._inbox}.* 1\r\n"]
        lines += [f"SUB {subject} {sid}\r\n" for sid, (subject, _) in self._callbacks.items()]
        link.send("".join(lines).encode())
        return link

    def reconnect(self) -> None:
        """Connect again, within 5 s, and bring the subscriptions back.

        Raises:
            Unavailable: no server answers in that time; outcome of what was in flight unknown.
        """
        self._link.close()
        deadline = time.monotonic() + RECONNECT_S
        while True:
            try:
                self._link = self._connect()
                self.flush()
                break
            except Unavailable as error:
                if time.monotonic() > deadline:
                    error.outcome = "unknown"
                    raise
                time.sleep(0.05)
        for callback in self._on_reconnect:
            callback()

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each reconnect."""
        self._on_reconnect.append(callback)

    @property
    def server_version(self) -> str:
        """Version of the server, e.g. ``2.15.1``."""
        return str(self._link.info.get("version", ""))

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when `pump` has something to do."""
        return self._link.fileno()

    def new_inbox(self, *, separate: bool = False) -> str:
        """Return a fresh reply subject of this connection; a `separate` one is for a subscription of its own."""
        self._inbox_number += 1
        return f"{self._inbox}{'.own' if separate else ''}.{self._inbox_number}"

    def publish(self, subject: str, data: bytes, headers: dict[str, str] | None = None, reply: str = "") -> None:
        """Send one message; nothing says whether somebody got it.

        Raises:
            Unavailable: the connection is broken.
        """
        self._link.send(encode_publish(subject, data, headers or {}, reply))

    def subscribe(self, subject: str, callback: Callable[[Frame], None]) -> int:
        """Call `callback` from `pump` for each message on `subject`; the number returned ends it."""
        sid = max(self._callbacks, default=1) + 1
        self._callbacks[sid] = (subject, callback)
        self._link.send(f"SUB {subject} {sid}\r\n".encode())
        return sid

    def unsubscribe(self, sid: int) -> None:
        """End a subscription."""
        del self._callbacks[sid]
        self._link.send(f"UNSUB {sid}\r\n".encode())

    def listen(self, callback: Callable[[Frame], None]) -> tuple[str, Callable[[], None]]:
        """Return a fresh inbox whose every message goes to `callback`, and a function that ends it."""
        inbox = self.new_inbox()
        self._waiting[inbox] = Waiting("", callback, None)

        def stop() -> None:
            self._waiting.pop(inbox, None)

        return inbox, stop

    def pump(self, timeout_s: float) -> bool:
        """Take what arrives within `timeout_s` and hand it to those who wait; tell whether any bytes came.

        Raises:
            Unavailable: the connection broke; `reconnect` may help.
        """
        frames = self._link.receive(timeout_s)
        for frame in frames or ():
            if frame.kind == "msg":
                self._deliver(frame)
            elif frame.kind == "pong":
                self._pongs += 1
            elif frame.kind == "err":
                self._see_error(frame.text)
        return frames is not None

    def _deliver(self, frame: Frame) -> None:
        if frame.sid == 1:
            waiting = self._waiting.get(frame.subject)
            if waiting is not None:
                waiting.take(frame)
        elif frame.sid in self._callbacks:
            self._callbacks[frame.sid][1](frame)

    def _see_error(self, text: str) -> None:
        lowered = text.lower()
        if "permissions violation" not in lowered:
            return
        for waiting in self._waiting.values():
            if waiting.subject and f'"{waiting.subject.lower()}"' in lowered and waiting.refused is not None:
                waiting.refused(
                    PermissionDenied(
                        f"ask {kind_of(waiting.subject)}: the key {self.key_name!r} may not publish {waiting.subject}",
                        cause=text,
                        next_step="use a key whose permissions cover it",
                    )
                )

    def flush(self, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Wait until the server has taken everything sent so far.

        Raises:
            Unavailable: it does not answer, or the connection broke.
        """
        wanted = self._pongs + 1
        self._link.send(b"PING\r\n")
        deadline = time.monotonic() + timeout_s
        while self._pongs < wanted:
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"use the bus at {self.url}: nats-server did not answer within {timeout_s:.1f} s",
                    service="nats-server",
                    outcome="unknown",
                )
            self.pump(deadline - time.monotonic())

    def request(
        self,
        subject: str,
        data: bytes,
        headers: dict[str, str] | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        *,
        service: str = "",
    ) -> Frame:
        """Send raw bytes and return the first reply.

        Raises:
            Unavailable: nobody listens: not executed. Or the connection broke: unknown.
            DeadlineExceeded: no reply within `timeout_s`: outcome unknown.
            PermissionDenied: the key may not publish `subject`.
        """
        answers: list[Frame | HytheError] = []
        with self.waiting(subject, answers.append, answers.append) as inbox:
            self.publish(subject, data, headers, inbox)
            deadline = time.monotonic() + timeout_s
            while not answers:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self.silence(subject, timeout_s, service)
                self.pump(left)
        answer = answers[0]
        if isinstance(answer, HytheError):
            raise answer
        if answer.status == 503:
            raise not_running(subject, service)
        return answer

    def silence(self, subject: str, waited_s: float, service: str = "") -> HytheError:
        """Return the error for a request without an answer: it names the service, or the server if that is silent too."""
        try:
            self.flush(SERVER_TIMEOUT_S)
        except HytheError as error:
            return error
        return no_answer(subject, waited_s, service)

    def waiting(
        self, subject: str, take: Callable[[Frame], object], refused: Callable[[HytheError], object]
    ) -> WaitingBlock:
        """Return a block during which replies to a fresh inbox go to `take`, and refusals of `subject` to `refused`."""
        return WaitingBlock(self._waiting, self.new_inbox(), Waiting(subject, take, refused))

    def headers_of_request(self, request_id: str, timeout_s: float) -> dict[str, str]:
        """Return the headers that every request carries but the trace context."""
        return {
            REQUEST_ID_HEADER: request_id,
            TIMEOUT_HEADER: str(int(timeout_s * 1000)),
            BEGIN_BEFORE_HEADER: str(int((time.time() + timeout_s) * 1000)),
        }

    def call(
        self, subject: str, body: dict[str, Any], *, request_id: str = "", timeout_s: float = CALL_TIMEOUT_S
    ) -> dict[str, Any]:
        """Make one request and return its answer.

        Raises:
            HytheError: whatever the service answered, beside the errors of `request`.
        """
        headers = self.headers_of_request(request_id or os.urandom(16).hex(), timeout_s)
        data = json.dumps(body, separators=(",", ":")).encode()
        span = self.begin_span(subject, headers)
        try:
            answer = read_answer(self.request(subject, data, headers, timeout_s), subject)
        except HytheError as error:
            if span is not None:
                span.end(error)
            raise
        if span is not None:
            span.end()
        return answer

    def begin_span(self, subject: str, headers: dict[str, str]) -> CommandSpan | None:
        """Start the span of a request and add its context to `headers`; None where this connection has no trace."""
        if self.trace is None:
            return None
        span = self.trace.begin_request(kind_of(subject), subject)
        headers.update(self.trace.headers(span))
        return span

    def begin(self, subject: str, body: dict[str, Any], *, request_id: str = "") -> Operation:
        """Start or join an operation; the caller follows it, alone or beside others (`Operation.follow`)."""
        from hythe.client.operation import Operation  # not needed by short commands

        return Operation(self, subject, body, request_id or os.urandom(16).hex())

    def operate(
        self, subject: str, body: dict[str, Any], *, request_id: str = ""
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Run an operation: yield ``("progress", payload)`` as it comes, at the end ``("done", result)``.

        Raises:
            Unavailable: nobody listens (not executed), or the bus stays away (outcome unknown).
            DeadlineExceeded: not accepted within 1.8 s, or silent for 5 s and unable to say its state: unknown.
            HytheError: the operation's own error.
        """
        with self.begin(subject, body, request_id=request_id) as operation:
            yield from operation.follow()

    def close(self) -> None:
        """Close the connection; `flush` first what must arrive."""
        self._link.close()


def open_bus(settings: Settings, trace: CommandTrace | None = None) -> SyncBus:
    """Connect to the bus of the stack that `settings` name, with the key that they name.

    Raises:
        Unavailable: the stack is not running, or its bus does not answer.
        FailedPrecondition: the key cannot be read.
    """
    url = settings.nats_url or read_bus_file(settings.bus_file_text)
    path = settings.key_text
    return SyncBus(url, nkey.load(path), os.path.basename(path).removesuffix(".nk"), trace)  # noqa: PTH119 (start-up)


def read_bus_file(path: str) -> str:
    """Return the address of the bus that `hythe up` wrote down.

    Raises:
        Unavailable: there is none: the stack is not running.
    """
    try:
        with open(path, "rb") as file:
            return str(json.loads(file.read())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        raise Unavailable(
            f"find the bus: the stack is not running (no {path})", service="nats-server", next_step=START_STACK
        ) from None
