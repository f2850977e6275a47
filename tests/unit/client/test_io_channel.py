"""The receiving end of an io channel: every byte once and in order, at the reader's pace, whatever the bus loses."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hythe import subjects
from hythe.client import io_channel
from hythe.client.io_channel import WINDOW_BYTES, IoChannel, Sink
from hythe.client.io_input import KEPT_BYTES, Input
from hythe.client.protocol import Frame
from hythe.client.sync_bus import SyncBus
from hythe.errors import DataLoss


class Wire:
    """A bus that keeps what is published and lets a test deliver what it wants."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, dict[str, str]]] = []
        self.subscribed = ""
        self._deliver: Callable[[Frame], None] = lambda frame: None

    def subscribe(self, subject: str, callback: Callable[[Frame], None]) -> int:
        self.subscribed, self._deliver = subject, callback
        return 2

    def unsubscribe(self, sid: int) -> None:
        self._deliver = lambda frame: None

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self.reconnected = callback

    def publish(self, subject: str, data: bytes, headers: dict[str, str] | None = None, reply: str = "") -> None:
        self.sent.append((subject, data, headers or {}))

    def bring(self, channel: IoChannel, stream: str, data: bytes, offset: int | None = None) -> None:
        """Deliver one message of the host."""
        frame = Frame("msg")
        frame.subject = subjects.io("default", "h1.lab", channel.channel, stream)
        frame.data = data
        frame.headers = {} if offset is None else {"hythe-offset": str(offset)}
        self._deliver(frame)

    def end(self, channel: IoChannel, stdout: int, stderr: int, **more: Any) -> None:
        """Deliver the end of the channel."""
        body = {"exit_code": 0, "stdout_bytes": stdout, "stderr_bytes": stderr, **more}
        self.bring(channel, "end", json.dumps(body).encode())

    def credits(self) -> list[dict[str, Any]]:
        """Return all credit that was granted."""
        return [json.loads(data) for subject, data, _ in self.sent if subject.endswith(".credit")]


