"""The flow of ``container.run``: place, record, run, settle (ARCHITECTURE §2)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hythe import tracing
from hythe.errors import Conflict, DeadlineExceeded, HytheError, InvalidArgument, NotFound, Unavailable
from hythe.identifiers import check_container_name
from hythe.reference import bundle_reference, parse_reference
from hythe.wire.agent import ContainerRun, ContainerStatus
from hythe.wire.container import ContainerRecord, ImageRef
from hythe.wire.distribution import ImagePull, PullProgress
from hythe.wire.metadata import ContainerBegin
from hythe.wire.runtime import Run, RunProgress, RunResult
from hythe_runtime.controller.adapters.hosts import Agents, Images
from hythe_runtime.controller.adapters.metadata import Metadata
from hythe_runtime.controller.hosts import Hosts
from hythe_runtime.controller.settling import Settling

log = logging.getLogger(__name__)

SETTLE_AFTER_S = 5.0
LEASE_S = 60.0
MAX_JOINS = 5

Report = Callable[[RunProgress], None]


@dataclass(slots=True)
class _Started:
    """How far a run has come on its host: whether it was reported as started, and who settles its record then."""

    seen: bool = False
    settling: asyncio.Task[None] | None = None


class Runs:
    """Runs containers; every step that changes something has its undoing in the same method."""

    def __init__(self, metadata: Metadata, agents: Agents, images: Images, hosts: Hosts, settling: Settling) -> None:
        self._metadata = metadata
        self._agents = agents
        self._images = images
        self._hosts = hosts
        self._settling = settling

    async def run(self, namespace: str, request: Run, report: Report) -> RunResult:
        """Run a container; see `hythe.wire.runtime.Run`.

        Raises:
            HytheError: nothing is left behind, unless the outcome is "unknown"; then the record's lease settles it.
        """
        reference = _reference(request)
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
        with self._settling.attended(request.id):
            if request.pull != "always" or request.spec.directory:
                try:
                    record = await self._metadata.begin(namespace, begin)
                except NotFound as error:
                    if error.details.get("kind") != "image" or request.pull == "never":
                        raise
                else:
                    return await self._run_on_host(namespace, request, record, report)
            return await self._run_cold(namespace, request, begin, report)

    async def _run_cold(self, namespace: str, request: Run, begin: ContainerBegin, report: Report) -> RunResult:
        """Run from an image that is fetched meanwhile: the host's bundle service waits for each layer by itself.

        The image is kept from being collected all the time: by the lease of the pull until its name is there, and by the
        container's record, which has the digest in it, from before the first layer is asked for.
        """
        resolved: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        pull = ImagePull(reference=begin.image.reference, plain_http=request.plain_http)

        async def fetch() -> None:
            async with self._images.pull(namespace, pull) as operation:
                async for progress in operation:
                    _pass_on(progress, resolved, report)
                if not resolved.done():
                    resolved.set_result(operation.result.image.target.digest)

        fetching = asyncio.create_task(fetch())
        running: asyncio.Task[RunResult] | None = None
        try:
            first: list[asyncio.Future[Any]] = [resolved, fetching]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not resolved.done():
                await fetching  # raises why nothing was resolved
            image = ImageRef(reference=begin.image.reference, digest=resolved.result())
            record = await self._metadata.begin(namespace, begin.model_copy(update={"image": image}))
            running = asyncio.create_task(self._run_on_host(namespace, request, record, report))
            await asyncio.wait([running, fetching], return_when=asyncio.FIRST_COMPLETED)
            if fetching.done() and fetching.exception() is not None:
                log.warning("the image was not registered", extra={"cause": str(fetching.exception())})
            result = await running  # where a layer is missing, its own error says so
            warnings = await self._registered(fetching, image.reference)
            return result.model_copy(update={"warnings": result.warnings + warnings})
        finally:
            unfinished = [work for work in (fetching, running) if work is not None]
            for work in unfinished:
                work.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

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
        started = _Started()
        try:
            status = await self._follow(namespace, record, order, report, started)
        except HytheError as error:
            gone = self._hosts.is_gone(record.host, record.id)
            if gone or (error.outcome != "unknown" and not started.seen and not isinstance(error, Conflict)):
                await self._forget(namespace, record.id)
            if gone and started.seen:
                raise Unavailable(
                    f"follow {record.name}: it ended and was removed while its agent was away, and its exit code is lost",
                    host=record.host,
                    cause=error.message,
                    outcome="done",
                    service="agent",
                ) from error
            raise
        finally:
            if started.settling is not None and record.spec.auto_remove:
                started.settling.cancel()
        return RunResult(status=status, warnings=await self._settle(namespace, record, status, started.settling))

    async def _follow(
        self, namespace: str, record: ContainerRecord, order: ContainerRun, report: Report, started: _Started
    ) -> ContainerStatus:
        """Run `order` on its host, or join it again where its agent was started anew in the middle.

        Raises:
            HytheError: of the agent, or that its outcome is unknown.
        """
        for attempt in range(MAX_JOINS + 1):
            begin_before = await self._hosts.begin_before(record.host)
            async with self._agents.run(namespace, record.host, order, begin_before) as operation:
                try:
                    async for status in operation:
                        self._see_started(namespace, record, status, report, started)
                    return operation.result
                except (Unavailable, DeadlineExceeded) as error:
                    if attempt > 0:
                        error.outcome = "unknown"  # whatever this attempt met, the first may have had its effect
                    if error.outcome != "unknown" or not operation.accepted or attempt == MAX_JOINS:
                        raise
                    log.warning("asking the agent again", extra={"id": record.id, "cause": error.message})
        raise AssertionError("the last attempt returns or raises")

    def _see_started(
        self, namespace: str, record: ContainerRecord, status: ContainerStatus, report: Report, started: _Started
    ) -> None:
        started.seen = True
        report(RunProgress(status=status))
        if started.settling is None and status.status == "running":
            started.settling = asyncio.create_task(self._settle_started(namespace, record))

    async def _settle_started(self, namespace: str, record: ContainerRecord) -> None:
        """Turn the record's lease into a lasting record: at once, or for a removed-at-end one only if it lasts."""
        if record.spec.auto_remove:
            await asyncio.sleep(SETTLE_AFTER_S)
        try:
            await self._metadata.finish(namespace, record.id, "created")
        except HytheError as error:
            if not record.spec.auto_remove:
                raise
            log.warning("a record could not be settled; its lease will", extra={"id": record.id, "cause": str(error)})

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


def _reference(request: Run) -> str:
    """Return what the container is made from: an image's normalised reference, or a bundle directory."""
    if not request.spec.directory:
        return str(parse_reference(request.image))
    if request.image:
        raise InvalidArgument(f"run bundle {request.spec.directory[:200]!r}: it takes the place of an image, name none")
    return bundle_reference(request.spec.directory)


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
