"""Spans on their way out: complete, bounded, counted, and never in the way of what they tell of."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hythe import logs, tracing
from hythe.errors import InvalidArgument, NotFound, Unavailable
from hythe.telemetry import Telemetry, outbox
from tests.fixtures.waiting import until

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Stream:
    """What was published; `error`, while set, is raised instead, and `refused` counts how often."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None
        self.refused = 0

    async def publish(self, subject: str, data: bytes) -> None:
        """Keep one message."""
        if self.error is not None:
            self.refused += 1
            raise self.error
        assert len(data) <= outbox.MAX_MESSAGE_BYTES
        self.messages.append((subject, json.loads(data)))

    @property
    def spans(self) -> list[dict[str, Any]]:
        """All spans in the order of arrival."""
        return [span for _, message in self.messages for span in message["spans"]]


@pytest.fixture(autouse=True)
def restored_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the backend back that was installed before."""
    monkeypatch.setattr(tracing, "_backend", tracing._backend)


@pytest.fixture
def stream() -> Stream:
    """A span stream."""
    return Stream()


@pytest.fixture
def telemetry() -> Telemetry:
    """The tracing of a process that is flushed by hand."""
    return Telemetry("runtime", "h1")


async def test_spans_of_a_trace_are_one_message_with_their_tree(telemetry: Telemetry, stream: Stream) -> None:
    """Service, host, times, kinds, attributes and parents arrive as they were."""
    tracing.namespace.set("team")
    with (
        tracing.span("serve", kind="server", parent={"traceparent": TRACEPARENT}, request__id="r") as served,
        tracing.span("ask", kind="client"),
    ):
        served.event("woke", attempt=2)
    await telemetry.outbox.flush(stream.publish)
    ((subject, message),) = stream.messages
    assert subject == "hythe.v1.span.team.0af7651916cd43dd8448eb211c80319c"
    assert (message["service"], message["host"], message["open"], message["dropped"]) == ("runtime", "h1", 0, 0)
    asked, serve = message["spans"]
    assert (serve["name"], serve["kind"], serve["attributes"]) == ("serve", "server", {"request.id": "r"})
    assert serve["parent_span_id"] == "b7ad6b7169203331"
    assert asked["parent_span_id"] == serve["span_id"]
    assert serve["events"][0]["name"] == "woke"
    assert serve["events"][0]["attributes"] == {"attempt": 2}
    assert serve["start_ns"] <= asked["start_ns"] <= asked["end_ns"] <= serve["end_ns"]
    assert {span["status"] for span in message["spans"]} == {"ok"}


async def test_message_says_how_many_spans_are_still_open(telemetry: Telemetry, stream: Stream) -> None:
    """A viewer knows that more will come, and when nothing more does."""
    with tracing.span("outer"):
        with tracing.span("inner"):
            pass
        await telemetry.outbox.flush(stream.publish)
    await telemetry.outbox.flush(stream.publish)
    assert [message["open"] for _, message in stream.messages] == [1, 0]
    assert len({subject for subject, _ in stream.messages}) == 1


async def test_traces_go_into_messages_of_their_own(telemetry: Telemetry, stream: Stream) -> None:
    """One message holds one trace."""
    for name in ("a", "b"):
        with tracing.span(name):
            pass
    await telemetry.outbox.flush(stream.publish)
    assert [[span["name"] for span in message["spans"]] for _, message in stream.messages] == [["a"], ["b"]]


async def test_spans_of_threads_belong_to_the_trace_that_started_them(telemetry: Telemetry, stream: Stream) -> None:
    """Work in a thread hangs below the span that waits for it."""

    def work() -> str:
        with tracing.span("in a thread"):
            return tracing.trace_id()

    with tracing.span("waits"):
        trace_id = tracing.trace_id()
        assert await asyncio.to_thread(work) == trace_id
    await telemetry.outbox.flush(stream.publish)
    inner, outer = stream.spans
    assert inner["parent_span_id"] == outer["span_id"]
    assert tracing.trace_id() == ""


async def test_failed_and_cancelled_spans_say_why(telemetry: Telemetry, stream: Stream) -> None:
    """An error marks its span with message and cause; cancelling is told; not finding something is no fault."""

    async def fail(error: BaseException) -> None:
        with tracing.span(type(error).__name__):
            raise error

    for error in (InvalidArgument("read it: wrong", cause="a comma"), RuntimeError("oh"), NotFound("find it: none")):
        with pytest.raises(type(error)):
            await fail(error)

    async def wait() -> None:
        with tracing.span("cancelled"):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    with tracing.span("marked") as span:
        span.fail("by hand")
    await telemetry.outbox.flush(stream.publish)
    found = {span["name"]: (span["status"], span["status_message"]) for span in stream.spans}
    assert found == {
        "InvalidArgument": ("error", "read it: wrong: a comma"),
        "RuntimeError": ("error", "oh"),
        "NotFound": ("ok", ""),
        "cancelled": ("error", "cancelled"),
        "marked": ("error", "by hand"),
    }
    assert task.cancelled()


async def test_spans_that_find_no_room_are_dropped_and_counted(
    telemetry: Telemetry, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The buffer has a bound, and every reader learns how many spans it cost."""
    monkeypatch.setattr(outbox, "MAX_BUFFERED_SPANS", 3)
    for number in range(10):
        with tracing.span(str(number)):
            pass
    assert telemetry.outbox.dropped == 7
    await telemetry.outbox.flush(stream.publish)
    assert [span["name"] for span in stream.spans] == ["0", "1", "2"]
    assert {message["dropped"] for _, message in stream.messages} == {7}
    with tracing.span("room again"):
        pass
    await telemetry.outbox.flush(stream.publish)
    assert stream.spans[-1]["name"] == "room again"


