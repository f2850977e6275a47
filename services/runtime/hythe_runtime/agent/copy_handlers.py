"""Subject → domain call → reply, for copies."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.wire.copy import CopyDone, CopyOpen
from hythe_runtime.agent.copies import Copies, Wish
from hythe_runtime.agent.stdio import Channel


class CopyHandlers:
    """The endpoint of the agent service for copies."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies

    def register(self, service: Service) -> None:
        """Add it to `service`."""
        service.operation("copy", "open", CopyOpen, self.open, scope="host", abandoned="cancel")

    async def open(self, context: Context, request: CopyOpen, progress: Progress) -> CopyDone:
        """``copy.open``."""
        wish = Wish(
            inward=request.direction == "in",
            path=request.path,
            follow_link=request.follow_link,
            keep_owner=request.keep_owner,
            as_is=request.as_is,
        )
        channel = Channel(context.namespace, request.io.channel, request.io.credit_bytes)
        copied = await self._copies.copy(context.namespace, request.id, channel, wish)
        return CopyDone(
            stdout_bytes=copied.sent_bytes,
            entries=copied.entries,
            file_bytes=copied.file_bytes,
            warnings=list(copied.warnings),
        )
