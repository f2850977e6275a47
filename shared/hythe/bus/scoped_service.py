"""A service each of whose handlers runs in a block of its own: what a request needs around it, said once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from pydantic import BaseModel

from hythe.bus.endpoint import Abandoned, Context, Progress, Scope
from hythe.bus.service import Service
from hythe.process_runner import Process

RequestT = TypeVar("RequestT", bound=BaseModel)


class ScopedService(Service):
    """A `hythe.bus.service.Service` that runs each handler in a block of `around`."""

    def __init__(self, process: Process, name: str, around: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(process, name)
        self._around = around

    def unary(
        self,
        noun: str,
        verb: str,
        request_type: type[RequestT],
        handler: Callable[[Context, RequestT], Awaitable[BaseModel]],
        *,
        scope: Scope,
    ) -> None:
        """See `hythe.bus.service.Service.unary`."""

        async def scoped(context: Context, request: RequestT) -> BaseModel:
            with self._around():
                return await handler(context, request)

        super().unary(noun, verb, request_type, scoped, scope=scope)

    def operation(
        self,
        noun: str,
        verb: str,
        request_type: type[RequestT],
        handler: Callable[[Context, RequestT, Progress], Awaitable[BaseModel]],
        *,
        scope: Scope,
        abandoned: Abandoned = "continue",
    ) -> None:
        """See `hythe.bus.service.Service.operation`."""

        async def scoped(context: Context, request: RequestT, progress: Progress) -> BaseModel:
            with self._around():
                return await handler(context, request, progress)

        super().operation(noun, verb, request_type, scoped, scope=scope, abandoned=abandoned)