async def test_spans_are_kept_while_the_bus_is_away(telemetry: Telemetry, stream: Stream) -> None:
    """What cannot be published now is published later, once, and in order."""
    stream.error = Unavailable("publish: not connected")
    with tracing.span("outer"):
        with tracing.span("first"):
            pass
        await telemetry.outbox.flush(stream.publish)
        assert not telemetry.outbox.empty
        with tracing.span("second"):
            pass
    stream.error = None
    await telemetry.outbox.flush(stream.publish)
    assert [span["name"] for span in stream.spans] == ["first", "second", "outer"]
    assert telemetry.outbox.empty
    assert telemetry.outbox.dropped == 0


async def test_spans_are_kept_when_publishing_is_interrupted(telemetry: Telemetry, stream: Stream) -> None:
    """A flush that is cancelled in the middle loses nothing."""

    async def hang(subject: str, data: bytes) -> None:
        await asyncio.Event().wait()

    with tracing.span("kept"):
        pass
    flushing = asyncio.create_task(telemetry.outbox.flush(hang))
    await asyncio.sleep(0)
    flushing.cancel()
    await asyncio.wait([flushing])
    await telemetry.outbox.flush(stream.publish)
    assert [span["name"] for span in stream.spans] == ["kept"]


async def test_span_that_can_never_be_sent_does_not_hold_up_the_others(telemetry: Telemetry, stream: Stream) -> None:
    """What the bus refuses for good is dropped and counted; the next trace goes out."""
    stream.error = InvalidArgument("publish: too large")
    with tracing.span("refused"):
        pass
    await telemetry.outbox.flush(stream.publish)
    stream.error = None
    with tracing.span("next"):
        pass
    await telemetry.outbox.flush(stream.publish)
    assert telemetry.outbox.dropped == 1
    assert [span["name"] for span in stream.spans] == ["next"]


async def test_many_spans_of_one_trace_are_cut_into_messages(telemetry: Telemetry, stream: Stream) -> None:
    """No message grows beyond its bound, all spans arrive in order, and `open` counts what is still to come."""
    with tracing.span("outer"):
        for number in range(1200):
            with tracing.span(str(number), text="x" * 3000 if number < 600 else ""):
                pass
    await telemetry.outbox.flush(stream.publish)
    assert [span["name"] for span in stream.spans] == [*map(str, range(1200)), "outer"]
    assert len(stream.messages) > 3
    assert stream.messages[-1][1]["open"] == 0
    opened = [message["open"] for _, message in stream.messages]
    assert opened == sorted(opened, reverse=True)


async def test_long_attributes_are_cut(telemetry: Telemetry, stream: Stream) -> None:
    """One careless attribute cannot fill the stream."""
    with tracing.span("long", text="x" * 1_000_000):
        pass
    await telemetry.outbox.flush(stream.publish)
    assert len(stream.spans[0]["attributes"]["text"]) == 4096


@pytest.mark.parametrize(
    "traceparent", ["", "x", "00-" + "0" * 32 + "-b7ad6b7169203331-01", TRACEPARENT + "\r\n", "ff" + TRACEPARENT[2:]]
)
async def test_context_that_is_none_begins_a_new_trace(telemetry: Telemetry, stream: Stream, traceparent: str) -> None:
    """Whatever a caller sends as its context, the request is served and traced."""
    with tracing.span("served", kind="server", parent={"traceparent": traceparent}):
        assert len(tracing.trace_id()) == 32
    await telemetry.outbox.flush(stream.publish)
    assert stream.spans[0]["name"] == "served"


async def test_caller_who_does_not_sample_is_respected(telemetry: Telemetry, stream: Stream) -> None:
    """An unsampled trace stays unsampled, and its context is still passed on."""
    headers: dict[str, str] = {}
    with tracing.span("served", kind="server", parent={"traceparent": TRACEPARENT[:-2] + "00"}):
        tracing.inject(headers)
    assert telemetry.outbox.empty
    assert headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert headers["traceparent"].endswith("-00")


@pytest.fixture
async def started(telemetry: Telemetry, stream: Stream) -> AsyncIterator[Telemetry]:
    """The tracing of a process at work."""
    telemetry.start(stream.publish)
    yield telemetry
    await telemetry.stop()


