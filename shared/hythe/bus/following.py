"""Following an operation from the asking side: its progress, its result, and what to think of silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel

from hythe import deadline
from hythe.bus.requests import decode, host_of, kind_of, service_of
from hythe.errors import DeadlineExceeded, HytheError, NotFound, Unavailable
from hythe.wire.base import read_reply
from hythe.wire.operation import STATE_HEADER, OperationGet, OperationState
from hythe.wire.problem import from_problem

if TYPE_CHECKING:
    from hythe.bus.calls import Calls, Pending

ReplyT = TypeVar("ReplyT", bound=BaseModel)
ProgressT = TypeVar("ProgressT", bound=BaseModel)

ASK_AGAIN_S = 0.1


class Operation(Generic[ProgressT, ReplyT]):
    """An operation being followed: iterate its progress; when that ends, `result` is there.

    Silence of 5 s is failure (not total time): the state is then asked for once, and an unknown outcome stays unknown.
    When the connection breaks after the operation was accepted, the state is asked for as soon as the connection is
    back; progress that was sent meanwhile is lost.

    Attributes:
        accepted: the service has taken the request.
    """

    def __init__(
        self,
        calls: Calls,
        pending: Pending,
        request_id: str,
        progress_type: type[ProgressT],
        result_type: type[ReplyT],
    ) -> None:
        self._calls = calls
        self._pending = pending
        self._progress_type = progress_type
        self._result_type = result_type
        self._result: ReplyT | None = None
        self.request_id = request_id
        self.accepted = False

    @property
    def result(self) -> ReplyT:
        """The operation's result; only after the iteration has ended normally."""
        assert self._result is not None, "the operation is not done"
        return self._result

    async def wait(self) -> ReplyT:
        """Follow to the end and return the result, ignoring progress."""
        async for _ in self:
            pass
        return self.result

    async def __aiter__(self) -> AsyncIterator[ProgressT]:
        kind, service = kind_of(self._pending.subject), service_of(self._pending.subject)
        while True:
            silence_s = deadline.SILENCE_S if self.accepted else deadline.nested_timeout_s()
            try:
                message = await self._calls.next(self._pending, silence_s, service)
            except (DeadlineExceeded, Unavailable) as error:
                lost, self._pending.lost = self._pending.lost, False
                if not self.accepted or not (lost or isinstance(error, DeadlineExceeded)):
                    raise
                if self._is_done(await self._ask(error if lost else None)):
                    return
                continue
            self.accepted = True
            state = message.headers.get(STATE_HEADER)
            if state == "progress":
                yield decode(message, self._progress_type, kind)
            elif state not in ("accepted", "alive"):
                self._result = decode(message, self._result_type, kind)
                return

    async def _ask(self, lost: HytheError | None) -> OperationState:
        """Ask how it stands, after silence or after the connection was `lost`.

        Raises:
            Unavailable: the service does not know, so nobody does; or it does not answer, or the connection is not
                back, within 5 s after the loss.
        """
        if lost is None:
            return await self._ask_once()
        limit = deadline.Deadline.after(deadline.SILENCE_S)
        while await self._calls.wait_connected(limit.remaining_s()):
            try:
                return await self._ask_once()
            except (Unavailable, DeadlineExceeded) as error:
                if limit.remaining_s() == 0 or isinstance(error.__cause__, NotFound):
                    raise
            await asyncio.sleep(ASK_AGAIN_S)  # the service may be back later than this process
        raise lost

    async def _ask_once(self) -> OperationState:
        subject = self._pending.subject
        question = OperationGet(id=self.request_id)
        asked = ".".join([*subject.split(".")[:-2], "operation", "get"])
        try:
            return await self._calls.call(
                asked, question, OperationState, request_id=None, timeout_s=None, begin_before=None
            )
        except NotFound as error:
            raise Unavailable(
                f"ask {kind_of(subject)}: {service_of(subject)} was started anew and does not know the outcome",
                service=service_of(subject),
                host=host_of(subject),
                outcome="unknown",
                next_step="look whether it took effect; if not, try again",
            ) from error
        except (Unavailable, DeadlineExceeded) as error:
            error.outcome = "unknown"  # of the operation, whatever became of the question
            raise

    def _is_done(self, state: OperationState) -> bool:
        if state.state == "running":
            return False
        if state.problem:
            raise from_problem(state.problem.encode())
        self._result = read_reply(self._result_type, state.result)
        return True
