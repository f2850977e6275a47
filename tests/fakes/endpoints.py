"""Messages and handlers of a made-up service, for tests of the bus layer itself."""

from __future__ import annotations

import asyncio

from hythe import subjects
from hythe.bus.endpoint import Context, Progress, Scope
from hythe.bus.service import Service
from hythe.errors import FailedPrecondition
from hythe.wire.base import Reply, Request

NAMESPACE = "default"


class Ask(Request):
    """What is asked: `text` comes back, `fail` says how it shall fail, `size_bytes` is the size of the answer."""

    text: str = ""
    fail: str = ""
    size_bytes: int = 0


class Told(Reply):
    """What comes back."""

    text: str = ""
    remaining_s: float | None = None


class Step(Reply):
    """One progress message."""

    number: int
    text: str = ""


class Work:
    """Handlers that note what they did and wait where a test holds them.

    Attributes:
        asked: texts of the requests that were begun, oldest first.
        cancelled: texts of those that were cancelled.
        most_at_once: how many ran at the same time at most.
        gate: handlers wait here; open unless a test closes it.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._now = 0

    def register(self, service: Service) -> None:
        """Add endpoints ``thing.do`` (plain), ``thing.work`` and ``thing.watch`` (operations, `watch` ends when left)."""
        self._register(service, "any")

    def on_host(self, service: Service) -> None:
        """As `register`, for the instance on one host."""
        self._register(service, "host")

    def _register(self, service: Service, scope: Scope) -> None:
        service.unary("thing", "do", Ask, self.do, scope=scope)
        service.operation("thing", "work", Ask, self.work, scope=scope)
        service.operation("thing", "watch", Ask, self.work, scope=scope, abandoned="cancel")

    async def do(self, context: Context, request: Ask) -> Told:
        """Answer the text when the gate is open."""
        return await self._answer(request)

    async def work(self, context: Context, request: Ask, progress: Progress) -> Told:
        """Send three steps, then answer when the gate is open."""
        for number in range(3):
            progress(Step(number=number))
        if request.fail == "large progress":
            progress(Step(number=3, text="x" * (5 << 20)))
        return await self._answer(request)

    async def _answer(self, request: Ask) -> Told:
        self.asked.append(request.text)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request.text)
            raise
        finally:
            self._now -= 1
        if request.fail == "known":
            raise FailedPrecondition("do it: not now", cause="the reason")
        if request.fail == "unknown":
            raise RuntimeError("a secret of the code")
        return Told(text=request.text + "x" * request.size_bytes)


def do(caller: str = "runtime", service: str = "metadata", verb: str = "do") -> str:
    """Subject of a request to any instance."""
    return subjects.rpc(NAMESPACE, caller, service, "thing", verb)


def do_on_host(host: str, service: str = "bundle", verb: str = "do") -> str:
    """Subject of a request to the instance on one host."""
    return subjects.host_rpc(NAMESPACE, host, service, "thing", verb)
