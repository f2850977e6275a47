"""The parser of what nats-server sends: the same messages however the bytes are cut, and none of them can stop it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError

from hythe.bus.nats_client import MAX_LINE_BYTES, LineParser

STREAM = (
    b'INFO {"server_id":"x"}\r\n'
    b"PING\r\n"
    b"MSG a.b 1 5\r\nhello\r\n"
    b"msg a.b 2 _INBOX.x 0\r\n\r\n"
    b"HMSG c 3 _INBOX.y 12 15\r\nNATS/1.0\r\n\r\nxyz\r\n"
    b"MSG \xff.\x0b 4 2\r\n\r\n\r\n"
    b"+OK\r\n"
    b"-ERR 'Permissions Violation for Publish to \"A.b\"'\r\n"
    b"PONG\r\n"
)


class Client:
    """Notes what the parser hands over; chokes on subjects that are no text, as nats-py does."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        self.seen.append(("msg", sid, subject.decode(), reply.decode(), data, headers))

    async def _process_ping(self) -> None:
        self.seen.append(("ping",))

    async def _process_pong(self) -> None:
        self.seen.append(("pong",))

    async def _process_err(self, text: str) -> None:
        self.seen.append(("err", text))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.seen.append(("info", info))


def parse(*chunks: bytes) -> tuple[list[tuple[Any, ...]], int]:
    """Return what was handed over and how many messages were dropped."""
    client, dropped = Client(), []
    parser = LineParser(client, lambda: dropped.append(1))  # type: ignore[arg-type]

    async def feed() -> None:
        for chunk in chunks:
            await parser.parse(chunk)

    asyncio.run(feed())
    return client.seen, len(dropped)


WHOLE = [
    ("info", {"server_id": "x"}),
    ("ping",),
    ("msg", 1, "a.b", "", b"hello", b""),
    ("msg", 2, "a.b", "_INBOX.x", b"", b""),
    ("msg", 3, "c", "_INBOX.y", b"xyz", b"NATS/1.0\r\n\r\n"),
    ("err", "'permissions violation for publish to \"a.b\"'"),
    ("pong",),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_messages_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    """The network may cut anywhere; the message that cannot be read is dropped, and those after it arrive."""
    edges = [0, *sorted(cuts), len(STREAM)]
    assert parse(*(STREAM[a:b] for a, b in itertools.pairwise(edges))) == (WHOLE, 1)


@pytest.mark.parametrize(
    "line", [b"HELLO\r\n", b"MSG a\r\n", b"MSG a x 1\r\n", b"MSG a 1 x\r\n", b"HMSG a 1 x 1\r\n", b"\r\n"]
)
def test_line_that_no_server_sends_is_a_protocol_error(line: bytes) -> None:
    """Whatever is no NATS server is not listened to."""
    with pytest.raises(ProtocolError):
        parse(line)


def test_line_without_end_is_a_protocol_error() -> None:
    """Nobody can fill the memory with one line."""
    with pytest.raises(ProtocolError):
        parse(b"x" * (MAX_LINE_BYTES + 1))
