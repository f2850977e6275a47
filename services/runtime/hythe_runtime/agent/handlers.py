"""Subject → domain call → reply."""

from __future__ import annotations

from typing import Literal

from hythe.bus.connection import Message
from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.errors import InvalidArgument
from hythe.subjects import parse_io
from hythe.wire.agent import (
    AgentList,
    AgentPage,
    ContainerInspect,
    ContainerKill,
    ContainerRemove,
    ContainerRun,
    ContainerStatus,
    ContainerStop,
    LogsEnd,
    LogsOpen,
)
from hythe.wire.base import Empty
from hythe.wire.io import OFFSET_HEADER, Credit, IoOpen
from hythe_runtime.agent.convert import epoch_from_wire, intent_from_wire, status_to_wire
from hythe_runtime.agent.model import Order, Status
from hythe_runtime.agent.outputs import Outputs
from hythe_runtime.agent.stdin import Inputs
from hythe_runtime.agent.stdio import Channel, View
from hythe_runtime.agent.supervisor import Supervisor


class Handlers:
    """The endpoints of the agent service."""

    def __init__(self, supervisor: Supervisor, host: str, instance: str) -> None:
        self._supervisor = supervisor
        self._host = host
        self._instance = instance

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.operation("container", "run", ContainerRun, self.run, scope="host")
        service.operation("container", "stop", ContainerStop, self.stop, scope="host")
        service.operation("container", "remove", ContainerRemove, self.remove, scope="host")
        service.operation("logs", "open", LogsOpen, self.logs, scope="host", abandoned="cancel")
        service.unary("container", "kill", ContainerKill, self.kill, scope="host")
        service.unary("container", "inspect", ContainerInspect, self.inspect, scope="host")
        service.unary("container", "list", AgentList, self.list, scope="host")

    def _wire(self, status: Status) -> ContainerStatus:
        return status_to_wire(status, self._host, self._instance)

    async def run(self, context: Context, request: ContainerRun, progress: Progress) -> ContainerStatus:
        """``container.run``."""
        status = await self._supervisor.run(
            intent_from_wire(request, context.namespace, context.asker.caller),
            _channel(context.namespace, request.io) if request.io else None,
            wait=request.wait,
            started=lambda started: progress(self._wire(started)),
        )
        return self._wire(status)

    async def stop(self, context: Context, request: ContainerStop, progress: Progress) -> ContainerStatus:
        """``container.stop``."""
        epoch = epoch_from_wire(request.epoch)
        status = await self._supervisor.stop(
            context.namespace, request.id, epoch, request.signal, request.timeout_s, _order("stop", context)
        )
        return self._wire(status)

    async def remove(self, context: Context, request: ContainerRemove, progress: Progress) -> ContainerStatus:
        """``container.remove``."""
        epoch = epoch_from_wire(request.epoch)
        order = _order("remove", context)
        return self._wire(
            await self._supervisor.remove(context.namespace, request.id, epoch, force=request.force, order=order)
        )

    async def logs(self, context: Context, request: LogsOpen, progress: Progress) -> LogsEnd:
        """``logs.open``."""
        view = View(follow=request.follow, tail_lines=request.tail_lines, timestamps=request.timestamps)
        channel = _channel(context.namespace, request.io)
        stdout, stderr = await self._supervisor.logs(context.namespace, request.id, channel, view)
        return LogsEnd(stdout_bytes=stdout, stderr_bytes=stderr)

    async def kill(self, context: Context, request: ContainerKill) -> Empty:
        """``container.kill``."""
        epoch = epoch_from_wire(request.epoch)
        order = _order("kill", context)
        await self._supervisor.kill(context.namespace, request.id, epoch, request.signal, order)
        return Empty()

    async def inspect(self, context: Context, request: ContainerInspect) -> ContainerStatus:
        """``container.inspect``."""
        return self._wire(self._supervisor.inspect(context.namespace, request.id))

    async def list(self, context: Context, request: AgentList) -> AgentPage:
        """``container.list``."""
        page = self._supervisor.page(request.after, request.limit)
        return AgentPage(
            host=self._host,
            instance=self._instance,
            change=page.change,
            containers=[self._wire(status) for status in page.statuses],
            gone=list(page.gone),
            next=page.next,
        )


class IoHandlers:
    """What clients send on io channels."""

    def __init__(self, outputs: Outputs, inputs: Inputs) -> None:
        self._outputs = outputs
        self._inputs = inputs

    def credit(self, message: Message) -> None:
        """``….credit``; credit for standard input is the agent's own word, and ignored."""
        try:
            subject = parse_io(message.subject)
            credit = Credit.model_validate_json(message.data)
        except (InvalidArgument, ValueError):
            return
        self._outputs.credit(
            subject.namespace, subject.channel, credit.stream, credit.have, credit.until, resend=credit.resend
        )

    def stdin(self, message: Message) -> None:
        """``….stdin``."""
        offset = message.headers.get(OFFSET_HEADER, "")
        if offset.isascii() and offset.isdigit():
            subject = parse_io(message.subject)
            self._inputs.take(subject.namespace, subject.channel, int(offset), message.data)


def _order(verb: Literal["stop", "kill", "remove"], context: Context) -> Order:
    """Return who gave a command; the signal of a ``kill`` is not in it yet."""
    return Order(verb, context.asker.caller, context.asker.request_id)


def _channel(namespace: str, io: IoOpen) -> Channel:
    return Channel(namespace, io.channel, io.credit_bytes)
