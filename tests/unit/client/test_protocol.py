"""The parser of the NATS protocol gives the same frames however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.client.protocol import Parser, encode_publish
from hythe.errors import DataLoss

_STREAM = (
    b'INFO {"version":"2.15.1","nonce":"abc"}\r\n'
    b"PING\r\n+OK\r\nMSG a.b 1 5\r\nhello\r\n"
    b"MSG a.b 12 _INBOX.x 2\r\n\r\n\r\n"
    b"HMSG in.1 3 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"HMSG io.x 4 to.y 29 32\r\nNATS/1.0\r\nhythe-offset: 7\r\n\r\nabc\r\n"
    b"-ERR 'Permissions Violation for Publish to \"A.b\"'\r\nPONG\r\n"
)


def _summary(parts: list[bytes]) -> list[tuple[object, ...]]:
    parser = Parser()
    return [
        (f.kind, f.text, f.subject, f.sid, f.reply, f.status, f.headers, f.data)
        for part in parts
        for f in parser.feed(part)
    ]


@given(st.lists(st.integers(0, len(_STREAM)), max_size=12))
def test_bytes_cut_anywhere_give_the_same_frames(cuts: list[int]) -> None:
    """What the network does to the stream changes nothing."""
    edges = [0, *sorted(cuts), len(_STREAM)]
    parts = [_STREAM[a:b] for a, b in itertools.pairwise(edges)]
    assert _summary(parts) == _summary([_STREAM])


def test_each_kind_of_frame_is_read_whole() -> None:
    """Messages with and without headers, reply and status, control lines and errors."""
    kinds = [(f[0], f[2], f[3], f[4], f[5], f[7]) for f in _summary([_STREAM])]
    assert kinds == [
        ("info", "", 0, "", 0, b""),
        ("ping", "", 0, "", 0, b""),
        ("ok", "", 0, "", 0, b""),
        ("msg", "a.b", 1, "", 0, b"hello"),
        ("msg", "a.b", 12, "_INBOX.x", 0, b"\r\n"),
        ("msg", "in.1", 3, "", 503, b""),
        ("msg", "io.x", 4, "to.y", 0, b"abc"),
        ("err", "", 0, "", 0, b""),
        ("pong", "", 0, "", 0, b""),
    ]
    assert _summary([_STREAM])[6][6] == {"hythe-offset": "7"}
    assert _summary([_STREAM])[7][1] == 'Permissions Violation for Publish to "A.b"'


@given(st.binary(max_size=300), st.dictionaries(st.sampled_from(["a", "b-c"]), st.sampled_from(["1", "x y"])))
def test_published_message_comes_back_as_it_was(data: bytes, headers: dict[str, str]) -> None:
    """What encode_publish writes, the server's echo of it reads the same."""
    line = encode_publish("s.t", data, headers, "r")
    head, _, rest = line.partition(b"\r\n")
    words = head.split()
    echo = b" ".join([words[0].replace(b"PUB", b"MSG"), words[1], b"9", *words[2:]]) + b"\r\n" + rest
    (frame,) = Parser().feed(echo)
    assert (frame.subject, frame.sid, frame.reply, frame.headers, frame.data) == ("s.t", 9, "r", headers, data)


@pytest.mark.parametrize("junk", [b"HTTP/1.1 400 Bad Request\r\n", b"MSG a\r\n", b"HMSG a 1 x y\r\n", b"\r\n"])
def test_something_that_is_not_nats_is_refused(junk: bytes) -> None:
    """A port that speaks another protocol gives an error, not a hang or a traceback."""
    with pytest.raises(DataLoss):
        Parser().feed(junk)


def test_line_without_end_is_refused() -> None:
    """A peer that never ends its line cannot fill the memory."""
    with pytest.raises(DataLoss):
        Parser().feed(b"I" * ((1 << 20) + 1))
