"""runc by its command line, each call in a worker thread; ``runc create`` is conmon's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from hythe.errors import FailedPrecondition, Internal
from hythe_runtime.agent import failures
from hythe_runtime.agent.adapters import programs
from hythe_runtime.agent.places import RunPlace

_GONE = ("does not exist", "no such container")


class Runc:
    """`hythe_runtime.agent.ports.Runtime` by runc with a state directory of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def arguments(self, log: str) -> list[str]:
        """Return runc's global options; it logs JSON lines to `log`."""
        return ["--root", str(self._root), "--log", log, "--log-format", "json"]

    async def start(self, place: RunPlace) -> None:
        """Start the command of a created container. Once only."""
        code, error = await self._run("start", place.container_id, log=str(place.directory / "runc.log"))
        if code:
            raise failures.refused(f"start {place.name}", "runc start", error)

    async def delete(self, container_id: str) -> None:
        """Delete a container, killing what runs in it; nothing happens when there is none."""
        if not (self._root / container_id).exists():
            return
        code, error = await self._run("delete", "--force", container_id)
        if code and not any(text in error for text in _GONE):
            raise failures.refused(f"delete {container_id[:12]}", "runc delete", error)

    async def kill(self, container_id: str, number: int) -> None:
        """Send signal `number` to a container's first process."""
        code, error = await self._run("kill", container_id, str(number))
        if code:
            raise FailedPrecondition(f"send signal {number} to {container_id[:12]}", phase="runc kill", cause=error)

    async def states(self) -> Mapping[str, str]:
        """Return runc's own word for the state of each container it knows."""
        if not self._root.exists():
            return {}
        result = await asyncio.to_thread(
            programs.run, [programs.find("runc"), *self.arguments("/dev/null"), "list", "--format", "json"]
        )
        if result.returncode:
            raise Internal("list runc's containers", cause=programs.last_line(result.stderr, "no message"))
        return {item["id"]: item["status"] for item in json.loads(result.stdout) or ()}

    async def _run(self, *arguments: str, log: str = "/dev/null") -> tuple[int, str]:
        result = await asyncio.to_thread(programs.run, [programs.find("runc"), *self.arguments(log), *arguments])
        return result.returncode, programs.last_line(result.stderr, f"exit code {result.returncode}")
