"""Takes a container's standard input from an io channel, in order, within the credit that it gives."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from hythe.errors import Unavailable
from hythe_runtime.agent.ending import end_all
from hythe_runtime.agent.ports import Attachment, IoTransport

log = logging.getLogger(__name__)

WINDOW_BYTES = 256 << 10


class InputPump:
    """One channel's standard input: chunks come by `take`, and `run` writes them to the container.

    Holds at most the bytes that it gave credit for, `window_bytes`.
    """

    def __init__(
        self,
        transport: IoTransport,
        namespace: str,
        channel: str,
        attachment: Attachment,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self._transport = transport
        self._namespace = namespace
        self._channel = channel
        self._attachment = attachment
        self._window_bytes = window_bytes
        self._chunks: deque[bytes] = deque()
        self._expected = 0
        self._written = 0
        self._granted = 0
        self._at_end = False
        self._gap = False
        self._wake = asyncio.Event()

    def take(self, offset: int, data: bytes) -> None:
        """Take the chunk whose first byte is byte `offset`; an empty one is the end.

        What was taken before is dropped; after a gap the client is asked to go on from where it was.
        """
        if self._at_end:
            return
        end = offset + len(data)
        if offset > self._expected or end > self._granted:
            self._gap = True
        elif not data:
            self._at_end = offset == self._expected
        elif end > self._expected:
            self._chunks.append(data[self._expected - offset :])
            self._expected = end
        self._wake.set()

    def bus_is_back(self) -> None:
        """Ask for what may have been lost while the bus was away."""
        self._gap = True
        self._wake.set()

    async def run(self) -> None:
        """Write to the container until the end of the input, or of the container."""
        try:
            await self._grant()
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._chunks:
                    chunk = self._chunks.popleft()
                    await self._attachment.write(chunk)
                    self._written += len(chunk)
                    if self._granted - self._written <= self._window_bytes // 2:
                        await self._grant()
                if self._at_end:
                    self._attachment.end()
                    await self._grant()
                    return
                if self._gap:
                    await self._grant()
        except Unavailable:
            log.info("a container takes no more input", extra={"channel": self._channel})

    async def _grant(self) -> None:
        resend, self._gap = self._gap, False
        self._granted = self._written + self._window_bytes
        try:
            await self._transport.grant(self._namespace, self._channel, self._expected, self._granted, resend=resend)
        except Unavailable:
            self._gap = True  # said again when the bus is back


class Inputs:
    """What clients send to this agent's containers, by channel; a container has one standard input at most."""

    def __init__(self, transport: IoTransport) -> None:
        self._transport = transport
        self._pumps: dict[tuple[str, str], InputPump] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    def open(self, namespace: str, channel: str, attachment: Attachment, window_bytes: int = WINDOW_BYTES) -> None:
        """Let the client of `channel` write to `attachment`; that holds at most `window_bytes` bytes here."""
        key = (namespace, channel)
        pump = self._pumps[key] = InputPump(self._transport, namespace, channel, attachment, window_bytes)
        task = asyncio.get_running_loop().create_task(pump.run(), name=f"input {channel}")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._forget(key))

    def _forget(self, key: tuple[str, str]) -> None:
        self._pumps.pop(key, None)
        self._tasks.pop(key, None)

    def drop(self, namespace: str, channel: str) -> None:
        """Stop taking input from `channel`."""
        task = self._tasks.get((namespace, channel))
        if task is not None:
            task.cancel()

    def take(self, namespace: str, channel: str, offset: int, data: bytes) -> None:
        """Pass a chunk to its container; unknown channels are ignored."""
        pump = self._pumps.get((namespace, channel))
        if pump is not None:
            pump.take(offset, data)

    async def close(self) -> None:
        """Stop taking input."""
        await end_all(self._tasks.values())

    def bus_is_back(self) -> None:
        """Ask every client for what may have been lost."""
        for pump in self._pumps.values():
            pump.bus_is_back()
