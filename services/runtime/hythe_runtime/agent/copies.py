"""Copies into and out of the containers of this host: which root is entered, when, and what ends a copy (ADR 0033)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from hythe import tracing
from hythe.errors import DeadlineExceeded, FailedPrecondition
from hythe.ports.snapshots import Mount
from hythe_runtime.agent.model import ENDED, Record
from hythe_runtime.agent.outputs import Outputs
from hythe_runtime.agent.places import Places
from hythe_runtime.agent.ports import Attachment, Files, IoTransport
from hythe_runtime.agent.sending import Sending
from hythe_runtime.agent.stdin import Inputs
from hythe_runtime.agent.stdio import Channel
from hythe_runtime.agent.task import Task

log = logging.getLogger(__name__)

WINDOW_BYTES = 4 << 20
SETTLED_WITHIN_S = 15.0
Ranges = Sequence[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be copied; see `hythe.wire.copy`."""

    inward: bool
    path: str
    follow_link: bool = False
    keep_owner: bool = False
    as_is: bool = False


@dataclass(frozen=True, slots=True)
class LiveRoot:
    """The root of a running container, as its first process sees it; `cgroup` is where that must be found."""

    pid: int
    cgroup: str


@dataclass(frozen=True, slots=True)
class StillRoot:
    """The root of a container that does not run; without `mounts`, it is the one that its config.json names."""

    bundle: Path
    rootfs: str
    mounts: tuple[Mount, ...]


@dataclass(frozen=True, slots=True)
class CopyOrder:
    """One copy, as a worker is told; ranges are (first inside, first on the host, how many) of a user namespace."""

    wish: Wish
    root: LiveRoot | StillRoot
    uids: Ranges
    gids: Ranges


@dataclass(frozen=True, slots=True)
class Copied:
    """What a worker made or sent."""

    entries: int
    file_bytes: int
    warnings: tuple[str, ...]
    sent_bytes: int = 0


class CopyWorker(Attachment, Protocol):
    """A process inside one container's root; as an attachment it takes the archive that is copied in."""

    async def read(self, most: int) -> bytes:
        """Return up to `most` bytes of the archive that is copied out; empty at its end."""

    async def outcome(self) -> Copied:
        """Wait until it is done.

        Raises:
            HytheError: what it failed with.
        """

    async def finish(self) -> None:
        """End it, whatever it does, and return when it is gone with all that it mounted."""


class Copier(Protocol):
    """Starts copy workers."""

    async def start(self, order: CopyOrder) -> CopyWorker:
        """Start one; it is on its way into the root.

        Raises:
            FailedPrecondition: the container does not run any more.
        """


class _Guest:
    """One copy in progress."""

    def __init__(self) -> None:
        self.unwanted = asyncio.Event()
        self.gone = asyncio.Event()


