"""Takes over what an earlier agent left, by `hythe_runtime.agent.recovery.plan`, before anything is served."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from hythe import clock
from hythe.errors import HytheError
from hythe.process import ProcessIdentity
from hythe_runtime.agent.book import Book
from hythe_runtime.agent.cleanup import Cleaner
from hythe_runtime.agent.entries import Created, Started
from hythe_runtime.agent.executor import Executor
from hythe_runtime.agent.model import Epoch, Exit, Intent, Record
from hythe_runtime.agent.places import Places
from hythe_runtime.agent.ports import Files, Monitors, Mounts, Runtime
from hythe_runtime.agent.recovery import NEVER_STARTED, REBOOTED, Seen, plan
from hythe_runtime.agent.supervisor import Supervisor
from hythe_runtime.agent.task import Task

log = logging.getLogger(__name__)


class Adoption:
    """The first thing that an agent does; everything that takes time goes on in the background."""

    def __init__(
        self,
        book: Book,
        places: Places,
        monitors: Monitors,
        runtime: Runtime,
        mounts: Mounts,
        files: Files,
        executor: Executor,
        cleaner: Cleaner,
        supervisor: Supervisor,
    ) -> None:
        self._book = book
        self._places = places
        self._monitors = monitors
        self._runtime = runtime
        self._mounts = mounts
        self._files = files
        self._executor = executor
        self._cleaner = cleaner
        self._supervisor = supervisor

    async def run(self) -> None:
        """Settle every container of the journal, and remove what is dead and in no journal entry."""
        alive = await self._monitors.alive()
        runs = await self._files.runs()
        states = await self._runtime_states()
        boot_id = clock.boot_id()
        for record in tuple(self._book.ledger.records.values()):
            place = self._places.run_of(record)
            identity = alive.get(place.directory)
            if record.conmon is not None and record.conmon.alive():
                identity = record.conmon  # whatever its command line calls the run directory
            seen = Seen(
                same_boot=record.conmon is None or record.conmon.boot_id == boot_id,
                run_directory=place.directory.exists(),
                monitored=identity is not None,
                has_exit_file=place.exit_file.exists(),
                runtime_state=states.get(record.id, ""),
            )
            self._carry_out(record, seen, identity)
        unclaimed = await self._remove_dead_runs(runs, alive, states)
        await self._remove_unknown_mounts(unclaimed)

    async def _runtime_states(self) -> Mapping[str, str]:
        try:
            return await self._runtime.states()
        except HytheError as error:
            log.warning("runc's containers are not known", extra={"cause": f"{error.message}: {error.cause}"})
            return {}

    def _carry_out(self, record: Record, seen: Seen, identity: ProcessIdentity | None) -> None:
        action = plan(record, seen)
        task = Task(record)
        task.monitor = self._monitors.adopt(self._places.run_of(record), identity)
        if record.exit is not None:
            task.exit.set_result(record.exit)
            task.stopped.set()
        task.launched.set()
        if action == "keep":
            task.cleaned.set()
            self._supervisor.know(task)
            return
        log.info("took over a container", extra={"id": record.id, "state": record.state, "action": action})
        if action == "settle":
            self._supervisor.begin(task, self._executor.settle(task))
        elif action == "undo":
            self._supervisor.begin(task, self._executor.undo(task, NEVER_STARTED))
        elif action == "rebooted":
            self._supervisor.begin(task, self._executor.end(task, Exit(None, REBOOTED), clock.now_rfc3339()))
        else:
            self._supervisor.know(task)
            self._note_started(record, identity)
            self._supervisor.begin(task, self._executor.watch(task))

    def _note_started(self, record: Record, identity: ProcessIdentity | None) -> None:
        """Write down the steps that were taken and that the journal lost with the agent."""
        now = clock.now_rfc3339()
        if record.state == "creating":
            place = self._places.run_of(record)
            pid, stdin = _read_pid(place.container_pid), str(place.stdin_socket) if record.intent.stdin else ""
            self._book.note(
                Created(record.id, now, record.intent.trace_id, identity, pid, stdin=stdin, log=str(place.log))
            )
        if record.state in ("creating", "created"):
            self._book.note(Started(record.id, now, record.intent.trace_id))

    async def _remove_dead_runs(
        self, runs: Sequence[tuple[str, str, int]], alive: Mapping[Path, ProcessIdentity], states: Mapping[str, str]
    ) -> set[str]:
        """Remove the runs that no journal entry speaks of; return the ids of those that live, which are left alone."""
        records = self._book.ledger.records
        unclaimed: set[str] = set()
        for namespace, container_id, number in runs:
            if container_id in records and records[container_id].run == number:
                continue
            record = _unknown(namespace, container_id, number)
            place = self._places.run_of(record)
            identity = alive.get(place.directory)
            if identity is not None and states.get(container_id) == "running":
                log.error(
                    "a container runs that the journal does not know; it is left alone", extra={"id": container_id}
                )
                unclaimed.add(container_id)
                continue
            log.warning("removing what is left of a run that the journal does not know", extra={"id": container_id})
            await self._cleaner.clear_run(record, self._monitors.adopt(place, identity))
        for container_id, state in states.items():
            if container_id not in records and container_id not in unclaimed and state != "running":
                await self._runtime.delete(container_id)
        return unclaimed

    async def _remove_unknown_mounts(self, unclaimed: set[str]) -> None:
        for point in await self._mounts.points_below(self._places.bundles):
            namespace, container_id = point.relative_to(self._places.bundles).parts[:2]
            if container_id not in self._book.ledger.records and container_id not in unclaimed:
                log.warning("unmounting what the journal does not know", extra={"path": str(point)})
                await self._mounts.unmount_below(self._places.bundle(namespace, container_id))


def _unknown(namespace: str, container_id: str, number: int) -> Record:
    """Return a record with nothing but the names that a run's places are made from."""
    epoch = Epoch(0, 0)
    intent = Intent(container_id, namespace, container_id, "", "", {}, False, epoch, "", "", "")
    return Record(intent, "removing", epoch, number)


def _read_pid(path: Path) -> int:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0
