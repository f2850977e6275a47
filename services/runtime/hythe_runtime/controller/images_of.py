"""What a container has changed, and images made of that: asked of the bundle service on the container's host."""

from __future__ import annotations

from collections.abc import Callable

from hythe.errors import NotFound
from hythe.wire.changes import (
    ChangePage,
    ChangesTold,
    ContainerChanges,
    ContainerCommit,
    ImageCommit,
    ImageCommitted,
    LayerProgress,
    SnapshotChanges,
)
from hythe_runtime.controller.adapters.file_systems import FileSystems
from hythe_runtime.controller.adapters.metadata import Metadata
from hythe_runtime.controller.find import Found, find
from hythe_runtime.controller.hosts import Hosts


class ContainerImages:
    """Finds containers and asks their hosts."""

    def __init__(self, metadata: Metadata, file_systems: FileSystems, hosts: Hosts) -> None:
        self._metadata = metadata
        self._file_systems = file_systems
        self._hosts = hosts

    async def changes(
        self, namespace: str, request: ContainerChanges, report: Callable[[ChangePage], None]
    ) -> ChangesTold:
        """Report what a container has changed of its image.

        Raises:
            NotFound: there is no such container, or it has no file system on its host.
            HytheError: what the host's bundle service says.
        """
        found = await find(self._metadata, self._hosts, namespace, request.key)
        try:
            async with self._file_systems.changes(namespace, found.host, SnapshotChanges(key=found.id)) as operation:
                async for page in operation:
                    report(page)
                return operation.result
        except NotFound as error:
            raise _nothing(found, error) from error

    async def commit(
        self, namespace: str, request: ContainerCommit, report: Callable[[LayerProgress], None]
    ) -> ImageCommitted:
        """Make an image of a container, on its host.

        Raises:
            NotFound: there is no such container, or it has no file system on its host.
            HytheError: what the host's bundle service says.
        """
        found = await find(self._metadata, self._hosts, namespace, request.key)
        order = ImageCommit(key=found.id, image=request.image)
        try:
            async with self._file_systems.commit(namespace, found.host, order) as operation:
                async for progress in operation:
                    report(progress)
                return operation.result
        except NotFound as error:
            raise _nothing(found, error) from error


def _nothing(found: Found, error: NotFound) -> NotFound:
    """Return the error for a container whose file system is not a snapshot of its host."""
    if error.details.get("kind") != "snapshot":
        return error
    return NotFound(
        f"read the file system of container {found.id[:12]}: {found.host} keeps no snapshot of it",
        cause=error.message,
        next_step="`hythe inspect` shows whether it is there",
        details={"kind": "snapshot"},
    )