def _channel(wire: Wire, tmp_path: Path, source: Input | None = None) -> IoChannel:
    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    err = os.open(tmp_path / "err", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    return IoChannel(cast(SyncBus, wire), "default", stdout=out, stderr=err, source=source)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_order_loss_and_repetition_ends_in_the_same_output(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Chunks may be lost, late or doubled: with resends the output is whole, and no byte comes twice."""
    wire, tmp_path = Wire(), tmp_path_factory.mktemp("io")
    channel = _channel(wire, tmp_path)
    whole = data.draw(st.binary(min_size=1, max_size=400))
    cuts = sorted({0, len(whole), *data.draw(st.lists(st.integers(0, len(whole)), max_size=8))})
    chunks = [(a, whole[a:b]) for a, b in itertools.pairwise(cuts)]
    for offset, chunk in data.draw(st.lists(st.sampled_from(chunks), max_size=20)):
        wire.bring(channel, "stdout", chunk, offset)
        channel.work()
    wire.end(channel, len(whole), 0)
    for _ in range(len(chunks) + 1):
        have = channel.streams["stdout"].have
        wire.bring(channel, "stdout", whole[have:], have)
        channel.work()
    assert channel.complete
    assert (tmp_path / "out").read_bytes() == whole
    channel.close()


def test_gap_asks_for_the_missing_bytes_once_in_a_while(tmp_path: Path) -> None:
    """A gap is answered by a resend from the first missing byte, not by a flood of them."""
    wire = Wire()
    channel = _channel(wire, tmp_path)
    wire.bring(channel, "stdout", b"ab", 0)
    for offset in (10, 12, 14):
        wire.bring(channel, "stdout", b"xx", offset)
    assert wire.credits() == [{"stream": "stdout", "have": 2, "until": WINDOW_BYTES, "resend": True}]
    assert wire.sent[0][0] == subjects.io("default", "h1.lab", channel.channel, "credit")


def test_credit_follows_what_was_written_not_what_arrived(tmp_path: Path) -> None:
    """A reader that takes nothing is granted nothing more."""
    wire = Wire()
    reading, writing = os.pipe()
    channel = IoChannel(cast(SyncBus, wire), "default", stdout=writing, stderr=writing)
    sent = 0
    while sent < WINDOW_BYTES:
        wire.bring(channel, "stdout", b"x" * 65536, sent)
        channel.work()
        sent += 65536
    assert wire.credits() == []
    assert channel.streams["stdout"].pending
    taken = 0
    while taken < WINDOW_BYTES // 2:
        taken += len(os.read(reading, 65536))
        channel.work()
    assert wire.credits()
    assert wire.credits()[-1]["until"] <= channel.streams["stdout"].written + WINDOW_BYTES
    os.close(reading)
    os.close(writing)
    channel.close()


def test_large_output_is_granted_in_steps_and_arrives(tmp_path: Path) -> None:
    """With a fast reader the credit grows with the stream; the sender is never left without."""
    wire = Wire()
    channel = _channel(wire, tmp_path)
    sent, until = 0, WINDOW_BYTES
    while sent < 5 * WINDOW_BYTES:
        size = min(256 << 10, until - sent)
        assert size > 0
        wire.bring(channel, "stdout", b"y" * size, sent)
        sent += size
        channel.work()
        until = wire.credits()[-1]["until"] if wire.credits() else until
    wire.end(channel, sent, 0)
    assert channel.complete
    assert (tmp_path / "out").stat().st_size == sent


def test_reader_that_goes_away_is_noticed_and_the_rest_taken(tmp_path: Path) -> None:
    """After a broken pipe bytes are dropped, credit goes on, and the channel can still end."""
    wire = Wire()
    reading, writing = os.pipe()
    channel = IoChannel(cast(SyncBus, wire), "default", stdout=writing, stderr=writing)
    os.close(reading)
    wire.bring(channel, "stdout", b"x" * WINDOW_BYTES, 0)
    channel.work()
    assert channel.nobody_reads
    assert channel.failure is None
    wire.end(channel, WINDOW_BYTES, 0)
    assert channel.complete
    os.close(writing)
    channel.close()


def test_full_disk_under_the_output_is_told(tmp_path: Path) -> None:
    """An output that cannot be written is a failure with its reason, unlike a reader that went away."""
    wire = Wire()
    full = os.open("/dev/full", os.O_WRONLY)
    channel = IoChannel(cast(SyncBus, wire), "default", stdout=full, stderr=full)
    wire.bring(channel, "stdout", b"x", 0)
    channel.work()
    assert channel.failure is not None
    assert "space" in str(channel.failure)
    os.close(full)


def test_writing_to_a_pipe_leaves_the_callers_descriptor_blocking(tmp_path: Path) -> None:
    """The terminal or pipe of the user's shell keeps its mode."""
    reading, writing = os.pipe()
    sink = Sink(writing)
    assert sink.write(memoryview(b"x" * 10)) == 10
    assert os.get_blocking(writing)
    assert sink.descriptor != writing
    sink.close()
    assert os.read(reading, 20) == b"x" * 10
    os.close(reading)
    os.close(writing)


def test_closed_output_takes_everything(tmp_path: Path) -> None:
    """A command started without stdout still ends with its exit code."""
    sink = Sink(987)
    assert sink.gone
    assert sink.write(memoryview(b"abc")) == 3


def test_bytes_that_never_come_end_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the result is there and bytes stay missing, the command says so instead of waiting for ever."""
    monkeypatch.setattr(io_channel, "MISSING_TIMEOUT_S", 0.0)
    wire = Wire()
    channel = _channel(wire, tmp_path)
    wire.bring(channel, "stdout", b"abc", 0)
    wire.end(channel, 10, 0)
    channel.check()
    with pytest.raises(DataLoss, match="stopped sending after byte 3 of 10 bytes") as caught:
        while True:
            channel.check()
    assert caught.value.host == "h1.lab"


def test_lost_end_is_asked_for_as_well(tmp_path: Path) -> None:
    """Without the channel's last message the final offsets are unknown: the host is asked to send again."""
    wire = Wire()
    channel = _channel(wire, tmp_path)
    channel.host = "h1.lab"
    channel.check()
    assert {credit["stream"] for credit in wire.credits() if credit["resend"]} == {"stdout", "stderr"}


def test_reconnect_asks_from_the_first_missing_byte(tmp_path: Path) -> None:
    """After the bus came back the streams go on where they were."""
    wire = Wire()
    channel = _channel(wire, tmp_path)
    wire.bring(channel, "stdout", b"abc", 0)
    wire.reconnected()
    assert {(c["stream"], c["have"], c["resend"]) for c in wire.credits()} == {("stdout", 3, True), ("stderr", 0, True)}


def _source(data: bytes) -> tuple[Input, int]:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return Input(reading), reading


def test_stdin_is_sent_within_the_credit_and_ends_with_an_empty_chunk(tmp_path: Path) -> None:
    """Nothing is sent before it was granted, nothing beyond, and the end comes last."""
    source, _ = _source(b"hello world")
    wire = Wire()
    channel = _channel(wire, tmp_path, source)

    def sent() -> list[tuple[bytes, str]]:
        return [(data, headers["hythe-offset"]) for subject, data, headers in wire.sent if subject.endswith("stdin")]

    source.read()
    channel.work()
    assert sent() == []
    wire.bring(channel, "credit", b'{"stream":"stdin","have":0,"until":5}')
    channel.work()
    assert sent() == [(b"hello", "0")]
    wire.bring(channel, "credit", b'{"stream":"stdin","have":5,"until":100}')
    source.read()
    channel.work()
    assert sent()[1:] == [(b" world", "5"), (b"", "11")]
    wire.bring(channel, "credit", b'{"stream":"stdin","have":7,"until":100,"resend":true}')
    channel.work()
    assert sent()[3:] == [(b"orld", "7"), (b"", "11")]


def test_credit_for_output_streams_is_not_taken_for_stdin(tmp_path: Path) -> None:
    """Both sides ignore credit for streams that they don't send."""
    source, _ = _source(b"hello")
    wire = Wire()
    channel = _channel(wire, tmp_path, source)
    source.read()
    wire.bring(channel, "credit", b'{"stream":"stdout","have":0,"until":5}')
    channel.work()
    assert [subject for subject, _, _ in wire.sent if subject.endswith("stdin")] == []


def test_stdin_is_not_read_further_than_can_be_kept() -> None:
    """A huge input waits in its pipe, not in this process."""
    reading, writing = os.pipe()
    source = Input(reading)
    total = 0
    while source.wants_poll:
        os.write(writing, b"x" * 4096)
        source.read()
        total += 4096
    assert KEPT_BYTES <= total < KEPT_BYTES + 65536
    source.credit({"stream": "stdin", "have": 10_000, "until": 20_000})
    assert source.wants_poll
    os.close(reading)
    os.close(writing)
