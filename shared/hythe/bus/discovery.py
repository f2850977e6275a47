"""NATS micro's service discovery: answers ``$SRV.PING``, ``INFO`` and ``STATS``, so that ``nats micro ls`` works.

Spec: NATS ADR-32, "Service API".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from hythe import __version__, subjects
from hythe.bus.endpoint import Endpoint
from hythe.bus.message import Message, Subscription
from hythe.bus.replies import Answer, send
from hythe.process_runner import Process


class Discovery:
    """Answers for one service of one process."""

    def __init__(self, process: Process, service: str, endpoints: Callable[[], Sequence[Endpoint]]) -> None:
        self._process = process
        self._service = service
        self._endpoints = endpoints
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> list[Subscription]:
        """Subscribe the discovery subjects of this service and instance."""
        bodies: dict[str, Callable[[], dict[str, object]]] = {
            "PING": self._ping,
            "INFO": self._info,
            "STATS": self._stats,
        }
        subscriptions = []
        for verb, body in bodies.items():
            for subject in (
                f"$SRV.{verb}",
                f"$SRV.{verb}.{self._name}",
                f"$SRV.{verb}.{self._name}.{self._process.instance}",
            ):
                subscriptions.append(await self._process.bus.subscribe(subject, self._answer_with(body)))
        return subscriptions

    def _answer_with(self, body: Callable[[], dict[str, object]]) -> Callable[[Message], None]:
        def answer(message: Message) -> None:
            if subjects.is_inbox(message.reply):
                answer = Answer("ok", json.dumps(body()).encode())
                task = asyncio.get_running_loop().create_task(send(self._process.bus, message.reply, answer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        return answer

    @property
    def _name(self) -> str:
        return f"hythe-{self._service}"

    def _identity(self, kind: str) -> dict[str, object]:
        return {
            "type": f"io.nats.micro.v1.{kind}_response",
            "name": self._name,
            "id": self._process.instance,
            "version": __version__,
            "metadata": {
                "host": self._process.settings.host,
                "pid": str(self._process.pid),
                "metrics_port": str(self._process.metrics.port),
            },
        }

    def _ping(self) -> dict[str, object]:
        return self._identity("ping")

    def _info(self) -> dict[str, object]:
        endpoints = [
            {
                "name": f"{e.noun}-{e.verb}-{e.scope}",
                "subject": self._subject(e),
                "queue_group": self._service if e.scope == "any" else "",
                "metadata": {},
            }
            for e in self._endpoints()
        ]
        return {**self._identity("info"), "description": f"Hythe {self._service}", "endpoints": endpoints}

    def _stats(self) -> dict[str, object]:
        endpoints = [
            {
                "name": f"{e.noun}-{e.verb}-{e.scope}",
                "subject": self._subject(e),
                "queue_group": self._service if e.scope == "any" else "",
                "num_requests": e.figures.requests,
                "num_errors": e.figures.errors,
                "last_error": e.figures.last_error,
                "processing_time": e.figures.processing_ns,
                "average_processing_time": e.figures.processing_ns // max(1, e.figures.requests),
            }
            for e in self._endpoints()
        ]
        return {**self._identity("stats"), "started": self._started, "endpoints": endpoints}

    def _subject(self, endpoint: Endpoint) -> str:
        wildcard = subjects.rpc_of_service if endpoint.scope == "any" else self._host_subjects
        return wildcard(self._service).removesuffix(">") + f"{endpoint.noun}.{endpoint.verb}"

    def _host_subjects(self, service: str) -> str:
        return subjects.host_rpc_of_service(self._process.settings.host, service)