class Copies:
    """All copies in progress. Those of one container that does not run go one after the other: they share its mount."""

    def __init__(
        self,
        find: Callable[[str, str], Task],
        places: Places,
        copier: Copier,
        transport: IoTransport,
        outputs: Outputs,
        inputs: Inputs,
        files: Files,
    ) -> None:
        self._files = files
        self._find = find
        self._places = places
        self._copier = copier
        self._transport = transport
        self._outputs = outputs
        self._inputs = inputs
        self._guests: dict[str, set[_Guest]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._lingering: set[asyncio.Task[None]] = set()

    async def copy(self, namespace: str, container_id: str, channel: Channel, wish: Wish) -> Copied:
        """Carry out a copy over `channel`.

        Raises:
            NotFound: the container is not here, or the path is not in it.
            FailedPrecondition: it is being made or removed, or was in the end.
            ResourceExhausted: it goes in, and less than the reserve is free.
            HytheError: what the worker met.
        """
        task = self._find(namespace, container_id)
        step = f"copy {'to' if wish.inward else 'from'} {task.record.intent.name}"
        if wish.inward:
            self._files.check_room(step)
        await _settled(task, step)
        if task.record.state == "running":
            return await self._visit(task, step, channel, wish)
        turn = self._turns.setdefault(container_id, asyncio.Lock())
        async with turn:
            await _settled(task, step)
            return await self._visit(task, step, channel, wish)

    async def end(self, container_id: str) -> None:
        """End all copies of a container; returns when their workers are gone."""
        guests = list(self._guests.get(container_id, ()))
        for guest in guests:
            guest.unwanted.set()
        for guest in guests:
            await guest.gone.wait()

    async def close(self) -> None:
        """Answer nobody any more who missed something."""
        for task in tuple(self._lingering):
            task.cancel()
        if self._lingering:
            await asyncio.wait(tuple(self._lingering))

    async def _visit(self, task: Task, step: str, channel: Channel, wish: Wish) -> Copied:
        """Do the work, unless the container's root is wanted back first."""
        guest = _Guest()
        self._guests.setdefault(task.record.id, set()).add(guest)
        order = _order(task.record, self._places, step, wish)
        name = "copy in" if wish.inward else "copy out"
        work = asyncio.ensure_future((self._take_in if wish.inward else self._send_out)(channel, order))
        unwanted = asyncio.ensure_future(guest.unwanted.wait())
        try:
            with tracing.span(name, container__id=task.record.id) as span:
                await asyncio.wait((work, unwanted), return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    raise FailedPrecondition(
                        f"{step}: the container ended or is being removed; the copy was given up",
                        outcome="failed",
                        next_step="if it is still there, copy again",
                    )
                copied = work.result()
                span.set("hythe.entries", copied.entries)
                span.set("hythe.bytes", copied.file_bytes)
                return copied
        finally:
            unwanted.cancel()
            work.cancel()
            await asyncio.wait((work,))
            self._guests[task.record.id].discard(guest)
            if not self._guests[task.record.id]:
                del self._guests[task.record.id]
            guest.gone.set()

    async def _send_out(self, channel: Channel, order: CopyOrder) -> Copied:
        worker = await self._copier.start(order)
        try:
            sending = Sending(self._transport, channel, worker.read)
            self._outputs.enter(channel, sending)
            try:
                await sending.run()
                copied = await worker.outcome()
            except BaseException:
                self._outputs.leave(channel)
                raise
            self._linger(channel, sending)
            return Copied(copied.entries, copied.file_bytes, copied.warnings, sending.offset)
        finally:
            await worker.finish()

    def _linger(self, channel: Channel, sending: Sending) -> None:
        """Stay for a receiver that missed something."""

        def over(done: asyncio.Task[None]) -> None:
            self._lingering.discard(done)
            self._outputs.leave(channel)

        task = asyncio.get_running_loop().create_task(sending.linger(), name=f"copy {channel.id}")
        self._lingering.add(task)
        task.add_done_callback(over)

    async def _take_in(self, channel: Channel, order: CopyOrder) -> Copied:
        worker = await self._copier.start(order)
        try:
            self._inputs.open(channel.namespace, channel.id, worker, WINDOW_BYTES)
            return await worker.outcome()
        finally:
            self._inputs.drop(channel.namespace, channel.id)
            await worker.finish()


async def _settled(task: Task, step: str) -> None:
    """Return when a container runs, or has ended and is cleared up after.

    Raises:
        FailedPrecondition: it is neither, nor will be.
        DeadlineExceeded: the clearing up takes too long.
    """
    while True:
        state = task.record.state
        if state == "running" and not task.stopped.is_set():
            return
        if state in ("creating", "created"):
            raise FailedPrecondition(f"{step}: it is just being made", next_step="try again when it runs")
        if state not in ("running", "exited"):
            raise FailedPrecondition(f"{step}: it is being removed")
        work = task.work
        if work is None or work.done():
            if state in ENDED and task.stuck is None:
                return
            raise task.stuck or FailedPrecondition(f"{step}: it is neither running nor cleared up after")
        done, _ = await asyncio.wait((work,), timeout=SETTLED_WITHIN_S)
        if not done:
            raise task.stuck or DeadlineExceeded(f"{step}: it ended and is not cleared up after yet")


def _order(record: Record, places: Places, step: str, wish: Wish) -> CopyOrder:
    """Say which root is to be entered.

    Raises:
        FailedPrecondition: the container never had one.
    """
    namespaces = record.intent.spec.get("namespaces") or {}
    uids, gids = _ranges(namespaces.get("user_ids")), _ranges(namespaces.get("group_ids"))
    if record.state == "running":
        return CopyOrder(wish, LiveRoot(record.pid, places.run_of(record).cgroup), uids, gids)
    if record.bundle is None:
        raise FailedPrecondition(f"{step}: it never had files")
    bundle = record.bundle
    return CopyOrder(wish, StillRoot(Path(bundle.path), bundle.rootfs, bundle.mounts), uids, gids)


def _ranges(wishes: Sequence[dict[str, int]] | None) -> Ranges:
    return tuple((each["container_id"], each["host_id"], each["size"]) for each in wishes or ())
