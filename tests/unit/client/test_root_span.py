"""The command's own spans look like those of the services and follow the caller's context."""

from __future__ import annotations

import json

import pytest
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hythe import tracing
from hythe.client.root_span import CommandTrace
from hythe.errors import NotFound
from hythe.telemetry import Telemetry
from hythe.trace_context import parse_traceparent

_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items() if key != "attributes"}
    if isinstance(value, list):
        return [_shape(item) for item in value[:1]]
    return type(value)


async def test_message_has_the_shape_of_the_services_messages() -> None:
    """Whoever reads the span stream needs no second parser for the command line."""
    sent: list[bytes] = []

    async def publish(subject: str, data: bytes) -> None:
        sent.append(data)

    telemetry = Telemetry("runtime", "h1")
    with tracing.span("x"):
        pass
    await telemetry.outbox.flush(publish)
    trace = CommandTrace("hythe ps", {}, 1)
    trace.begin_request("runtime.container.list", "s").end()
    assert _shape(json.loads(trace.message("h1"))) == _shape(json.loads(sent[0]))


def test_caller_with_a_traceparent_becomes_the_parent() -> None:
    """A command inside somebody's trace is part of that trace."""
    trace = CommandTrace("hythe ps", {"TRACEPARENT": _PARENT, "TRACESTATE": "a=b"}, 1)
    span = trace.begin_request("runtime.container.list", "s")
    headers = trace.headers(span)
    context = TraceContextTextMapPropagator().extract(headers)
    assert context
    assert headers == {
        "traceparent": f"00-0af7651916cd43dd8448eb211c80319c-{span.span_id}-01",
        "tracestate": "a=b",
    }
    root, request = json.loads(trace.message("h"))["spans"]
    assert root["parent_span_id"] == "b7ad6b7169203331"
    assert request["parent_span_id"] == root["span_id"]
    assert root["end_ns"] >= request["end_ns"] >= request["start_ns"]


def test_caller_who_does_not_sample_is_respected() -> None:
    """An unsampled context stays unsampled."""
    trace = CommandTrace("hythe ps", {"TRACEPARENT": _PARENT[:-2] + "00"}, 1)
    assert not trace.sampled
    assert trace.headers(trace.root)["traceparent"].endswith("-00")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        _PARENT.replace("00-", "ff-", 1),
        _PARENT.replace("0af7", "0AF7"),
        _PARENT + "-x",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
    ],
)
def test_damaged_traceparent_starts_a_new_trace(text: str) -> None:
    """Garbage in the environment never breaks a command."""
    assert parse_traceparent(text) is None
    assert len(CommandTrace("x", {"TRACEPARENT": text}, 1).trace_id) == 32


def test_later_version_of_traceparent_is_read_as_far_as_known() -> None:
    """The specification asks readers to accept longer forms of later versions."""
    assert parse_traceparent("01" + _PARENT[2:] + "-more") == (_PARENT[3:35], _PARENT[36:52], True)


def test_failed_request_marks_its_span() -> None:
    """The waterfall shows which request failed and why."""
    trace = CommandTrace("hythe rm", {}, 1)
    trace.begin_request("runtime.container.remove", "s").end(NotFound("no such container x"))
    span = json.loads(trace.message("h"))["spans"][1]
    assert (span["status"], span["status_message"]) == ("error", "no such container x")
