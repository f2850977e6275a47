"""Sends signals to a container's first process, and sees whether they end it."""

from __future__ import annotations

import asyncio

from hythe.errors import DeadlineExceeded, HytheError, Internal
from hythe_runtime.agent.model import Record
from hythe_runtime.agent.ports import Runtime
from hythe_runtime.agent.signals import SIGKILL, SIGTERM, signal_number
from hythe_runtime.agent.task import Task

KILLED_WITHIN_S = 15.0
_OVER_WITHIN_S = 1.0


class Signals:
    """Signals by the runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def send(self, task: Task, number: int) -> None:
        """Send a signal to a container that may just end by itself.

        Raises:
            HytheError: the runtime refused, and the container has not ended.
        """
        try:
            await self._runtime.kill(task.record.id, number)
        except HytheError:
            if not await ends_within(task, _OVER_WITHIN_S):
                raise

    async def send_once(self, task: Task, number: int) -> None:
        """Send a signal to a container that shall be there.

        Raises:
            FailedPrecondition: nothing runs.
        """
        await self._runtime.kill(task.record.id, number)

    async def kill(self, task: Task) -> None:
        """Kill a container and return when it has ended.

        Raises:
            DeadlineExceeded: it did not end even by SIGKILL within 15 s.
        """
        await self.send(task, SIGKILL)
        if not await ends_within(task, KILLED_WITHIN_S):
            raise DeadlineExceeded(
                f"kill {task.record.intent.name}: it did not end within {KILLED_WITHIN_S:.0f} s of SIGKILL",
                next_step="a process that hangs in the kernel ends when the device or file system it waits for answers",
            )


def stop_signal(record: Record) -> int:
    """Return the number of the signal that stops a container: as asked for, else its image's, else SIGTERM."""
    named = str(record.intent.spec.get("stop_signal") or "") or (record.bundle.stop_signal if record.bundle else "")
    return signal_number(named) if named else SIGTERM


async def ends_within(task: Task, timeout_s: float) -> bool:
    """Wait for a container's end for so long, and tell whether it came."""
    done, _ = await asyncio.wait([task.exit], timeout=timeout_s)
    return bool(done)


def check_ended(task: Task) -> None:
    """Never call a container stopped whose work failed before its end was written down.

    Raises:
        HytheError: what its work failed with.
    """
    if task.record.state == "running":
        raise task.failure or Internal(
            f"stop {task.record.intent.name}: its end was not written down", outcome="unknown"
        )
