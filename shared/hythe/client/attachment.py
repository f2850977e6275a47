"""An operation and its io channel brought forward together: one loop for the bus, the outputs, stdin and signals."""

from __future__ import annotations

import os
import select

from hythe.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hythe.client.io_channel import IoChannel
    from hythe.client.operation import Operation
    from hythe.client.sync_bus import SyncBus

_TURN_S = 1.0
_LAST_TURNS_S = 0.2


class Attachment:
    """Follows one operation whose result counts only with every byte of its channel."""

    def __init__(self, bus: SyncBus, operation: Operation, channel: IoChannel) -> None:
        self._bus = bus
        self.operation = operation
        self.channel = channel

    @property
    def finished(self) -> bool:
        """Tell whether the result is there and all bytes are written.

        Raises:
            HytheError: the operation's own error.
        """
        if self.operation.error is not None:
            raise self.operation.error
        return self.operation.result is not None and self.channel.complete

    def turn(self, wakeup: int | None = None, *, read_stdin: bool = False) -> None:
        """Wait for one thing to happen, at most a second, and deal with it.

        Args:
            wakeup: descriptor that becomes readable when a signal came; it is emptied.
            read_stdin: take input now, where the channel has a source.

        Raises:
            DataLoss: the result is there and the channel's last bytes don't come.
        """
        channel, operation = self.channel, self.operation
        poller = select.poll()
        poller.register(self._bus, select.POLLIN)
        if wakeup is not None:
            poller.register(wakeup, select.POLLIN)
        for stream in channel.streams.values():
            if stream.pending and stream.sink.polled:
                poller.register(stream.sink.descriptor, select.POLLOUT)
        source = channel.source if read_stdin else None
        if source is not None and source.wants_poll:
            poller.register(source.descriptor, select.POLLIN)
        wait_s = _LAST_TURNS_S if operation.done else min(_TURN_S, operation.wait_s())
        for descriptor, event in poller.poll(int(wait_s * 1000) + 1):
            if descriptor == wakeup:
                os.read(wakeup, 4096)
            elif source is not None and descriptor == source.descriptor and event & ~select.POLLOUT:
                source.read()
        try:
            self._bus.pump(0)
        except Unavailable as lost:
            operation.resume(lost)
        operation.check()
        if operation.result is not None:
            channel.check()
        self.work()

    def work(self) -> None:
        """Give on what has come, and say so; a connection that breaks meanwhile is made again."""
        try:
            self.channel.work()
        except Unavailable as lost:
            self.operation.resume(lost)
