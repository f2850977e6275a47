"""Following operations: requests that may take more than 2 s, one or several at a time (`hythe.wire.operation`)."""

from __future__ import annotations

import json
import time
from collections import deque

from hythe.client.answers import kind_of, not_running, read_answer, service_of
from hythe.client.problem import decode
from hythe.client.sync_bus import CALL_TIMEOUT_S
from hythe.errors import DeadlineExceeded, HytheError, NotFound, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from hythe.client.protocol import Frame
    from hythe.client.sync_bus import SyncBus

STATE_HEADER = "hythe-state"
SILENCE_S = 5.0
RETURN_S = 5.0
ASK_AGAIN_S = 0.2


class Operation:
    """One operation in progress; use it as a block, which ends following it.

    Attributes:
        result: the operation's result once it is done, else None.
        error: what ended it without a result, else None.
        progress: payloads that nobody has taken yet.
    """

    def __init__(self, bus: SyncBus, subject: str, body: dict[str, Any], request_id: str) -> None:
        """Send the request; `bus.pump` and `check` bring the operation forward."""
        self.request_id = request_id
        self.result: dict[str, Any] | None = None
        self.error: HytheError | None = None
        self.progress: deque[dict[str, Any]] = deque()
        self._bus = bus
        self._subject = subject
        self._accepted = False
        self._returning_until = 0.0
        headers = bus.headers_of_request(request_id, CALL_TIMEOUT_S)
        self._span = bus.begin_span(subject, headers)
        self._block = bus.waiting(subject, self._take, self._fail)
        inbox = self._block.__enter__()
        bus.publish(subject, json.dumps(body, separators=(",", ":")).encode(), headers, inbox)
        self._deadline = time.monotonic() + CALL_TIMEOUT_S

    def __enter__(self) -> Operation:
        return self

    def __exit__(self, *exc: object) -> None:
        self._block.__exit__()
        if self._span is not None and self._span.end_ns == 0:
            self._span.end(self.error)

    @property
    def done(self) -> bool:
        """Tell whether result or error is there."""
        return self.result is not None or self.error is not None

    def wait_s(self) -> float:
        """Return the longest time in seconds to wait before `check` is due."""
        return max(0.0, self._deadline - time.monotonic())

    def _take(self, frame: Frame) -> None:
        if self.done:
            return
        state = frame.headers.get(STATE_HEADER, "done")
        try:
            if frame.status == 503:
                raise not_running(self._subject)
            if state == "progress":
                self.progress.append(read_answer(frame, self._subject))
            elif state not in ("accepted", "alive"):
                self.result = read_answer(frame, self._subject)
        except HytheError as error:
            self.error = error
        self._accepted = True
        self._deadline = time.monotonic() + SILENCE_S

    def _fail(self, error: HytheError) -> None:
        self.error = self.error or error

    def check(self) -> None:
        """Judge silence: not accepted in time is an error; silent later, the service is asked for the state once.

        As long as it answers "running" the operation goes on: silence, not total time, is failure.
        """
        if self.done or self.wait_s() > 0:
            return
        if not self._accepted:
            self.error = self._bus.silence(self._subject, CALL_TIMEOUT_S)
        else:
            self.ask()

    def ask(self) -> None:
        """Ask the service for the state of this operation; no answer means that its outcome stays unknown.

        For 5 s after the connection came back the service may still be on its way back too, and is asked again.
        """
        subject = ".".join([*self._subject.split(".")[:-2], "operation", "get"])
        try:
            state = self._bus.call(subject, {"id": self.request_id})
        except (Unavailable, DeadlineExceeded) as error:
            if time.monotonic() < self._returning_until:
                self._deadline = time.monotonic() + ASK_AGAIN_S
            else:
                self._fail_unknown(error)
            return
        except NotFound:
            service = service_of(self._subject)
            self._fail_unknown(
                Unavailable(
                    f"ask {kind_of(self._subject)}: {service} was started anew and does not know the outcome",
                    service=service,
                    next_step="look whether it took effect; if not, try again",
                )
            )
            return
        except HytheError as error:
            self._fail_unknown(error)
            return
        if self.done:
            return
        self._accepted = True
        self._deadline = time.monotonic() + SILENCE_S
        if state.get("problem"):
            self.error = decode(str(state["problem"]).encode())
        elif state.get("state") == "done":
            self.result = json.loads(state["result"])

    def _fail_unknown(self, error: HytheError) -> None:
        if not self.done:
            error.outcome = "unknown"
            self.error = error

    def resume(self, lost: Unavailable) -> None:
        """After the connection broke: connect again and ask how the operation stands."""
        if not self._accepted:
            self.error = lost
            return
        try:
            self._bus.reconnect()
        except HytheError as error:
            self.error = error
            return
        self._returning_until = time.monotonic() + RETURN_S
        self._deadline = time.monotonic()

    def follow(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield ``("progress", payload)`` as it comes and at the end ``("done", result)``, or raise the error."""
        while True:
            while self.progress:
                yield "progress", self.progress.popleft()
            if self.error is not None:
                raise self.error
            if self.result is not None:
                yield "done", self.result
                return
            self.step(self.wait_s())

    def step(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for messages and judge what they, or their absence, mean."""
        try:
            self._bus.pump(min(timeout_s, self.wait_s()))
        except Unavailable as lost:
            self.resume(lost)
        self.check()


def follow_all(operations: Sequence[Operation]) -> None:
    """Bring all operations, of one connection, to their end; each then has its result or its error."""
    while unfinished := [operation for operation in operations if not operation.done]:
        nearest = min(unfinished, key=Operation.wait_s)
        nearest.step(nearest.wait_s())
        for operation in unfinished:
            operation.check()
