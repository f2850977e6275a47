"""The bundle service of this host, over the bus."""

from __future__ import annotations

from pydantic import ValidationError

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.errors import InvalidArgument
from hythe.ports.snapshots import Mount
from hythe.wire.base import Empty
from hythe.wire.bundle import BundlePrepare, BundlePrepared, BundleRelease
from hythe.wire.container import ContainerSpec, ImageRef
from hythe.wire.distribution import LayerProgress
from hythe_runtime.agent.model import Bundle, Intent


class BusBundleService:
    """`hythe_runtime.agent.ports.BundleService` by requests."""

    def __init__(self, bus: Bus, host: str) -> None:
        self._bus = bus
        self._host = host

    async def prepare(self, intent: Intent, cgroup: str) -> Bundle:
        """Make a container's bundle, unpacking its image first if needed; repeating it answers the same bundle."""
        try:
            request = BundlePrepare(
                id=intent.id,
                name=intent.name,
                image=ImageRef(reference=intent.reference, digest=intent.digest or None),
                spec=ContainerSpec.model_validate(intent.spec),
                cgroup_path=cgroup,
                plain_http=intent.plain_http,
            )
        except ValidationError as error:
            raise InvalidArgument(f"prepare the bundle of {intent.name}", cause=str(error)) from error
        subject = subjects.host_rpc(intent.namespace, self._host, "bundle", "bundle", "prepare")
        async with self._bus.operate(
            subject, request, LayerProgress, BundlePrepared, request_id=intent.id
        ) as operation:
            answer = await operation.wait()
        return Bundle(
            path=answer.path,
            rootfs=answer.rootfs,
            mounts=tuple(Mount(m.type, m.source, m.target, tuple(m.options)) for m in answer.mounts),
            args=tuple(answer.args),
            stop_signal=answer.stop_signal,
        )

    async def release(self, namespace: str, container_id: str) -> None:
        """Remove the bundle and its snapshot; nothing of them may be mounted."""
        subject = subjects.host_rpc(namespace, self._host, "bundle", "bundle", "release")
        await self._bus.call(subject, BundleRelease(id=container_id), Empty)
