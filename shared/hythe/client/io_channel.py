"""The receiving end of an io channel: a container's stdout and stderr, apart, without a gap, at the reader's pace.

The sender never sends a byte at or beyond the credit that it was granted by offset. Credit is granted after bytes were
written, so a slow reader slows the sender and nobody's memory grows; a gap asks for the bytes again (`hythe.wire.io`).
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections import deque

from hythe import subjects
from hythe.errors import DataLoss
from hythe.identifiers import decode_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hythe.client.io_input import Input
    from hythe.client.io_produced import Produced
    from hythe.client.io_taken import Taken
    from hythe.client.protocol import Frame
    from hythe.client.sync_bus import SyncBus

OFFSET_HEADER = "hythe-offset"
WINDOW_BYTES = 1 << 20
RESEND_INTERVAL_S = 0.2
DOUBT_S = 5.0
MISSING_TIMEOUT_S = 10.0
_PIPE_BYTES = 4096
_FILE_BYTES = 256 << 10


class Sink:
    """A descriptor that output is written to as fast as it takes it, never blocking where that can be avoided."""

    def __init__(self, descriptor: int) -> None:
        self.gone = False
        self.failure: OSError | None = None
        self.polled = False
        self._chunk = _FILE_BYTES
        self._own = False
        self.descriptor = descriptor
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError as error:
            self._lose(error)
            return
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            return
        self.polled, self._chunk = True, _PIPE_BYTES
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            self._reopen(descriptor)

    def _reopen(self, descriptor: int) -> None:
        """Open the same pipe or terminal once more, for non-blocking writes that don't change it for its other users."""
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            self.descriptor = os.open(f"/proc/self/fd/{descriptor}", flags)
        except OSError:
            return  # write in pieces that a pipe reported as writable takes
        self._chunk, self._own = _FILE_BYTES, True

    def write(self, data: memoryview) -> int:
        """Write what fits now and return how many bytes were taken; all of them once nobody reads any more."""
        if self.gone:
            return len(data)
        try:
            return os.write(self.descriptor, data[: self._chunk])
        except BlockingIOError:
            return 0
        except OSError as error:
            self._lose(error)
            return len(data)

    def _lose(self, error: OSError) -> None:
        self.gone = True
        if error.errno not in (errno.EPIPE, errno.EBADF):
            self.failure = error

    def close(self) -> None:
        """Close what was opened here."""
        if self._own:
            os.close(self.descriptor)
            self._own = False


class Stream:
    """One output stream: what has come, what was written, what may be sent."""

    def __init__(self, name: str, sink: Sink | Taken, window_bytes: int = WINDOW_BYTES) -> None:
        self.name = name
        self.sink = sink
        self._window_bytes = window_bytes
        self.have = 0
        self.written = 0
        self.until = window_bytes
        self.final: int | None = None
        self.asked_at = 0.0
        self.doubted_until = 0.0
        self._pieces: deque[memoryview] = deque()

    @property
    def pending(self) -> bool:
        """Tell whether bytes wait to be written."""
        return bool(self._pieces)

    @property
    def complete(self) -> bool:
        """Tell whether the end was announced and every byte up to it is written."""
        return self.final is not None and self.written >= self.final

    def take(self, offset: int, data: bytes) -> bool:
        """Keep the bytes that are new; False if bytes before them are missing."""
        if offset > self.have:
            return False
        new = data[self.have - offset :]
        if new:
            self.doubted_until = 0.0
            self._pieces.append(memoryview(new))
            self.have += len(new)
        return True

    def flush(self) -> None:
        """Write as much as the sink takes now."""
        while self._pieces:
            piece = self._pieces[0]
            count = self.sink.write(piece)
            self.written += count
            if count < len(piece):
                self._pieces[0] = piece[count:]
                if count == 0 or self.sink.polled:
                    return
            else:
                self._pieces.popleft()

    def grant(self) -> bool:
        """Raise the credit where enough was written since the last time; True if it must be told."""
        if self.written + self._window_bytes - self.until < self._window_bytes // 4:
            return False
        self.until = self.written + self._window_bytes
        return True


