"""The runtime service as it really is, and small fakes of everything around it, on a real bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.bus.service import Service
from hythe.identifiers import new_id
from hythe.process_runner import Process
from hythe.wire.container import ContainerSpec
from hythe.wire.runtime import List, ListResult, Run, RunProgress, RunResult
from hythe_runtime.controller.wiring import build
from tests.fakes.services import DIGEST, Calls, FakeAgent, FakeBundle, FakeDistribution, FakeMetadata
from tests.fixtures.peers import Peers
from tests.fixtures.secured_bus import SecuredBus
from tests.fixtures.servers import NatsServer

ReplyT = TypeVar("ReplyT", bound=BaseModel)
IMAGE = "docker.io/library/busybox:latest"


class Lab:
    """One runtime and its surroundings; each of these may be stopped.

    Attributes:
        calls: what the surroundings were asked.
        runtime: the runtime's process.
        user: whoever asks runtime.
    """

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.calls = Calls()
        self.metadata = FakeMetadata(self.calls)
        self.distribution = FakeDistribution(self.calls)
        self.bundle = FakeBundle(self.calls)
        self.metadata.images[IMAGE] = DIGEST
        self.agent: FakeAgent
        self.runtime: Process
        self.user: Bus
        self._services: dict[str, Service] = {}
        self._buses: dict[str, Bus] = {}
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Start everything."""
        await self.serve("metadata", self.metadata)
        await self.serve("distribution", self.distribution)
        await self.serve("bundle", self.bundle)
        bus = await self.peers.bus("agent")
        self.agent = FakeAgent(self.calls, bus)
        await self.serve("agent", self.agent)
        self.agent.start_beating()
        self.runtime = await self.peers.process("runtime")
        await self._stack.enter_async_context(build(self.runtime))
        self.user = await self.peers.bus("admin")

    async def serve(self, name: str, fake: Any) -> None:
        """Start one of the surroundings."""
        process = await self.peers.process(name)
        service = Service(process, name)
        fake.register(service)
        await service.start()
        self._services[name], self._buses[name] = service, process.bus

    async def stop_runtime(self) -> None:
        """Stop the runtime."""
        await self._stack.aclose()

    async def crash(self, name: str) -> None:
        """Cut off one of the surroundings, as if its process had been killed."""
        del self._services[name]
        await self._buses[name].close()

    async def stop(self, name: str) -> None:
        """Stop one of the surroundings."""
        await self._services.pop(name).stop()

    async def close(self) -> None:
        """Stop everything."""
        self.agent.stop_beating()
        await self._stack.aclose()
        for service in self._services.values():
            await service.stop()

    def subject(self, noun: str, verb: str, namespace: str = "default") -> str:
        """Subject of a request to runtime."""
        return subjects.rpc(namespace, "admin", "runtime", noun, verb)

    def order(self, name: str = "", **changes: object) -> Run:
        """Return a request to run a container."""
        values: dict[str, object] = {"id": new_id(), "name": name, "image": IMAGE, "spec": ContainerSpec(), **changes}
        return Run.model_validate(values)

    async def run(self, order: Run, seen: list[RunProgress] | None = None) -> RunResult:
        """Run a container; what is shown meanwhile goes into `seen`."""
        subject = self.subject("container", "run")
        async with self.user.operate(subject, order, RunProgress, RunResult, request_id=order.id) as operation:
            async for progress in operation:
                if seen is not None:
                    seen.append(progress)
            return operation.result

    async def do(self, verb: str, request: BaseModel, reply: type[ReplyT], noun: str = "container") -> ReplyT:
        """Make an operation and return its result."""
        async with self.user.operate(self.subject(noun, verb), request, RunProgress, reply) as operation:
            return await operation.wait()

    async def ask(self, verb: str, request: BaseModel, reply: type[ReplyT]) -> ReplyT:
        """Make a plain request."""
        return await self.user.call(self.subject("container", verb), request, reply)

    async def list(self) -> ListResult:
        """List all containers."""
        return await self.ask("list", List(all=True), ListResult)


@pytest.fixture
async def lab(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> AsyncIterator[Lab]:
    """Everything started."""
    peers = Peers(tmp_path, SecuredBus(tmp_path, start_nats))
    made = Lab(peers)
    await made.start()
    yield made
    await made.close()
    await peers.close()
