"""nats-py made fit for what others may send: a malformed message is dropped, and never the connection.

nats-py's own parser stops reading for good at a subject that is no UTF-8, and resets the connection at one that holds a
vertical tab: nats-server passes both on, so whoever may publish one subject could have cut off a service.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping

import nats.aio.client
from nats.aio.client import PING_PROTO
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE, AWAITING_MSG_PAYLOAD, Parser

MAX_LINE_BYTES = 64 << 10
_CRLF = b"\r\n"

Take = Callable[[str, bytes, Mapping[str, str], str], None]
"""Takes a message: subject, data, headers, reply."""


class LineParser(Parser):
    """Splits the server's lines at blanks alone, as the server does.

    Spec: NATS client protocol, "MSG", "HMSG".
    """

    def __init__(self, client: nats.aio.client.Client, malformed: Callable[[], None]) -> None:
        """Make a parser for `client`; `malformed` is called for each message that is dropped."""
        super().__init__(client)
        self._malformed = malformed

    async def parse(self, data: bytes = b"") -> None:
        """Take the next bytes and hand what they complete to the client.

        Raises:
            ProtocolError: the server does not speak the protocol.
        """
        self.buf.extend(data)
        while self.buf:
            if self.state == AWAITING_MSG_PAYLOAD:
                if len(self.buf) < self.needed + len(_CRLF):
                    return
                await self._message()
                continue
            end = self.buf.find(_CRLF)
            if end < 0:
                if len(self.buf) > MAX_LINE_BYTES:
                    raise ProtocolError("nats: a line without end")
                return
            line = bytes(self.buf[:end])
            del self.buf[: end + len(_CRLF)]
            await self._line(line)

    async def _line(self, line: bytes) -> None:
        word, _, rest = line.partition(b" ")
        word = word.upper()
        if word in (b"MSG", b"HMSG"):
            self._expect(rest.split(b" "), with_headers=word == b"HMSG")
        elif word == b"PING":
            await self.nc._process_ping()
        elif word == b"PONG":
            await self.nc._process_pong()
        elif word == b"-ERR":
            await self.nc._process_err(rest.decode(errors="replace").strip().lower())
        elif word == b"INFO":
            await self.nc._process_info(json.loads(rest))
        elif word != b"+OK":
            raise ProtocolError("nats: unknown protocol")

    def _expect(self, parts: list[bytes], *, with_headers: bool) -> None:
        sizes = 2 if with_headers else 1
        try:
            subject, sid, *reply = parts[:-sizes]
            self.header_needed = int(parts[-2]) if with_headers else 0
            self.needed = int(parts[-1])
            self.msg_arg = {"subject": subject, "sid": int(sid), "reply": reply[0] if reply else b""}
        except (ValueError, IndexError) as error:
            raise ProtocolError("nats: malformed MSG") from error
        self.state = AWAITING_MSG_PAYLOAD

    async def _message(self) -> None:
        argument, headers_end, end = self.msg_arg, self.header_needed, self.needed
        headers, payload = bytes(self.buf[:headers_end]), bytes(self.buf[headers_end:end])
        del self.buf[: end + len(_CRLF)]
        self.state, self.header_needed = AWAITING_CONTROL_LINE, 0
        try:
            await self.nc._process_msg(argument["sid"], argument["subject"], argument["reply"], payload, headers)
        except (ValueError, IndexError):  # subject, reply or headers cannot be decoded
            self._malformed()


class RobustClient(nats.aio.client.Client):
    """A client that no message can stop, and whose `flush` waits for what was sent before it."""

    def __init__(self, malformed: Callable[[], None]) -> None:
        """Make a client that is not connected; `malformed` is called for each message that is dropped."""
        super().__init__()
        self._ps = LineParser(self, malformed)
        self._takers: dict[int, Take] = {}

    async def subscribe_directly(self, subject: str, queue: str, take: Take) -> Subscription:
        """Call `take` for each message as it is read; nats-py's own way is a queue and a task more for each.

        What it raises goes to the client's error callback, and the next message is taken.
        """

        async def before(message: Msg) -> None:
            take(message.subject, message.data, message.headers or {}, message.reply)

        self._takers[self._sid + 1] = take  # nothing of the subscription can arrive before its number is given out
        return await self.subscribe(subject, queue=queue, cb=before)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """Hand a message to who takes it directly, else to nats-py."""
        take = self._takers.get(sid)
        if take is None or sid not in self._subs:
            self._takers.pop(sid, None)
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        found = await self._process_headers(headers)
        words = subject.decode(), reply.decode()
        try:
            take(words[0], data, found or {}, words[1])
        except Exception as error:  # noqa: BLE001 - the endpoint: one message must not stop the others
            await self._error_cb(error)

    def reconnect_for_ever(self, wait_s: float) -> None:
        """From now on connect again whenever the connection breaks, trying every `wait_s` seconds."""
        self.options.update(
            allow_reconnect=True, max_reconnect_attempts=-1, reconnect_time_wait=wait_s, connect_timeout=2
        )

    def forget_unsent(self) -> None:
        """Forget what was to be sent when the connection broke, so that nothing is sent later than its caller was told."""
        self._pending = []
        self._pending_data_size = 0

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """Send a ping behind what waits to be sent; nats-py's own overtakes it, so that its pong proves nothing."""
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        """Take a pong, also when whoever waited for it has given up; nats-py's own would stop reading for good."""
        if self._pongs:
            waiting = self._pongs.pop(0)
            if not waiting.done():
                waiting.set_result(True)
            self._pings_outstanding = 0