class IoChannel:
    """The streams of one container, or of one log, as the command line receives them."""

    def __init__(
        self,
        bus: SyncBus,
        namespace: str,
        *,
        stdout: int | Taken = 1,
        stderr: int = 2,
        source: Input | Produced | None = None,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        """Subscribe a fresh channel; put `opening` into the request that starts or attaches.

        Args:
            source: where the container's stdin comes from, if it has one.
            window_bytes: most bytes of each stream that may be on their way, or wait here.
        """
        self.channel = os.urandom(16).hex()
        self.host = ""
        self.exit_code: int | None = None
        self.gap = ""
        self.source = source
        self._bus = bus
        self._namespace = namespace
        self._ended = False
        self._missing_since = 0.0
        self._window_bytes = window_bytes
        out = Sink(stdout) if isinstance(stdout, int) else stdout
        self.streams = {
            "stdout": Stream("stdout", out, window_bytes),
            "stderr": Stream("stderr", Sink(stderr), window_bytes),
        }
        self._sid = bus.subscribe(subjects.io_of_channel(namespace, self.channel), self._receive)
        bus.on_reconnect(self._ask_again)

    @property
    def opening(self) -> dict[str, Any]:
        """The ``io`` field of the request."""
        return {"channel": self.channel, "credit_bytes": self._window_bytes}

    @property
    def complete(self) -> bool:
        """Tell whether the end was announced and all bytes are written."""
        return all(stream.complete for stream in self.streams.values())

    @property
    def nobody_reads(self) -> bool:
        """Tell whether a stream lost its reader."""
        return any(stream.sink.gone for stream in self.streams.values())

    @property
    def failure(self) -> OSError | None:
        """What made writing fail, beside a reader that went away."""
        return next((s.sink.failure for s in self.streams.values() if s.sink.failure is not None), None)

    def _receive(self, frame: Frame) -> None:
        token, _, name = frame.subject.rpartition(".")
        self.host = decode_token(token.split(".")[4])
        if name == "end":
            self._end(json.loads(frame.data))
        elif name in self.streams:
            self._chunk(self.streams[name], frame)
        elif name == "credit" and self.source is not None:
            body = json.loads(frame.data)
            if body.get("stream") == "stdin":
                self.source.credit(body)

    def _chunk(self, stream: Stream, frame: Frame) -> None:
        offset = frame.headers.get(OFFSET_HEADER, "")
        if not offset.isdigit():
            return
        if stream.take(int(offset), frame.data):
            self._missing_since = 0.0
        else:
            self._resend(stream)

    def _end(self, end: dict[str, Any]) -> None:
        self._ended = True
        self.exit_code = end.get("exit_code")
        self.gap = str(end.get("gap", ""))
        self.finals(int(end["stdout_bytes"]), int(end["stderr_bytes"]))

    def finals(self, stdout_bytes: int, stderr_bytes: int) -> None:
        """Note where both streams end."""
        self.streams["stdout"].final = stdout_bytes
        self.streams["stderr"].final = stderr_bytes

    def work(self) -> None:
        """Write what the sinks take, grant credit for it, send what stdin brought; call after each `pump`."""
        for stream in self.streams.values():
            stream.flush()
            if stream.grant():
                self._credit(stream, resend=False)
            if time.monotonic() < stream.doubted_until:
                self._resend(stream)
        if self.source is not None and self.host:
            subject = subjects.io(self._namespace, self.host, self.channel, "stdin")
            for offset, data in self.source.chunks():
                self._bus.publish(subject, data, {OFFSET_HEADER: str(offset)})

    def _credit(self, stream: Stream, *, resend: bool) -> None:
        if not self.host:
            return
        subject = subjects.io(self._namespace, self.host, self.channel, "credit")
        body = {"stream": stream.name, "have": stream.have, "until": stream.until, "resend": resend}
        self._bus.publish(subject, json.dumps(body).encode())

    def _resend(self, stream: Stream) -> None:
        """Ask for the bytes from `have` on, not more often than each 0.2 s."""
        now = time.monotonic()
        if now - stream.asked_at >= RESEND_INTERVAL_S:
            stream.asked_at = now
            self._credit(stream, resend=True)

    def _ask_again(self) -> None:
        """After a reconnect: ask from the first missing byte, and again for 5 s, for the host may return later than we."""
        for stream in self.streams.values():
            stream.asked_at = 0.0
            stream.doubted_until = time.monotonic() + DOUBT_S
            self._resend(stream)

    def check(self) -> None:
        """After the operation has its result: ask for bytes that are still missing.

        Raises:
            DataLoss: none of them came for 10 s.
        """
        missing = [s for s in self.streams.values() if s.final is None or s.have < s.final]
        if not missing:
            return
        now = time.monotonic()
        self._missing_since = self._missing_since or now
        for stream in missing:
            self._resend(stream)
        if now - self._missing_since > MISSING_TIMEOUT_S:
            worst = missing[0]
            of = "of unknown length" if worst.final is None else f"of {worst.final} bytes"
            raise DataLoss(
                f"receive {worst.name}: the host stopped sending after byte {worst.have} {of}",
                host=self.host,
                outcome="done",
                next_step="the container's log may have it: `hythe logs`",
            )

    def close(self) -> None:
        """End the subscription."""
        self._bus.unsubscribe(self._sid)
        for stream in self.streams.values():
            stream.sink.close()
