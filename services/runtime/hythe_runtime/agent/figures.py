"""The agent's own figures under ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from hythe_runtime.agent.book import Book
from hythe_runtime.agent.outbox import Outbox
from hythe_runtime.agent.outputs import Outputs
from hythe_runtime.agent.status import Board

_STATES = ("creating", "created", "running", "exited", "removing")


class Figures:
    """Gauges that are read when they are asked for."""

    def __init__(self, registry: CollectorRegistry, board: Board, book: Book, outbox: Outbox, outputs: Outputs) -> None:
        """Register all figures."""
        containers = Gauge("hythe_agent_containers", "Containers of this host, by state.", ["state"], registry=registry)
        for state in _STATES:
            containers.labels(state).set_function(_counter(board, state))
        singles: list[tuple[str, str, Callable[[], float]]] = [
            ("hythe_agent_events_waiting", "Events that the bus has not confirmed.", lambda: outbox.waiting),
            ("hythe_agent_output_channels", "Io channels that output is sent over.", lambda: outputs.count),
            ("hythe_agent_journal_syncs", "Fsyncs of the journal since the start.", lambda: book.syncs),
        ]
        for name, meaning, value in singles:
            Gauge(name, meaning, registry=registry).set_function(value)


def _counter(board: Board, state: str) -> Callable[[], float]:
    return lambda: board.count(state)
