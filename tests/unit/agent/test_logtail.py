"""A log gives back exactly the bytes that the container wrote."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hythe_runtime.agent import logtail
from hythe_runtime.agent.logtail import LogStream, start_of_last

TIME = b"2026-11-23T20:41:22.284274031+00:00"
Write = tuple[str, bytes]


def as_conmon(writes: list[Write]) -> bytes:
    """Return the log of `writes` to the streams, as conmon's k8s-file driver makes it."""
    log = b""
    for stream, data in writes:
        for line in _lines(data):
            flag = b"F" if line.endswith(b"\n") else b"P"
            log += b"%s %s %s %s\n" % (TIME, stream.encode(), flag, line.removesuffix(b"\n"))
    return log


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def content(writes: list[Write], stream: str) -> bytes:
    return b"".join(data for name, data in writes if name == stream)


@pytest.fixture
def log() -> Iterator[Callable[[bytes], int]]:
    """A function that makes a log of these bytes and returns its descriptor."""
    fds: list[int] = []

    def make(data: bytes) -> int:
        fd = os.open(tempfile.gettempdir(), os.O_RDWR | os.O_TMPFILE)
        os.write(fd, data)
        fds.append(fd)
        return fd

    yield make
    for fd in fds:
        os.close(fd)


async def take_all(stream: LogStream, most: int = 1 << 20) -> bytes:
    data = b""
    while part := await stream.take(most):
        data += part
    return data


any_writes = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr"]),
        st.one_of(
            st.binary(min_size=1, max_size=200).map(lambda data: data.replace(b"\x0b", b"\n")),
            st.sampled_from([b"\n", b"x\n", b"abc", b" F ", b"t stdout F fake\n", b"t stdout F fake"]),
        ),
    ),
    max_size=30,
)


@given(writes=any_writes, most=st.integers(1, 100))
@settings(max_examples=200, deadline=None)
def test_any_writes_come_back_byte_for_byte_apart_by_stream(writes: list[Write], most: int) -> None:
    """Whatever a container writes, in whatever pieces, each stream is exact."""
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(as_conmon([write]) for write in writes))
        file.flush()
        for name in ("stdout", "stderr"):
            stream = LogStream(file.fileno(), name)
            assert asyncio.run(take_all(stream, most)) == content(writes, name)
            assert not stream.damaged


@given(
    writes=any_writes,
    moves=st.lists(st.tuples(st.integers(1, 300), st.integers(0, 100), st.integers(0, 100)), max_size=20),
)
@settings(max_examples=200, deadline=None)
def test_rewinding_to_any_byte_gives_the_same_bytes_again(
    writes: list[Write], moves: list[tuple[int, int, int]]
) -> None:
    """A receiver that missed something gets it again, wherever it was, with small blocks and checkpoints."""

    async def check() -> None:
        with tempfile.TemporaryFile() as file:
            file.write(b"".join(as_conmon([write]) for write in writes))
            file.flush()
            whole = content(writes, "stdout")
            stream = LogStream(file.fileno(), "stdout")
            for most, acknowledged, back in moves:
                start = stream.offset
                assert await stream.take(most) == whole[start : stream.offset]
                stream.acknowledge(stream.offset * acknowledged // 100)
                stream.rewind(stream.offset * back // 100)
            assert whole[: stream.offset] + await take_all(stream) == whole

    block, checkpoint = logtail.BLOCK_BYTES, logtail.CHECKPOINT_BYTES
    logtail.BLOCK_BYTES, logtail.CHECKPOINT_BYTES = 300, 50
    try:
        asyncio.run(check())
    finally:
        logtail.BLOCK_BYTES, logtail.CHECKPOINT_BYTES = block, checkpoint


async def test_line_that_is_still_being_written_waits(log: Callable[[bytes], int]) -> None:
    """A half-written log line is not sent until it is whole."""
    line = as_conmon([("stdout", b"hello\n")])
    fd = log(line[:-3])
    stream = LogStream(fd, "stdout")
    assert await stream.take(100) == b""
    assert not await stream.more()
    os.write(fd, line[-3:])
    assert await stream.more()
    assert await stream.take(100) == b"hello\n"


async def test_timestamps_begin_each_line_and_not_its_parts(log: Callable[[bytes], int]) -> None:
    """With timestamps a line that came in parts has one."""
    fd = log(as_conmon([("stdout", b"a"), ("stderr", b"e\n"), ("stdout", b"b\n"), ("stdout", b"c")]))
    stream = LogStream(fd, "stdout", timestamps=True)
    assert await take_all(stream) == TIME + b" ab\n" + TIME + b" c"


async def test_damaged_lines_are_left_out_and_noted(log: Callable[[bytes], int]) -> None:
    """Garbage in a log is not passed on as output."""
    good = as_conmon([("stdout", b"good\n")])
    stream = LogStream(log(good + b"garbage\n" + good), "stdout")
    assert await take_all(stream) == b"good\ngood\n"
    assert stream.damaged


async def test_a_megabyte_without_a_newline_is_not_read_into_memory_for_ever(log: Callable[[bytes], int]) -> None:
    """A log that is no log at all is skipped in bounded pieces."""
    stream = LogStream(log(b"x" * (3 << 20) + b"\n" + as_conmon([("stdout", b"end\n")])), "stdout")
    assert await take_all(stream) == b"end\n"
    assert stream.damaged


async def test_stop_ends_reading_while_the_log_grows(log: Callable[[bytes], int]) -> None:
    """A reader that doesn't follow ends where the log ended when it came."""
    line = as_conmon([("stdout", b"one\n")])
    fd = log(line)
    stream = LogStream(fd, "stdout", 0, len(line))
    os.write(fd, line)
    assert await take_all(stream) == b"one\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(0, b""), (1, b"d"), (2, b"c\nd"), (3, b"b1b2\nc\nd"), (4, b"a\nb1b2\nc\nd"), (9, b"a\nb1b2\nc\nd")],
)
async def test_last_lines_are_lines_of_output(log: Callable[[bytes], int], lines: int, expected: bytes) -> None:
    """The last lines are counted as the container wrote them, parts taken together."""
    fd = log(as_conmon([("stdout", b"a\nb1"), ("stdout", b"b2\nc\nd")]))
    assert await take_all(LogStream(fd, "stdout", start_of_last(fd, lines))) == expected


async def test_last_lines_of_a_long_log_are_found(log: Callable[[bytes], int]) -> None:
    """The end of a log of several blocks is found from its end."""
    fd = log(as_conmon([("stdout", b"%d\n" % i) for i in range(20_000)]))
    data = await take_all(LogStream(fd, "stdout", start_of_last(fd, 5_000)))
    assert data == b"".join(b"%d\n" % i for i in range(15_000, 20_000))
