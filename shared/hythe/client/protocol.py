"""The NATS client protocol: bytes from the server become frames; no input or output happens here.

Spec: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

from hythe.errors import DataLoss

MAX_LINE_BYTES = 1 << 20


class Frame:
    """One thing that the server said.

    Attributes:
        kind: ``msg``, ``info``, ``ping``, ``pong``, ``ok`` or ``err``.
        subject, sid, reply, headers, status, data: of a message; header names as sent, `status` e.g. 503 or 0.
        text: JSON of ``info``, or the text of ``err``.
    """

    __slots__ = ("data", "headers", "kind", "reply", "sid", "status", "subject", "text")

    def __init__(self, kind: str, text: str = "") -> None:
        self.kind = kind
        self.text = text
        self.subject = ""
        self.sid = 0
        self.reply = ""
        self.headers: dict[str, str] = {}
        self.status = 0
        self.data = b""

    def __repr__(self) -> str:
        return f"Frame({self.kind} {self.subject or self.text})"


class Parser:
    """Collects bytes and gives the frames that are whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes and return the frames that they complete, in order.

        Raises:
            DataLoss: the bytes are not the NATS protocol.
        """
        self._buffer += data
        frames = []
        position = 0
        while True:
            end = self._buffer.find(b"\r\n", position)
            if end < 0:
                if len(self._buffer) - position > MAX_LINE_BYTES:
                    raise DataLoss("read from the bus: a line without end")
                break
            line = bytes(self._buffer[position:end])
            if line.startswith((b"MSG ", b"HMSG ")):
                message = self._message(line, end + 2)
                if message is None:
                    break
                frame, position = message
            else:
                frame, position = _control(line), end + 2
            frames.append(frame)
        del self._buffer[:position]
        return frames

    def _message(self, line: bytes, start: int) -> tuple[Frame, int] | None:
        """Return the message whose first line is `line` and where the next begins, or None while bytes are missing."""
        parts = line.decode().split()
        with_headers = parts[0] == "HMSG"
        try:
            total = int(parts[-1])
            header_size = int(parts[-2]) if with_headers else 0
            frame = Frame("msg")
            frame.subject, frame.sid = parts[1], int(parts[2])
            names = parts[3 : -2 if with_headers else -1]
        except (ValueError, IndexError) as error:
            raise DataLoss(f"read from the bus: not a message line: {line[:200]!r}") from error
        if len(self._buffer) < start + total + 2:
            return None
        frame.reply = names[0] if names else ""
        if with_headers:
            frame.status, frame.headers = _headers(bytes(self._buffer[start : start + header_size]))
        frame.data = bytes(self._buffer[start + header_size : start + total])
        return frame, start + total + 2


def _control(line: bytes) -> Frame:
    word, _, rest = line.partition(b" ")
    kinds = {b"INFO": "info", b"PING": "ping", b"PONG": "pong", b"+OK": "ok", b"-ERR": "err"}
    kind = kinds.get(word.upper())
    if kind is None:
        raise DataLoss(f"read from the bus: not the NATS protocol: {line[:200]!r}")
    return Frame(kind, rest.decode(errors="replace").strip().strip("'"))


def _headers(block: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = block.decode(errors="replace").split("\r\n")
    words = first.split()
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return status, headers


def encode_publish(subject: str, data: bytes, headers: dict[str, str], reply: str = "") -> bytes:
    """Return the bytes that publish one message."""
    to = f"{subject} {reply}" if reply else subject
    if not headers:
        return b"PUB %b %d\r\n%b\r\n" % (to.encode(), len(data), data)
    block = ("NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n").encode()
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (to.encode(), len(block), len(block) + len(data), block, data)
