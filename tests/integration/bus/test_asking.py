"""Who asked first is known to every service that works for him, and nobody can pretend to be somebody else."""

from __future__ import annotations

import pytest

from hythe import subjects
from hythe.asking import Asker
from hythe.bus.asker_headers import CALLER_HEADER, REQUEST_HEADER, asker_of
from hythe.bus.connection import Bus
from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.wire.base import Empty
from tests.fakes.endpoints import Ask, Told
from tests.fixtures.peers import Peers
from tests.fixtures.secured_bus import HOST

RUN = subjects.rpc("default", "admin", "runtime", "thing", "do")


class Chain:
    """Runtime asks the agent, as an operation, and that asks the bundle service; each notes for whom it works."""

    def __init__(self) -> None:
        self.seen: dict[str, Asker] = {}
        self.callers: dict[str, str] = {}
        self._buses: dict[str, Bus] = {}

    async def start(self, peers: Peers) -> None:
        """Start the three services."""
        self._buses["runtime"] = (await peers.service("runtime", self._runtime)).bus
        self._buses["agent"] = (await peers.service("agent", self._agent)).bus
        await peers.service("bundle", self._bundle)

    def _note(self, service: str, context: Context) -> None:
        self.seen[service] = context.asker
        self.callers[service] = context.caller

    def _runtime(self, service: Service) -> None:
        async def answer(context: Context, request: Ask) -> Told:
            self._note("runtime", context)
            subject = subjects.host_rpc("default", HOST, "agent", "thing", "do")
            async with self._buses["runtime"].operate(subject, Ask(), Empty, Told) as operation:
                return await operation.wait()

        service.unary("thing", "do", Ask, answer, scope="any")

    def _agent(self, service: Service) -> None:
        async def work(context: Context, request: Ask, progress: Progress) -> Told:
            self._note("agent", context)
            subject = subjects.host_rpc("default", HOST, "bundle", "thing", "do")
            return await self._buses["agent"].call(subject, Ask(), Told)

        service.operation("thing", "do", Ask, work, scope="host")

    def _bundle(self, service: Service) -> None:
        async def answer(context: Context, request: Ask) -> Told:
            self._note("bundle", context)
            return Told()

        service.unary("thing", "do", Ask, answer, scope="host")


async def test_last_service_of_a_chain_knows_who_asked_the_first(peers: Peers) -> None:
    """Three services on, the user and his request are still known, though each key speaks for itself alone."""
    chain = Chain()
    await chain.start(peers)
    user = await peers.bus("admin")
    await user.call(RUN, Ask(), Told, request_id="r-1")
    assert chain.seen == dict.fromkeys(("runtime", "agent", "bundle"), Asker("admin", "r-1"))
    assert chain.callers == {"runtime": "admin", "agent": "", "bundle": ""}


async def test_user_cannot_ask_in_the_name_of_another(peers: Peers) -> None:
    """Only services are believed when they name somebody else."""
    chain = Chain()
    await chain.start(peers)
    user = await peers.bus("admin")
    forged = {CALLER_HEADER: "root", REQUEST_HEADER: "r-0", "hythe-request-id": "r-1"}
    await user.calls.request(RUN, b"{}", forged, 5.0)
    assert chain.seen["bundle"] == Asker("admin", "r-1")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {CALLER_HEADER: "admin"},
        {CALLER_HEADER: "=4", REQUEST_HEADER: "r"},
        {CALLER_HEADER: "admin", REQUEST_HEADER: "r\n"},
        {CALLER_HEADER: "", REQUEST_HEADER: "r"},
    ],
)
def test_headers_that_cannot_be_read_name_nobody(headers: dict[str, str]) -> None:
    """What is broken is left out; the service itself asked, then."""
    assert asker_of(headers, "runtime", "own") == Asker("runtime", "own")
    assert asker_of(headers, "", "own") == Asker("", "own")
