"""The services around runtime, small and in memory, speaking the real messages on a real bus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from hythe import clock, subjects
from hythe.bus.connection import Bus
from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.errors import AlreadyExists, InvalidArgument, NotFound
from hythe.identifiers import new_id
from hythe.reference import is_bundle
from hythe.wire import agent, bundle, distribution, metadata
from hythe.wire.base import Empty
from hythe.wire.container import ContainerRecord, Epoch, ImageRef
from tests.fixtures.secured_bus import HOST

DIGEST = "sha256:" + "a" * 64
LAYER = "sha256:" + "b" * 64


class Calls:
    """What the fakes of one test were asked.

    Attributes:
        made: each request as ``service.noun.verb``, oldest first, but for lists.
        lists: how many lists of records were asked for, which runtime also does by itself.
    """

    def __init__(self) -> None:
        self.made: list[str] = []
        self.lists = 0

    def note(self, context: Context) -> None:
        """Note a request."""
        kind = ".".join(context.subject.split(".")[5:])
        if kind == "metadata.container.list":
            self.lists += 1
        else:
            self.made.append(kind)


class FakeMetadata:
    """Records of intent in a dictionary.

    Attributes:
        records: by id.
        images: digest by reference.
        settled: (id, outcome) of each ``container.finish``.
        expired: ids whose lease has run out.
    """

    def __init__(self, calls: Calls) -> None:
        self.records: dict[str, ContainerRecord] = {}
        self.images: dict[str, str] = {}
        self.settled: list[tuple[str, str]] = []
        self.expired: set[str] = set()
        self._calls = calls
        self._revision = 0

    def register(self, service: Service) -> None:
        """Add all endpoints that runtime uses."""
        service.unary("container", "begin", metadata.ContainerBegin, self.begin, scope="any")
        service.unary("container", "finish", metadata.ContainerFinish, self.finish, scope="any")
        service.unary("container", "desire", metadata.ContainerDesire, self.desire, scope="any")
        service.unary("container", "get", metadata.ContainerGet, self.get, scope="any")
        service.unary("container", "list", metadata.ContainerList, self.list, scope="any")

    def add(self, name: str, **changes: object) -> ContainerRecord:
        """Add a record."""
        self._revision += 1
        values = {
            "id": new_id(),
            "namespace": "default",
            "name": name,
            "image": ImageRef(reference="busybox", digest=DIGEST),
            "host": HOST,
            "spec": {},
            "desired": "running",
            "phase": "created",
            "epoch": Epoch(era=1, revision=self._revision),
            "revision": self._revision,
            "created_at": clock.now_rfc3339(),
            **changes,
        }
        record = ContainerRecord.model_validate(values)
        self.records[record.id] = record
        return record

    async def begin(self, context: Context, request: metadata.ContainerBegin) -> ContainerRecord:
        """See `hythe.wire.metadata.ContainerBegin`."""
        self._calls.note(context)
        if any(r.name == request.name and r.id != request.id for r in self.records.values()):
            raise AlreadyExists(f"begin {request.name}: the name is taken")
        digest = request.image.digest or self.images.get(request.image.reference)
        if digest is None and not is_bundle(request.image.reference):
            raise NotFound(f"find image {request.image.reference}", details={"kind": "image"})
        if request.id in self.records:
            return self.records[request.id]
        return self.add(
            request.name,
            id=request.id,
            namespace=context.namespace,
            image=ImageRef(reference=request.image.reference, digest=digest),
            host=request.host,
            spec=request.spec,
            phase="creating",
        )

    async def finish(self, context: Context, request: metadata.ContainerFinish) -> metadata.ContainerFinished:
        """See `hythe.wire.metadata.ContainerFinish`."""
        self._calls.note(context)
        self.settled.append((request.id, request.outcome))
        record = self.records.get(request.id)
        if record is None:
            return metadata.ContainerFinished()
        if request.outcome == "created":
            self.records[request.id] = record.model_copy(update={"phase": "created"})
        else:
            del self.records[request.id]
        return metadata.ContainerFinished(record=self.records.get(request.id))

    async def desire(self, context: Context, request: metadata.ContainerDesire) -> ContainerRecord:
        """See `hythe.wire.metadata.ContainerDesire`."""
        self._calls.note(context)
        record = self.records[request.id]
        raised = Epoch(era=1, revision=record.epoch.revision + 100)
        self.records[request.id] = record.model_copy(update={"desired": request.desired, "epoch": raised})
        return self.records[request.id]

    async def get(self, context: Context, request: metadata.ContainerGet) -> ContainerRecord:
        """See `hythe.wire.metadata.ContainerGet`."""
        self._calls.note(context)
        here = [record for record in self.records.values() if record.namespace == context.namespace]
        found = [r for r in here if request.key in (r.id, r.name)]
        found = found or [r for r in here if r.id.startswith(request.key)]
        if len(found) > 1:
            raise InvalidArgument(f"find container {request.key!r}: may mean {', '.join(r.name for r in found)}")
        if not found:
            raise NotFound(f"find container {request.key!r}", details={"kind": "container"})
        return found[0]

    async def list(self, context: Context, request: metadata.ContainerList) -> metadata.ContainerPage:
        """See `hythe.wire.metadata.ContainerList`; pages of two, so that every list has several."""
        self._calls.note(context)
        wanted = sorted(
            i for i, r in self.records.items() if i > request.after and context.namespace in ("", r.namespace)
        )
        page = [self.records[i].model_copy(update={"lease_expired": i in self.expired}) for i in wanted[:2]]
        return metadata.ContainerPage(records=page, next=wanted[1] if len(wanted) > 2 else "")


class FakeAgent:
    """A host's agent whose containers exist in a dictionary.

    Attributes:
        statuses: by id.
        gone: ids with a tombstone.
        run: what ``container.run`` does; by default the container runs and ends with code 0 at once.
        orders: requests that came, oldest first.
        instance: id of the agent process.
    """

    def __init__(self, calls: Calls, bus: Bus, host: str = HOST) -> None:
        self.statuses: dict[str, agent.ContainerStatus] = {}
        self.gone: set[str] = set()
        self.run: Callable[[Context, agent.ContainerRun, Progress], Awaitable[agent.ContainerStatus]] = self.succeed
        self.orders: list[object] = []
        self.instance = new_id()
        self.change = 0
        self._calls = calls
        self._bus = bus
        self._host = host
        self._beating: asyncio.Task[None] | None = None

    def register(self, service: Service) -> None:
        """Add all endpoints that runtime uses."""
        service.operation("container", "run", agent.ContainerRun, self._run, scope="host")
        service.operation("container", "stop", agent.ContainerStop, self.stop, scope="host")
        service.operation("container", "remove", agent.ContainerRemove, self.remove, scope="host")
        service.operation("logs", "open", agent.LogsOpen, self.logs, scope="host", abandoned="cancel")
        service.unary("container", "kill", agent.ContainerKill, self.kill, scope="host")
        service.unary("container", "inspect", agent.ContainerInspect, self.inspect, scope="host")
        service.unary("container", "list", agent.AgentList, self.list, scope="host")

    def start_beating(self) -> None:
        """Send a heartbeat now and every 100 ms."""
        self._beating = asyncio.get_running_loop().create_task(self._beat_for_ever())

    def stop_beating(self) -> None:
        """Fall silent."""
        if self._beating is not None:
            self._beating.cancel()

    async def _beat_for_ever(self) -> None:
        while True:
            await self.beat()
            await asyncio.sleep(0.1)

    async def beat(self, **changes: object) -> None:
        """Send one heartbeat."""
        values: dict[str, object] = {
            "host": self._host,
            "instance": self.instance,
            "boot_id": clock.boot_id(),
            "boottime_ms": clock.boottime_ms(),
            "change": self.change,
            **changes,
        }
        body = agent.Beat.model_validate(values).model_dump_json().encode()
        await self._bus.publish(subjects.beat(self._host), body)

    def restart(self, removed: Iterable[str]) -> None:
        """Become another agent process, which has removed some containers meanwhile."""
        self.instance, self.change = new_id(), 0
        for container_id in removed:
            self.statuses.pop(container_id, None)
            self.gone.add(container_id)

    async def say(self, subject: str, body: bytes) -> None:
        """Publish anything with the agent's key."""
        await self._bus.publish(subject, body)

    async def report(self, status: agent.ContainerStatus) -> agent.ContainerStatus:
        """Change a container's status and tell everybody."""
        self.change += 1
        status = status.model_copy(update={"instance": self.instance, "change": self.change})
        if status.status == "removed":
            self.statuses.pop(status.id, None)
            self.gone.add(status.id)
        else:
            self.statuses[status.id] = status
        subject = subjects.status(status.namespace, self._host)
        await self._bus.publish(subject, status.model_dump_json().encode())
        return status

    def status_of(
        self, request: agent.ContainerRun, namespace: str, state: str, **more: object
    ) -> agent.ContainerStatus:
        """Return the status of a container that was asked for."""
        values = {
            "id": request.id,
            "namespace": namespace,
            "name": request.name,
            "image": request.image,
            "host": self._host,
            "status": state,
            "epoch": request.epoch,
            **more,
        }
        return agent.ContainerStatus.model_validate(values)

    def add(self, name: str, container_id: str = "", namespace: str = "default") -> agent.ContainerStatus:
        """Make a running container that nobody asked for."""
        status = agent.ContainerStatus(
            id=container_id or new_id(),
            namespace=namespace,
            name=name,
            image=ImageRef(reference="busybox", digest=DIGEST),
            host=self._host,
            status="running",
            epoch=Epoch(era=1, revision=1),
            created_at=clock.now_rfc3339(),
        )
        self.statuses[status.id] = status
        return status

    async def succeed(self, context: Context, request: agent.ContainerRun, progress: Progress) -> agent.ContainerStatus:
        """Start and end the container."""
        progress(await self.report(self.status_of(request, context.namespace, "running", pid=7)))
        ended = await self.report(self.status_of(request, context.namespace, "exited", exit_code=0))
        if request.spec.auto_remove:
            await self.report(self.status_of(request, context.namespace, "removed"))
        return ended

    async def _run(self, context: Context, request: agent.ContainerRun, progress: Progress) -> agent.ContainerStatus:
        self._calls.note(context)
        self.orders.append(request)
        return await self.run(context, request, progress)

    def _find(self, container_id: str) -> agent.ContainerStatus:
        if container_id not in self.statuses:
            raise NotFound(f"find container {container_id}: this host does not know it", outcome="done")
        return self.statuses[container_id]

    async def stop(self, context: Context, request: agent.ContainerStop, progress: Progress) -> agent.ContainerStatus:
        """End a container."""
        self._calls.note(context)
        self.orders.append(request)
        ended = self._find(request.id).model_copy(update={"status": "exited", "exit_code": 143})
        return await self.report(ended)

    async def remove(
        self, context: Context, request: agent.ContainerRemove, progress: Progress
    ) -> agent.ContainerStatus:
        """Remove a container."""
        self._calls.note(context)
        self.orders.append(request)
        return await self.report(self._find(request.id).model_copy(update={"status": "removed"}))

    async def kill(self, context: Context, request: agent.ContainerKill) -> Empty:
        """Note a signal."""
        self._calls.note(context)
        self.orders.append(request)
        self._find(request.id)
        return Empty()

    async def logs(self, context: Context, request: agent.LogsOpen, progress: Progress) -> agent.LogsEnd:
        """Pretend to send a log."""
        self._calls.note(context)
        self._find(request.id)
        return agent.LogsEnd(stdout_bytes=3, stderr_bytes=0)

    async def inspect(self, context: Context, request: agent.ContainerInspect) -> agent.ContainerStatus:
        """Return a container's status."""
        self._calls.note(context)
        return self._find(request.id)

    async def list(self, context: Context, request: agent.AgentList) -> agent.AgentPage:
        """See `hythe.wire.agent.AgentList`; pages of two."""
        wanted = sorted(i for i in self.statuses if i > request.after)
        return agent.AgentPage(
            host=self._host,
            instance=self.instance,
            change=self.change,
            containers=[self.statuses[i] for i in wanted[:2]],
            gone=sorted(self.gone),
            next=wanted[1] if len(wanted) > 2 else "",
        )


