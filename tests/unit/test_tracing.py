"""The tracing port: spans as domain code makes them, with or without a backend."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from hythe import durable, tracing
from hythe.tracing import Kind, Value


class Recorded:
    """One span as a backend saw it."""

    def __init__(self, name: str, attributes: Mapping[str, Value]) -> None:
        self.name = name
        self.attributes = dict(attributes)
        self.events: list[str] = []
        self.failed = ""

    def set(self, key: str, value: Value) -> None:
        """Set one attribute."""
        self.attributes[key] = value

    def event(self, name: str, **attributes: Value) -> None:
        """Note an event."""
        self.events.append(name)

    def fail(self, message: str) -> None:
        """Mark as failed."""
        self.failed = message


class Recorder:
    """A backend that keeps all spans."""

    def __init__(self) -> None:
        self.spans: list[Recorded] = []

    @contextmanager
    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], parent: Mapping[str, str] | None
    ) -> Iterator[Recorded]:
        """Record a span."""
        self.spans.append(Recorded(name, attributes))
        yield self.spans[-1]

    def inject(self, headers: dict[str, str]) -> None:
        """Mark the headers."""
        headers["traceparent"] = "here"

    def trace_id(self) -> str:
        """Return a fixed id."""
        return "t"


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A backend installed for one test."""
    monkeypatch.setattr(tracing, "_backend", tracing._backend)
    made = Recorder()
    tracing.install(made)
    return made


def test_span_without_a_backend_costs_nothing_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Domain code runs the same whether or not anybody traces."""
    monkeypatch.setattr(tracing, "_backend", tracing._NoBackend())
    headers: dict[str, str] = {}
    with tracing.span("x", a__b=1) as span:
        span.set("k", "v")
        span.event("happened", n=1)
        span.fail("why")
        tracing.inject(headers)
    assert headers == {}
    assert tracing.trace_id() == ""


def test_attribute_names_have_dots_for_double_underscores(recorder: Recorder) -> None:
    """`container__id=…` sets `container.id`."""
    with tracing.span("x", container__id="c", image__root__digest="d", plain=1):
        pass
    assert recorder.spans[0].attributes == {"container.id": "c", "image.root.digest": "d", "plain": 1}


def test_fsyncs_are_counted_on_the_innermost_span(recorder: Recorder, tmp_path: Path) -> None:
    """The sum over all spans is the number of fsyncs, each counted once where it was waited for."""
    with tracing.span("outer"):
        durable.count_sync()
        with tracing.span("inner"):
            durable.write_atomic(tmp_path / "file", b"x")
        with tracing.span("idle"):
            pass
    counts = {span.name: span.attributes.get("hythe.fsyncs") for span in recorder.spans}
    assert counts == {"outer": 1, "inner": 2, "idle": None}


async def test_fsync_in_a_thread_counts_for_the_span_that_waits(recorder: Recorder, tmp_path: Path) -> None:
    """Work done in a thread started by `asyncio.to_thread` belongs to the span around it."""

    def write() -> None:
        with (tmp_path / "file").open("wb") as file:
            durable.sync_data(file.fileno())
            durable.sync_file(file.fileno())
        durable.sync_directory(tmp_path)

    with tracing.span("waits"):
        await asyncio.to_thread(write)
    assert recorder.spans[0].attributes["hythe.fsyncs"] == 3


async def test_fsyncs_of_concurrent_work_are_not_mixed(recorder: Recorder) -> None:
    """Each task counts its own."""
    both = asyncio.Barrier(2)

    async def work(name: str, number: int) -> None:
        with tracing.span(name):
            await both.wait()
            for _ in range(number):
                durable.count_sync()
            await both.wait()

    await asyncio.gather(work("one", 1), work("two", 2))
    assert {span.name: span.attributes["hythe.fsyncs"] for span in recorder.spans} == {"one": 1, "two": 2}


def test_fsyncs_outside_of_any_span_are_nobodys(recorder: Recorder) -> None:
    """Counting without a span is harmless."""
    durable.count_sync(5)
    with tracing.span("later"):
        pass
    assert "hythe.fsyncs" not in recorder.spans[0].attributes


def test_fsyncs_before_a_failure_are_counted(recorder: Recorder) -> None:
    """Also a step that fails has paid for its fsyncs, and its error goes on."""
    with pytest.raises(OSError), tracing.span("fails"):
        durable.count_sync()
        raise OSError(os.strerror(28))
    assert recorder.spans[0].attributes["hythe.fsyncs"] == 1


def test_context_goes_into_headers(recorder: Recorder) -> None:
    """What is sent on carries the trace."""
    headers = {"other": "kept"}
    tracing.inject(headers)
    assert headers == {"other": "kept", "traceparent": "here"}
    assert tracing.trace_id() == "t"
