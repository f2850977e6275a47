"""Spans in the stream: what two processes did for one request hangs together, whoever reads it later."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from hythe import durable, subjects, tracing
from hythe.bus.endpoint import Context
from hythe.bus.service import Service
from hythe.client.jetstream import ensure_stream, messages_of
from hythe.client.spans import build_trace
from hythe.telemetry import Telemetry
from tests.fakes.endpoints import NAMESPACE, Ask, Told, do
from tests.fixtures.peers import Peers
from tests.fixtures.waiting import eventually


@pytest.fixture(autouse=True)
def restored_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the backend back that was installed before."""
    monkeypatch.setattr(tracing, "_backend", tracing._backend)


def stored(peers: Peers, trace_id: str, count: int) -> list[dict[str, Any]]:
    """Return the messages of a trace once `count` spans of it are stored."""
    bus = peers.secured.sync("admin")
    subject = subjects.span(NAMESPACE, trace_id)

    def read() -> list[dict[str, Any]] | None:
        found = [json.loads(message.data) for message in messages_of(bus, subjects.SPAN_STREAM, subject)]
        return found if sum(len(message["spans"]) for message in found) >= count else None

    try:
        found = eventually(read, what=f"{count} spans are stored")
        assert found is not None
        return found
    finally:
        bus.close()


async def test_request_and_what_was_done_for_it_are_one_tree_in_the_stream(peers: Peers) -> None:
    """The caller's span, below it the service's, below that the step with its fsyncs; nothing is missing."""
    maker = peers.secured.sync("streams")
    ensure_stream(maker, {"name": subjects.SPAN_STREAM, "subjects": [subjects.ALL_SPANS], "storage": "file"})
    maker.close()

    async def answer(context: Context, request: Ask) -> Told:
        with tracing.span("commit"):
            durable.count_sync(2)
        return Told(text=tracing.trace_id())

    def register(service: Service) -> None:
        service.unary("thing", "do", Ask, answer, scope="any")

    process = await peers.service("metadata", register)
    telemetry = Telemetry("metadata", "h1")
    telemetry.start(process.bus.publish)
    caller = await peers.bus("runtime")
    tracing.namespace.set(NAMESPACE)
    trace_id = (await caller.call(do(), Ask(), Told)).text
    messages = await asyncio.to_thread(stored, peers, trace_id, 3)
    await telemetry.stop()
    assert messages[-1]["open"] == 0
    trace = build_trace(messages)
    assert [(span.name, depth, span.kind) for depth, span in trace.spans()] == [
        ("metadata.thing.do", 0, "client"),
        ("metadata.thing.do", 1, "server"),
        ("commit", 2, "internal"),
    ]
    assert (trace.orphans, trace.fsyncs, trace.round_trips) == ([], 2, 1)
