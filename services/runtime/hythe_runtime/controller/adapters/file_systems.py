"""The file systems of containers, as the bundle service of each host tells of them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from hythe import subjects
from hythe.bus.calls import Operation
from hythe.bus.connection import Bus
from hythe.wire.changes import (
    ChangePage,
    ChangesTold,
    ImageCommit,
    ImageCommitted,
    LayerProgress,
    SnapshotChanges,
)


class FileSystems:
    """Requests to the bundle service of a host; leaving a block ends the work there."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def changes(
        self, namespace: str, host: str, request: SnapshotChanges
    ) -> AbstractAsyncContextManager[Operation[ChangePage, ChangesTold]]:
        """Ask what a snapshot changes."""
        subject = subjects.host_rpc(namespace, host, "bundle", "snapshot", "changes")
        return self._bus.operate(subject, request, ChangePage, ChangesTold)

    def commit(
        self, namespace: str, host: str, request: ImageCommit
    ) -> AbstractAsyncContextManager[Operation[LayerProgress, ImageCommitted]]:
        """Have an image made of a snapshot."""
        subject = subjects.host_rpc(namespace, host, "bundle", "image", "commit")
        return self._bus.operate(subject, request, LayerProgress, ImageCommitted)
