"""The flow of ``container.run``: place, record, run, settle (ARCHITECTURE §2)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from hythe import tracing
from hythe.errors import Conflict, HytheError, NotFound
from hythe.identifiers import check_container_name
from hythe.reference import parse_reference
from hythe.wire.agent import ContainerRun, ContainerStatus
from hythe.wire.container import ContainerRecord, ImageRef
from hythe.wire.distribution import ImagePull, PullProgress
from hythe.wire.metadata import ContainerBegin
from hythe.wire.runtime import Run, RunProgress, RunResult
from hythe_runtime.controller.adapters.hosts import Agents, Images
from hythe_runtime.controller.adapters.metadata import Metadata
from hythe_runtime.controller.hosts import Hosts

log = logging.getLogger(__name__)

SETTLE_AFTER_S = 5.0
LEASE_S = 60.0

Report = Callable[[RunProgress], None]


class Runs:
    """Runs containers; every step that changes something has its undoing in the same method."""

    def __init__(self, metadata: Metadata, agents: Agents, images: Images, hosts: Hosts) -> None:
        self._metadata = metadata
        self._agents = agents
        self._images = images
        self._hosts = hosts

    async def run(self, namespace: str, request: Run, report: Report) -> RunResult:
        """Run a container; see `hythe.wire.runtime.Run`.

        Raises:
            HytheError: nothing is left behind, unless the outcome is "unknown"; then the record's lease settles it.
        """
        reference = str(parse_reference(request.image))
        name = check_container_name(request.name) if request.name else request.id[:12]
        with tracing.span("place") as span:
            choice = await self._hosts.choose(request.host)
            assert choice.host is not None
            span.set("host.name", choice.host)
        begin = ContainerBegin(
            id=request.id,
            name=name,
            image=ImageRef(reference=reference),
            host=choice.host,
            spec=request.spec,
            lease_s=LEASE_S,
        )
        if request.pull != "always":
            try:
                record = await self._metadata.begin(namespace, begin)
                return await self._run_on_host(namespace, request, record, report)
            except NotFound as error:
                if error.details.get("kind") != "image" or request.pull == "never":
                    raise
        return await self._run_cold(namespace, request, begin, report)

    async def _run_cold(self, namespace: str, request: Run, begin: ContainerBegin, report: Report) -> RunResult:
        """Run from an image that is fetched meanwhile: the host's bundle service waits for each layer by itself."""
        resolved: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        pull = ImagePull(reference=begin.image.reference, plain_http=request.plain_http)

        async def fetch() -> None:
            async with self._images.pull(namespace, pull) as operation:
                async for progress in operation:
                    _pass_on(progress, resolved, report)

        fetching = asyncio.create_task(fetch())
        try:
            first: list[asyncio.Future[Any]] = [resolved, fetching]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not resolved.done():
                await fetching  # raises why nothing was resolved
            begin = begin.model_copy(
                update={"image": ImageRef(reference=begin.image.reference, digest=resolved.result())}
            )
            record = await self._metadata.begin(namespace, begin)
            running = asyncio.create_task(self._run_on_host(namespace, request, record, report))
            try:
                await asyncio.wait([running, fetching], return_when=asyncio.FIRST_COMPLETED)
                if fetching.done() and not fetching.cancelled() and fetching.exception() is not None:
                    await asyncio.wait([running], timeout=1.0)  # its own error says more: the layer that failed it
                    log.warning("the image was not registered", extra={"cause": str(fetching.exception())})
                result = await running
            finally:
                running.cancel()
            warnings = await self._registered(fetching, begin.image.reference)
            return result.model_copy(update={"warnings": result.warnings + warnings})
        finally:
            fetching.cancel()

    async def _registered(self, fetching: asyncio.Task[None], reference: str) -> list[str]:
        try:
            await fetching
        except HytheError as error:
            return [f"the image {reference} was not registered: {error.message}"]
        return []

    async def _run_on_host(self, namespace: str, request: Run, record: ContainerRecord, report: Report) -> RunResult:
        order = ContainerRun(
            id=record.id,
            name=record.name,
            image=record.image,
            spec=record.spec,
            epoch=record.epoch,
            io=request.io,
            wait=request.wait,
            plain_http=request.plain_http,
        )
        settling: asyncio.Task[None] | None = None
        try:
            begin_before = self._hosts.begin_before(record.host)
            async with self._agents.run(namespace, record.host, order, begin_before) as operation:
                async for status in operation:
                    report(RunProgress(status=status))
                    if settling is None and status.status == "running":
                        settling = asyncio.create_task(self._settle_started(namespace, record))
                status = operation.result
        except HytheError as error:
            if error.outcome != "unknown" and not isinstance(error, Conflict):
                await self._forget(namespace, record.id)
            raise
        finally:
            if settling is not None and record.spec.auto_remove:
                settling.cancel()
        return RunResult(status=status, warnings=await self._settle(namespace, record, status, settling))

    async def _settle_started(self, namespace: str, record: ContainerRecord) -> None:
        """Turn the record's lease into a lasting record: at once, or for a removed-at-end one only if it lasts."""
        if record.spec.auto_remove:
            await asyncio.sleep(SETTLE_AFTER_S)
        await self._metadata.finish(namespace, record.id, "created")

    async def _settle(
        self,
        namespace: str,
        record: ContainerRecord,
        status: ContainerStatus,
        settling: asyncio.Task[None] | None,
    ) -> list[str]:
        try:
            if record.spec.auto_remove and status.status != "running":
                await self._metadata.finish(namespace, record.id, "removing")
            elif settling is not None and not record.spec.auto_remove:
                await settling
            else:
                await self._metadata.finish(namespace, record.id, "created")
        except HytheError as error:
            return [f"the record of {record.name} could not be settled now and will be later: {error.message}"]
        return []

    async def _forget(self, namespace: str, container_id: str) -> None:
        try:
            await self._metadata.finish(namespace, container_id, "absent")
        except HytheError as error:
            log.warning(
                "a record could not be deleted now; its lease will", extra={"id": container_id, "cause": str(error)}
            )


def _pass_on(progress: PullProgress, resolved: asyncio.Future[str], report: Report) -> None:
    if progress.resolved is not None and not resolved.done():
        resolved.set_result(progress.resolved.target.digest)
    if progress.layer is not None:
        layer = progress.layer
        report(
            RunProgress(
                layer_digest=layer.digest,
                layer_state=layer.state,
                done_bytes=layer.done_bytes,
                total_bytes=layer.total_bytes,
            )
        )
