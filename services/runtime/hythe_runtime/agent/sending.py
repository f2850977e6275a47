"""Sends bytes that exist only once, such as an archive in the making, over an io channel within the receiver's credit."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from hythe.errors import DeadlineExceeded, Unavailable
from hythe_runtime.agent.ports import IoTransport
from hythe_runtime.agent.stdio import Channel

CHUNK_BYTES = 256 << 10
GIVE_UP_S = 300.0
LINGER_S = 10.0
RETRY_S = 0.2
STREAM = "stdout"


class Sending:
    """One stream. What the receiver has not acknowledged is kept, at most the credit that it gave.

    Attributes:
        offset: bytes read so far; at the end, the length of the stream.
    """

    def __init__(
        self,
        transport: IoTransport,
        channel: Channel,
        read: Callable[[int], Awaitable[bytes]],
        *,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        """Prepare to send what `read` gives, given the most bytes it may; nothing is its end.

        Args:
            give_up_s: how long a receiver may give no credit while bytes wait for it.
        """
        self._transport = transport
        self._channel = channel
        self._read = read
        self._give_up_s = give_up_s
        self._kept: deque[tuple[int, bytes]] = deque()
        self._have = 0
        self._sent = 0
        self._until = channel.credit_bytes
        self._mark = False
        self._heard = time.monotonic()
        self._wake = asyncio.Event()
        self.offset = 0

    def credit(self, stream: str, have: int, until: int, *, resend: bool) -> None:
        """Take the receiver's word: it has all below `have`, takes all below `until`, and may want `have` on again."""
        if stream != STREAM:
            return
        self._heard = time.monotonic()
        if self._have <= have <= self._sent:
            self._have = have
            while self._kept and self._kept[0][0] + len(self._kept[0][1]) <= have:
                self._kept.popleft()
        self._until = max(self._until, until)
        if resend:
            self._sent = self._have
        self._wake.set()

    def bus_is_back(self) -> None:
        """Let the receiver see what it missed meanwhile."""
        self._mark = True
        self._wake.set()

    async def run(self) -> None:
        """Send everything; return when the last byte was sent.

        Raises:
            DeadlineExceeded: the receiver gave no credit for long.
        """
        while True:
            self._wake.clear()
            if await self._catch_up():
                continue
            room = min(CHUNK_BYTES, self._until - self.offset)
            if room > 0:
                data = await self._read(room)
                if not data:
                    return
                self._kept.append((self.offset, data))
                self.offset += len(data)
            elif not await self._woken(self._heard + self._give_up_s):
                raise DeadlineExceeded(f"send over channel {self._channel.id}: the receiver takes nothing any more")

    async def linger(self) -> None:
        """Stay for 10 s after the end, or until everything is acknowledged, and send again what is asked for."""
        until = time.monotonic() + LINGER_S
        while self._have < self.offset:
            self._wake.clear()
            if not await self._catch_up() and not await self._woken(until):
                return

    async def _catch_up(self) -> bool:
        """Send one thing that is due; False when there is none."""
        before = self._sent
        try:
            if self._mark:
                self._mark = False
                await self._send(before, b"")  # to a receiver that missed bytes before it, a gap
                return True
            if before < self.offset:
                start, data = next(piece for piece in self._kept if piece[0] + len(piece[1]) > before)
                self._sent = start + len(data)  # ahead: the receiver may ask for it again meanwhile
                await self._send(start, data)
                return True
        except Unavailable:
            self._sent = min(self._sent, max(before, self._have))
            await asyncio.sleep(RETRY_S)
            return True
        return False

    async def _send(self, offset: int, data: bytes) -> None:
        await self._transport.send(self._channel.namespace, self._channel.id, STREAM, offset, data)

    async def _woken(self, until: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True
