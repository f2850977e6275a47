"""One host of a stack: a real bus, ``hythe-agent`` as a process of its own, and a bundle service that stands for the real one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

from hythe import settings, subjects
from hythe.bus.connection import Bus, Message
from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.errors import HytheError
from hythe.identifiers import new_id
from hythe.linux import mountinfo
from hythe.metrics import Metrics
from hythe.process_runner import Process
from hythe.stack.streams import ensure_streams
from hythe.wire.agent import (
    AgentList,
    AgentPage,
    ContainerInspect,
    ContainerRemove,
    ContainerRun,
    ContainerStatus,
)
from hythe.wire.base import Empty
from hythe.wire.bundle import BundlePrepare, BundlePrepared, BundleRelease, Mount
from hythe.wire.container import ContainerSpec, Epoch, ImageRef
from hythe.wire.events import Event
from hythe.wire.io import OFFSET_HEADER, Credit, IoEnd, IoOpen
from hythe_runtime.agent.adapters.cgroup import KernelCgroups
from hythe_runtime.agent.adapters.mounts import unmount_below
from tests.fakes.bundles import make_bundle, remove_bundle
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.waiting import eventually, eventually_async

NAMESPACE = "lab"


class AgentHost:
    """Start it, ask its agent, kill its agent, start another; `close` removes everything.

    Attributes:
        bundles: ids of the bundles that are there.
    """

    def __init__(self, directory: Path, bus: SecuredBus, base: Path) -> None:
        self.directory = directory
        self.bundles: set[str] = set()
        self._server = bus
        self._base = base
        self._parent = f"hythe-test-{uuid.uuid4().hex[:8]}"
        self._agent: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.AsyncExitStack()
        self._ready = directory / "state" / "services" / "agent.json"
        self.log = directory / "agent.log"
        (directory / "hythe.toml").touch()

    def use_base(self, base: Path) -> None:
        """Make bundles on another root file system from now on."""
        self._base = base

    def _environment(self, **variables: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HYTHE_ROOT": str(self.directory),
            "HYTHE_STATE": str(self.directory / "state"),
            "HYTHE_HOST": HOST,
            "HYTHE_CGROUP_PARENT": self._parent,
            "HYTHE_DISK_RESERVE": "0",
            "NATS_URL": self._server.url,
            "HYTHE_CONFIG": str(self.directory / "hythe.toml"),
            **variables,
        }

    async def open(self) -> None:
        """Make the streams, and answer as the bundle service and as runtime would."""
        streams = self._server.sync("streams")
        ensure_streams(streams)
        streams.close()
        loaded = settings.load(environment=self._environment())
        metrics = Metrics("test")
        self.runtime = await Bus.connect(loaded, "runtime", metrics)
        self._stack.push_async_callback(self.runtime.close)
        self.admin = await Bus.connect(loaded, "admin", Metrics("test"))
        self._stack.push_async_callback(self.admin.close)
        self._bundle_bus = await Bus.connect(loaded, "bundle", Metrics("test"))
        self._stack.push_async_callback(self._bundle_bus.close)
        self._loaded = loaded
        await self.start_bundles()
        self._stack.push_async_callback(self.stop_bundles)

    async def start_bundles(self) -> None:
        """Answer as the bundle service."""
        bus = self._bundle_bus
        process = Process(self._loaded, bus, bus.metrics, self.directory / "bundle", new_id(), 0)
        self._service = Service(process, "bundle")
        self._service.operation("bundle", "prepare", BundlePrepare, self._prepare, scope="host", abandoned="cancel")
        self._service.unary("bundle", "release", BundleRelease, self._release, scope="host")
        await self._service.start()

    async def stop_bundles(self) -> None:
        """Be away as the bundle service."""
        await self._service.stop()

    async def restart_bus(self) -> None:
        """Kill the bus and start it again, and wait until runtime is connected to it."""
        self._server.server.kill()
        await asyncio.to_thread(self._server.server.start)

        async def connected() -> bool:
            return self.runtime.connected and self.admin.connected and self._bundle_bus.connected

        await eventually_async(connected)
        await eventually_async(self._agent_answers)

    async def _agent_answers(self) -> bool:
        try:
            await self.page()
        except HytheError:
            return False
        return True

    async def _prepare(self, context: Context, request: BundlePrepare, progress: Progress) -> BundlePrepared:
        path = self.directory / "bundle" / "bundles" / context.namespace / request.id
        made = make_bundle(path, self._base, request.spec.model_dump(mode="json"), request.cgroup_path)
        self.bundles.add(request.id)
        mounts = [Mount(type=m.type, source=m.source, target=m.target, options=list(m.options)) for m in made.mounts]
        return BundlePrepared(
            path=made.path, rootfs=made.rootfs, mounts=mounts, args=list(made.args), stop_signal=made.stop_signal
        )

    async def _release(self, context: Context, request: BundleRelease) -> Empty:
        remove_bundle(self.directory / "bundle" / "bundles" / context.namespace / request.id)
        self.bundles.discard(request.id)
        return Empty()

    def start_agent(self, *, wait: bool = True, **variables: str) -> None:
        """Start an agent; with `wait`, return when it is ready."""
        self._ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "hythe_runtime.agent"],
                env=self._environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            eventually(lambda: self._ready.exists() or not self.agent_lives(), what="hythe-agent is ready")
            assert self.agent_lives(), self.log.read_text()

    def second_agent(self) -> subprocess.CompletedProcess[bytes]:
        """Run another agent to its end."""
        return subprocess.run(
            [sys.executable, "-m", "hythe_runtime.agent"], env=self._environment(), capture_output=True, timeout=20
        )

    def agent_lives(self) -> bool:
        """Tell whether the agent process is there."""
        return self._agent is not None and self._agent.poll() is None

    def end_agent(self, number: int = signal.SIGKILL) -> int:
        """End the agent by a signal, by default as a crash would, and return its exit code."""
        agent, self._agent = self._agent, None
        if agent is None:
            return 0
        agent.send_signal(number)
        return agent.wait(20)

    def subject(self, noun: str, verb: str, namespace: str = NAMESPACE) -> str:
        """Return the subject of a request to the agent."""
        return subjects.host_rpc(namespace, HOST, "agent", noun, verb)

    def order(self, *args: str, wait: bool = True, io: IoOpen | None = None, **spec: object) -> ContainerRun:
        """Return a request to run `args`."""
        container_id = new_id()
        return ContainerRun(
            id=container_id,
            name=f"c-{container_id[:6]}",
            image=ImageRef(reference="busybox:latest"),
            spec=ContainerSpec.model_validate({"args": list(args), **spec}),
            epoch=Epoch(era=1, revision=1),
            io=io,
            wait=wait,
        )

    async def run(self, order: ContainerRun) -> ContainerStatus:
        """Run a container as runtime would."""
        subject = self.subject("container", "run")
        async with self.runtime.operate(
            subject, order, ContainerStatus, ContainerStatus, request_id=order.id
        ) as operation:
            return await operation.wait()

    async def inspect(self, container_id: str) -> ContainerStatus:
        """Ask for one container."""
        subject = self.subject("container", "inspect")
        return await self.runtime.call(subject, ContainerInspect(id=container_id), ContainerStatus)

    async def page(self) -> AgentPage:
        """Ask for all containers."""
        return await self.runtime.call(self.subject("container", "list", ""), AgentList(), AgentPage)

    async def remove(
        self, container_id: str, epoch: Epoch | None = None, namespace: str = NAMESPACE
    ) -> ContainerStatus:
        """Remove a container by force."""
        request = ContainerRemove(id=container_id, epoch=epoch or Epoch(era=1, revision=1), force=True)
        subject = self.subject("container", "remove", namespace)
        async with self.runtime.operate(subject, request, ContainerStatus, ContainerStatus) as operation:
            return await operation.wait()

    async def status_is(self, container_id: str, status: str) -> ContainerStatus:
        """Wait until a container has a status."""

        async def reached() -> ContainerStatus | None:
            found = await self.inspect(container_id)
            return found if found.status == status else None

        found = await eventually_async(reached)
        assert found is not None
        return found

    async def gone(self, container_id: str) -> None:
        """Wait until a container is removed."""

        async def removed() -> bool:
            return container_id in (await self.page()).gone

        await eventually_async(removed)

    async def events(self, container_id: str) -> list[Event]:
        """Return all events that the stream has of a container, in order."""
        client = await self._server.client("admin")
        try:
            stream = client.jetstream()
            last = (await stream.stream_info(subjects.EVENT_STREAM)).state.last_seq
            stored = [await stream.get_msg(subjects.EVENT_STREAM, number) for number in range(1, last + 1)]
        finally:
            await client.close()
        events = [Event.model_validate_json(message.data or b"") for message in stored]
        return [event for event in events if event.object_id == container_id]

    async def topics(self, container_id: str, count: int) -> list[str]:
        """Wait for so many events of a container and return their topics; each number is there once, in order."""

        async def enough() -> list[Event]:
            events = await self.events(container_id)
            return events if len(events) >= count else []

        events = await eventually_async(enough)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        return [event.topic for event in events]

    def figures(self) -> str:
        """Return the agent's ``/metrics``."""
        port = json.loads(self._ready.read_text())["metrics_port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read(), "utf-8")

    def processes(self) -> list[int]:
        """Return every process in this host's cgroups."""
        found: set[int] = set()
        for top in Path("/sys/fs/cgroup").glob(f"*/{self._parent}"):
            for procs in top.rglob("cgroup.procs"):
                found.update(map(int, procs.read_text().split()))
        return sorted(found)

    def left_behind(self) -> list[str]:
        """Return what is there of any container: processes, mounts, run directories, runc's states, logs, bundles."""
        left = [f"process {pid}" for pid in self.processes()]
        left += [point for point in mountinfo.points() if point.startswith(str(self.directory))]
        for place in ("state/run", "state/runc", "agent/logs", "bundle/bundles"):
            left += [str(path) for path in (self.directory / place).rglob("*") if not path.is_dir()]
        for top in Path("/sys/fs/cgroup").glob(f"*/{self._parent}/{HOST}/ctr/*"):
            left += [str(top)] if top.is_dir() else []
        return left

    async def close(self) -> None:
        """Have the agent, or a new one, remove every container; stop it, then the rest."""
        if not self.agent_lives():
            self.end_agent()
            self.start_agent()
        for container in (await self.page()).containers:
            await self.remove(container.id, container.epoch, container.namespace)
            await self.gone(container.id)
        assert self.end_agent(signal.SIGTERM) == 0, self.log.read_text()
        await self._stack.aclose()

    def kill_everything(self) -> None:
        """Leave nothing, whatever failed."""
        self.end_agent()
        KernelCgroups().remove_now(f"/{self._parent}")
        unmount_below(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)


class Output:
    """A client's end of an io channel."""

    def __init__(self, credit_bytes: int = 1 << 20) -> None:
        self.open = IoOpen(channel=new_id(), credit_bytes=credit_bytes)
        self.streams = {"stdout": bytearray(), "stderr": bytearray()}
        self.end: IoEnd | None = None
        self.grants: list[Credit] = []

    async def subscribe(self, bus: Bus) -> None:
        """Receive what comes."""
        await bus.subscribe(subjects.io_of_channel(NAMESPACE, self.open.channel), self._take)
        await bus.flush()

    def _take(self, message: Message) -> None:
        stream = subjects.parse_io(message.subject).stream
        if stream == "end":
            self.end = IoEnd.model_validate_json(message.data)
        elif stream == "credit":
            self.grants.append(Credit.model_validate_json(message.data))
        elif stream in self.streams:
            taken = self.streams[stream]
            assert int(message.headers[OFFSET_HEADER]) == len(taken)
            taken += message.data

    async def complete(self, bus: Bus) -> IoEnd:
        """Give credit until the end has come."""

        async def over() -> bool:
            for stream, data in self.streams.items():
                credit = Credit(stream=stream, have=len(data), until=len(data) + (1 << 20))
                subject = subjects.io(NAMESPACE, HOST, self.open.channel, "credit")
                await bus.publish(subject, credit.model_dump_json().encode())
            return self.end is not None

        await eventually_async(over)
        assert self.end is not None
        return self.end