async def test_ended_spans_are_published_soon_without_being_asked(started: Telemetry, stream: Stream) -> None:
    """Spans of the event loop and of threads go out by themselves, also after an idle time."""
    for _ in range(2):
        with tracing.span("loop"):
            pass
        await until(lambda: stream.spans, what="the span arrives")
        assert stream.messages.pop()[1]["spans"][0]["name"] == "loop"

    def work() -> None:
        with tracing.span("thread"):
            pass

    await asyncio.to_thread(work)
    await until(lambda: [span["name"] for span in stream.spans] == ["thread"])


async def test_publishing_goes_on_after_an_error_nobody_foresaw(
    started: Telemetry, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    """One bad moment does not end tracing for the rest of the process's life."""
    stream.error = RuntimeError("nobody foresaw this")
    with tracing.span("kept"):
        pass
    await until(lambda: any("could not be published" in record.message for record in caplog.records))
    stream.error = None
    await until(lambda: [span["name"] for span in stream.spans] == ["kept"])


async def test_spans_are_published_when_the_bus_is_back(started: Telemetry, stream: Stream) -> None:
    """An outage costs no span."""
    stream.error = Unavailable("publish: not connected")
    with tracing.span("waited"):
        pass
    await until(lambda: stream.refused >= 2, what="publishing was tried")
    stream.error = None
    await until(lambda: [span["name"] for span in stream.spans] == ["waited"])


async def test_what_is_left_is_published_at_the_end(telemetry: Telemetry, stream: Stream) -> None:
    """A process that stops has told everything."""
    telemetry.start(stream.publish)
    with tracing.span("last"):
        pass
    await telemetry.stop()
    assert [span["name"] for span in stream.spans] == ["last"]


class Collector:
    """An OTLP/HTTP collector on loopback.

    Attributes:
        requests: (path, request) of what arrived.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that is listening."""
    made = Collector()
    yield made
    made.close()


@pytest.mark.parametrize("tail", ["", "/"])
async def test_spans_go_to_the_collector_too_when_an_endpoint_is_set(
    collector: Collector, stream: Stream, tail: str
) -> None:
    """The setting alone decides, also when it came from the settings file and not from the environment."""
    telemetry = Telemetry("runtime", "h1", collector.url + tail)
    telemetry.start(stream.publish)
    with tracing.span("exported", container__id="c"):
        trace_id = tracing.trace_id()
    await telemetry.stop()
    ((path, request),) = collector.requests
    assert path == "/v1/traces"
    (resource,) = request.resource_spans
    names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert (names["service.name"], names["host.name"]) == ("hythe-runtime", "h1")
    (span,) = resource.scope_spans[0].spans
    assert (span.name, span.trace_id.hex()) == ("exported", trace_id)
    assert [s["name"] for s in stream.spans] == ["exported"]


async def test_collector_that_never_answers_does_not_hold_up_the_end(stream: Stream) -> None:
    """A process stops in time, whatever its collector does."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        telemetry = Telemetry("runtime", "h1", f"http://127.0.0.1:{silent.getsockname()[1]}")
        telemetry.start(stream.publish)
        with tracing.span("exported"):
            pass
        started = time.monotonic()
        await telemetry.stop()
        assert time.monotonic() - started < 3.0
    assert [span["name"] for span in stream.spans] == ["exported"]


async def test_collector_that_is_away_costs_nothing(stream: Stream) -> None:
    """Tracing never fails what it tells of, and the stream has every span."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    telemetry = Telemetry("runtime", "h1", f"http://127.0.0.1:{port}")
    telemetry.start(stream.publish)
    started = time.monotonic()
    with tracing.span("exported"):
        pass
    await telemetry.stop()
    assert time.monotonic() - started < 3.5
    assert [span["name"] for span in stream.spans] == ["exported"]


def test_log_lines_carry_the_trace(telemetry: Telemetry) -> None:
    """Each line of a service's log is one JSON object with the id of the trace that it belongs to."""
    formatter = logs.JsonFormatter("runtime")
    record = logging.LogRecord("x", logging.INFO, "f", 1, "said %s", ("it",), None)
    record.host = "h1"
    with tracing.span("work"):
        line = json.loads(formatter.format(record))
        assert line["trace_id"] == tracing.trace_id()
    assert (line["service"], line["level"], line["message"], line["host"]) == ("runtime", "info", "said it", "h1")
    assert "trace_id" not in json.loads(formatter.format(record))


def test_log_line_stays_one_line_whatever_is_logged() -> None:
    """Neither line ends nor an exception nor strange objects break a log into several lines."""
    formatter = logs.JsonFormatter("runtime")
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "a\nb", (), (type(error), error, error.__traceback__))
    record.strange = object()
    text = formatter.format(record)
    assert "\n" not in text
    assert "two\nlines" in json.loads(text)["exception"]
