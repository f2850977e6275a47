"""The receiving end of an io channel as a stream of chunks that are made into something here, at this command's own pace."""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hythe.client.attachment import Attachment

AHEAD_BYTES = 1 << 20


class Taken:
    """Stands where `hythe.client.io_channel.Sink` does; what it holds was granted, and is given out by `take`."""

    descriptor = -1
    polled = False
    gone = False
    failure: OSError | None = None

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()
        self._held = 0

    @property
    def empty(self) -> bool:
        """Tell whether `take` has nothing to return."""
        return not self._pieces

    def write(self, data: memoryview) -> int:
        """Take `data`, or nothing while more than 1 MiB waits to be given out."""
        if self._held >= AHEAD_BYTES:
            return 0
        self._pieces.append(data)
        self._held += len(data)
        return len(data)

    def take(self) -> memoryview | None:
        """Return the next piece, if there is one."""
        if not self._pieces:
            return None
        piece = self._pieces.popleft()
        self._held -= len(piece)
        return piece

    def close(self) -> None:
        """There is nothing to close."""


def chunks(attachment: Attachment, taken: Taken) -> Iterator[bytes]:
    """Yield what comes over the channel's ``stdout``, following its operation, to the end that the result says.

    Raises:
        HytheError: the operation's own error, or bytes that don't come.
    """
    while True:
        while (piece := taken.take()) is not None:
            yield piece.obj if len(piece) == len(piece.obj) else bytes(piece)  # type: ignore[arg-type, misc]  # it is of bytes
        if attachment.finished:
            return
        attachment.work()  # there may be more that came before
        if taken.empty:
            attachment.turn()
        result = attachment.operation.result
        if result is not None:
            attachment.channel.finals(int(result["stdout_bytes"]), 0)
