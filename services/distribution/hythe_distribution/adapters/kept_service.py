"""The service as its endpoints see it: whatever a request looks at stays until it ends, and events say who asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pydantic import BaseModel

from hythe.bus.endpoint import Abandoned, Context, Progress, Scope
from hythe.bus.service import Service
from hythe.process_runner import Process
from hythe_distribution import origin
from hythe_distribution.origin import Origin
from hythe_distribution.watch import Watch

RequestT = TypeVar("RequestT", bound=BaseModel)


class KeptService(Service):
    """A `hythe.bus.service.Service` that runs each handler in a request of a watch."""

    def __init__(self, process: Process, name: str, watch: Watch) -> None:
        super().__init__(process, name)
        self._watch = watch

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

        async def kept(context: Context, request: RequestT) -> BaseModel:
            with self._request(context):
                return await handler(context, request)

        super().unary(noun, verb, request_type, kept, scope=scope)

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

        async def kept(context: Context, request: RequestT, progress: Progress) -> BaseModel:
            with self._request(context):
                return await handler(context, request, progress)

        super().operation(noun, verb, request_type, kept, scope=scope, abandoned=abandoned)

    @contextmanager
    def _request(self, context: Context) -> Iterator[None]:
        token = origin.current.set(Origin(context.caller, context.request_id))
        try:
            with self._watch.request():
                yield
        finally:
            origin.current.reset(token)
