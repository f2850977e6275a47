"""The agent's own directories: run directories, logs, and the room on their disk."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from hythe.errors import ResourceExhausted
from hythe_runtime.agent.adapters.foreign import os_errors
from hythe_runtime.agent.model import Bundle
from hythe_runtime.agent.places import Places, RunPlace


class AgentFiles:
    """`hythe_runtime.agent.ports.Files`."""

    def __init__(self, places: Places, reserve_bytes: int) -> None:
        self._places = places
        self._reserve_bytes = reserve_bytes

    async def link_bundle(self, place: RunPlace, bundle: Bundle) -> None:
        """Point the run directory at the bundle."""
        with os_errors(f"start {place.name}", phase="mount"):
            place.bundle.symlink_to(bundle.path)

    async def remove_run(self, place: RunPlace) -> None:
        """Remove a run directory, and the container's above it if that is empty then."""
        await asyncio.to_thread(_remove_run, place.directory)

    async def remove_logs(self, namespace: str, container_id: str) -> None:
        """Remove a container's logs."""
        directory = self._places.log(namespace, container_id, 1).parent
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def runs(self) -> Sequence[tuple[str, str, int]]:
        """Return (namespace, container id, run number) of every run directory."""
        return await asyncio.to_thread(self._runs)

    def _runs(self) -> list[tuple[str, str, int]]:
        found = self._places.runs.glob("*/*/*")
        return [(path.parts[-3], path.parts[-2], int(path.name)) for path in found if path.name.isdigit()]

    def check_room(self, step: str) -> None:
        """Refuse `step`, which is new work, on a disk that is nearly full."""
        room = os.statvfs(self._places.root)
        free_bytes = room.f_bavail * room.f_frsize
        if free_bytes < self._reserve_bytes:
            raise ResourceExhausted(
                f"{step}: {free_bytes} bytes are free on {self._places.root}, "
                f"less than the reserve of {self._reserve_bytes}",
                outcome="not started",
                next_step="free some room, or set HYTHE_DISK_RESERVE lower",
                details={"exit_code": "125"},
            )


def _remove_run(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.parent.rmdir()
    except OSError:
        pass  # another run is there