class FakeDistribution:
    """Resolves every reference to the same image.

    Attributes:
        before_resolve, before_end: gates, open unless a test closes them.
        error: raised at the end instead of the result.
        cancelled: pulls that were given up.
        orders: requests as they came.
        platform: of the image that is resolved; empty for that of `resolved`.
    """

    def __init__(self, calls: Calls) -> None:
        self.before_resolve, self.before_end = asyncio.Event(), asyncio.Event()
        self.before_resolve.set()
        self.before_end.set()
        self.error: Exception | None = None
        self.cancelled = 0
        self.orders: list[distribution.ImagePull] = []
        self.platform = ""
        self._calls = calls

    def register(self, service: Service) -> None:
        """Add ``image.pull``."""
        service.operation("image", "pull", distribution.ImagePull, self.pull, scope="any", abandoned="cancel")

    async def pull(
        self, context: Context, request: distribution.ImagePull, progress: Progress
    ) -> distribution.ImagePulled:
        """See `hythe.wire.distribution.ImagePull`."""
        self._calls.note(context)
        self.orders.append(request)
        try:
            await self.before_resolve.wait()
            if self.error is not None and not self.before_end.is_set():
                raise self.error
            image = resolved(request.reference)
            if self.platform:
                image = image.model_copy(update={"platform": self.platform})
            progress(distribution.PullProgress(resolved=image))
            layer = distribution.LayerProgress(digest=LAYER, state="fetching", done_bytes=1, total_bytes=2)
            progress(distribution.PullProgress(layer=layer))
            await self.before_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return distribution.ImagePulled(image=image, fetched_bytes=2)


