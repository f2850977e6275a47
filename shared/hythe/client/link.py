"""One socket to the server of the bus: connect, prove the key, send, receive; what is known when it breaks."""

from __future__ import annotations

import json
import select
import socket
import time

from hythe.client.protocol import Frame, Parser
from hythe.errors import InvalidArgument, Unauthenticated, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hythe.bus.nkey import Key

CONNECT_TIMEOUT_S = 1.5
RECEIVE_BYTES = 512 << 10
START_STACK = "start it with `hythe up --detach`"


class Link:
    """A connection that has sent its credentials; whether the server accepts them shows with the first frames."""

    def __init__(self, url: str, key: Key, name: str) -> None:
        """Connect to `url` and sign the server's nonce with `key`.

        Raises:
            InvalidArgument: `url` is not ``nats://host:port``.
            Unavailable: nothing listens there, or what listens does not speak within 1.5 s.
        """
        self.url = url
        host, port = parse_url(url)
        self._parser = Parser()
        self.last_error = ""
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        try:
            self._socket = _open(host, port)
        except TimeoutError:
            raise _silent(url) from None
        except OSError as error:
            raise Unavailable(
                f"connect to the bus at {url}: nats-server does not listen there; the stack is not running",
                cause=error.strerror or str(error),
                service="nats-server",
                next_step=START_STACK,
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(None)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        try:
            self.info = self._hello(deadline)
            self.send(_connect_line(key, str(self.info.get("nonce", "")), name))
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the socket's descriptor, for polling beside others."""
        return self._socket.fileno()

    def _hello(self, deadline: float) -> dict[str, object]:
        while time.monotonic() < deadline:
            for frame in self.receive(deadline - time.monotonic()) or ():
                if frame.kind == "info":
                    found: dict[str, object] = json.loads(frame.text)
                    return found
        raise _silent(self.url)

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            Unauthenticated: the server does not know the key.
            Unavailable: the connection is broken.
        """
        try:
            self._socket.sendall(data)
        except OSError as error:
            self._read_last_words()
            raise self._broken(self.last_error or error.strerror or str(error)) from error

    def receive(self, timeout_s: float) -> list[Frame] | None:
        """Return the frames that the next bytes complete, or None when none come within `timeout_s`; answers pings.

        Raises:
            Unauthenticated: the server does not know the key.
            Unavailable: the connection is broken.
        """
        if not self._poll.poll(max(0, int(timeout_s * 1000 + 0.999))):
            return None
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except OSError as error:
            raise self._broken(error.strerror or str(error)) from error
        if not data:
            raise self._broken(self.last_error or "closed by the server")
        frames = self._parser.feed(data)
        self._look_at(frames)
        return frames

    def _look_at(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.kind == "ping":
                self.send(b"PONG\r\n")
            elif frame.kind == "err":
                self.last_error = frame.text
                if frame.text.lower().startswith(("authorization violation", "authentication")):
                    raise Unauthenticated(
                        f"connect to the bus at {self.url}: it does not know this key",
                        cause=frame.text,
                        service="nats-server",
                        next_step="use a key of this stack: HYTHE_ROOT and HYTHE_STATE must belong together",
                    )

    def _read_last_words(self) -> None:
        """Take what the server said before it closed: the reason, when it does not know the key."""
        try:
            while self._poll.poll(0) and (data := self._socket.recv(RECEIVE_BYTES)):
                self._look_at(self._parser.feed(data))
        except OSError:
            pass

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _broken(self, cause: str) -> Unavailable:
        return Unavailable(
            f"use the bus at {self.url}: the connection broke",
            cause=cause,
            service="nats-server",
            outcome="unknown",
            next_step="`hythe status` shows whether the stack runs",
        )


def _open(host: str, port: int) -> socket.socket:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return socket.create_connection((host, port), CONNECT_TIMEOUT_S)
    connection = socket.socket()  # looking a number up would load the tables of international names: 1 ms
    try:
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.connect((host, port))
    except BaseException:
        connection.close()
        raise
    return connection


def parse_url(url: str) -> tuple[str, int]:
    """Return host and port of ``nats://host[:port]``.

    Raises:
        InvalidArgument: it is something else; TLS is not offered on a single host.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "nats", url
    host, colon, port = rest.strip("/").rpartition(":")
    if not colon:
        host, port = port, "4222"
    host = host.removeprefix("[").removesuffix("]")
    if scheme != "nats" or not host or "@" in host or not port.isdigit():
        raise InvalidArgument(f"read the address of the bus {url!r}: expected nats://host:port")
    return host, int(port)


def _connect_line(key: Key, nonce: str, name: str) -> bytes:
    options = {
        "verbose": False,
        "pedantic": False,
        "echo": False,
        "headers": True,
        "no_responders": True,
        "protocol": 1,
        "lang": "hythe",
        "version": "1",
        "name": name,
        "nkey": key.public,
        "sig": key.signature_text(nonce),
    }
    return b"CONNECT " + json.dumps(options, separators=(",", ":")).encode() + b"\r\n"


def _silent(url: str) -> Unavailable:
    return Unavailable(
        f"connect to the bus at {url}: nats-server did not answer within {CONNECT_TIMEOUT_S} s",
        service="nats-server",
        next_step="`hythe status` shows whether it hangs; stop it and `hythe up` starts another",
    )