class FakeBundle:
    """Unpacks every image at once.

    Attributes:
        gate: unpacking waits here; open unless a test closes it.
        error: raised instead of the result.
        cancelled: works that were given up.
        orders: requests as they came.
    """

    def __init__(self, calls: Calls) -> None:
        self.orders: list[bundle.ImageUnpack] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.cancelled = 0
        self._calls = calls

    def register(self, service: Service) -> None:
        """Add ``image.unpack``."""
        service.operation("image", "unpack", bundle.ImageUnpack, self.unpack, scope="host", abandoned="cancel")

    async def unpack(self, context: Context, request: bundle.ImageUnpack, progress: Progress) -> bundle.ImageUnpacked:
        """See `hythe.wire.bundle.ImageUnpack`."""
        self._calls.note(context)
        self.orders.append(request)
        progress(distribution.LayerProgress(digest=LAYER, state="unpacking"))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return bundle.ImageUnpacked(chain_id=LAYER, manifest_digest=DIGEST, unpacked_layers=1)


def resolved(reference: str) -> distribution.ImageResolved:
    """Return what every reference points to."""
    manifest = distribution.Descriptor(media_type="m", digest=DIGEST, size_bytes=1)
    layer = distribution.Descriptor(media_type="l", digest=LAYER, size_bytes=2)
    return distribution.ImageResolved(
        reference=reference, target=manifest, manifest=manifest, config=manifest, layers=[layer], platform="linux/amd64"
    )
