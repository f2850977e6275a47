"""Named volumes of a host: made at their first use, shared by containers, and gone when nobody wants them any more.

A volume is a directory that holds its record beside its data, so that neither is ever there without the other (ADR 0030).
Who uses which one is told by the bundles' records, and kept here in memory.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from hythe import failpoints, threads, tracing
from hythe.clock import now_rfc3339
from hythe.errors import FailedPrecondition, NotFound
from hythe.ports.snapshots import Snapshotter
from hythe_bundle.keyed_locks import KeyedLocks
from hythe_bundle.unpacker import Room
from hythe_bundle.volume_names import Key, Volume, VolumeWish, check_name, named
from hythe_bundle.volume_ports import Copier, VolumeFiles
from hythe_bundle.volume_users import VolumeUsers, who
from hythe_bundle.volumes import ResolvedMount
from hythe_bundle.wishes import MountWish, NamespaceWishes

log = logging.getLogger(__name__)


GRACE_S = 1.0
_STEP = "make volume"


class Volumes:
    """The volumes of this host; keeps the promise of `hythe_bundle.volumes.VolumePlaces`."""

    def __init__(
        self,
        files: VolumeFiles,
        copier: Copier,
        snapshots: Snapshotter,
        room: Room,
        *,
        records_lost: bool,
        grace_s: float = GRACE_S,
    ) -> None:
        """Keep volumes in `files`; call `recover` before anything else.

        Args:
            records_lost: the records of bundles are new: that a container isn't in them says nothing.
            grace_s: how long a removal waits for containers to go.
        """
        self._grace_s = grace_s
        self._files = files
        self._copier = copier
        self._snapshots = snapshots
        self._room = room
        self._records_lost = records_lost
        self._known: dict[Key, Volume] = {}
        self._users = VolumeUsers()
        self._made: dict[str, set[Key]] = {}
        self._locks = KeyedLocks()
        self._removals: set[asyncio.Task[None]] = set()

    async def recover(self, used: Iterable[tuple[str, str, Sequence[str]]]) -> None:
        """See `VolumePlaces.recover`."""
        volumes, left = await asyncio.to_thread(self._files.walk)
        self._known = {volume.key: volume for volume in volumes}
        for place in left:
            self._discard_later(place)
        for container_id, namespace, names in used:
            for name in names:
                self._users.add(container_id, (namespace, name))
        for volume in list(self._known.values()):
            if not volume.container or self._users.of(volume.key):
                continue
            if self._records_lost:
                kept = volume.kept()
                await asyncio.to_thread(self._files.keep, kept)
                self._known[kept.key] = kept
                log.warning("kept volume %s: the record of its container is gone", volume.name)
            else:
                await self._let_go(volume)

    async def close(self) -> None:
        """Wait for removals in progress."""
        if self._removals:
            await asyncio.wait(self._removals)

    async def resolve(
        self,
        namespace: str,
        container_id: str,
        chain_id: str,
        wanted: Sequence[MountWish],
        of_image: Sequence[str],
        namespaces: NamespaceWishes,
    ) -> tuple[ResolvedMount, ...]:
        """See `VolumePlaces.resolve`. What it made is gone when it fails.

        Raises:
            InvalidArgument: the image has something else than a directory where a volume begins with its content.
        """
        wishes = named(container_id, chain_id, wanted, of_image, namespaces)
        with tracing.span("resolve volumes"):
            try:
                return tuple([await self._mount(namespace, container_id, wish) for wish in wishes])
            except BaseException:
                await asyncio.shield(self.abandon(container_id))
                raise

    def names_of(self, container_id: str) -> list[str]:
        """See `VolumePlaces.names_of`."""
        return [name for _, name in self._users.used_by(container_id)]

    async def release(self, container_id: str) -> None:
        """See `VolumePlaces.release`."""
        self._made.pop(container_id, None)
        for key in self._users.used_by(container_id):
            async with self._locks.hold(key):
                self._users.leave(container_id, key)
                volume = self._known.get(key)
                if volume is not None and volume.container and not self._users.of(key):
                    await self._let_go(volume)

    async def abandon(self, container_id: str) -> None:
        """See `VolumePlaces.abandon`."""
        made = self._made.get(container_id, set())
        await self.release(container_id)
        for key in made:
            async with self._locks.hold(key):
                volume = self._known.get(key)
                if volume is not None and not self._users.of(key):
                    await self._let_go(volume)

    def all_of(self, namespace: str) -> list[Volume]:
        """Return the volumes of a namespace by name."""
        return sorted((volume for volume in self.all() if volume.namespace == namespace), key=lambda v: v.name)

    def all(self) -> list[Volume]:
        """Return the volumes of all namespaces."""
        return list(self._known.values())

    async def usage_bytes(self, volume: Volume) -> int:
        """Return what a volume takes on its disk."""
        return await asyncio.to_thread(self._files.usage_bytes, volume)

    def find(self, namespace: str, name: str) -> Volume:
        """Return a volume.

        Raises:
            NotFound: there is none of that name.
        """
        volume = self._known.get((namespace, name))
        if volume is None:
            raise NotFound(
                f"find volume {name[:100]}: there is none in namespace {namespace}",
                details={"kind": "volume"},
                next_step="`hythe volume ls` lists them",
            )
        return volume

    def users(self, volume: Volume) -> list[str]:
        """Return the ids of the containers that use a volume."""
        return self._users.of(volume.key)

    async def create(self, namespace: str, name: str, labels: Mapping[str, str]) -> Volume:
        """Return the volume of that name, made if it isn't there; an empty name gets a random one.

        Raises:
            InvalidArgument: the name breaks its rule.
            ResourceExhausted: the disk or its reserve is used up.
        """
        key = (namespace, check_name(name) if name else secrets.token_hex(32))
        async with self._locks.hold(key):
            volume = self._known.get(key)
            if volume is None:
                volume = await self._make(self._new(key, labels, anonymous=not name), None)
            return volume

    async def remove(self, namespace: str, name: str) -> None:
        """Remove a volume; it is gone for good when this returns.

        A container that is just being removed is waited for: that goes on after `hythe run --rm` has ended.

        Raises:
            NotFound: there is none of that name.
            FailedPrecondition: a container uses it.
        """
        key = (namespace, name)
        await self._users.wait_for_none(key, self._grace_s)
        async with self._locks.hold(key):
            volume = self.find(namespace, name)
            if users := self.users(volume):
                raise FailedPrecondition(
                    f"remove volume {name}: {who(users)}",
                    details={"kind": "volume"},
                    next_step="remove the container first",
                )
            await self._retire(volume, durable=True)

    async def prune(self, namespace: str, wanted: Callable[[Volume], bool], *, dry_run: bool) -> tuple[list[str], int]:
        """Remove the volumes that no container uses and `wanted` names; return their names and what they took in bytes."""
        names, reclaimed_bytes = [], 0
        for volume in self.all_of(namespace):
            async with self._locks.hold(volume.key):
                if self._users.of(volume.key) or volume.key not in self._known or not wanted(volume):
                    continue
                size = await asyncio.to_thread(self._files.usage_bytes, volume)
                if not dry_run:
                    await self._retire(volume, durable=True)
            names.append(volume.name)
            reclaimed_bytes += size
        return names, reclaimed_bytes

    async def _mount(self, namespace: str, container_id: str, wish: VolumeWish) -> ResolvedMount:
        key, mount = (namespace, wish.name), wish.mount
        async with self._locks.hold(key):
            self._users.add(container_id, key)
            volume = self._known.get(key)
            if volume is None:
                container = container_id if wish.own else ""
                volume = await self._make(self._new(key, {}, container=container, anonymous=wish.own), wish)
                self._made.setdefault(container_id, set()).add(key)
            elif wish.chain_id and self._users.of(key) == [container_id]:
                await self._fill(volume, wish)
        options = ("ro" if mount.read_only else "rw", *filter(None, (mount.propagation,)), *mount.options)
        return ResolvedMount("bind", str(volume.data), mount.target, options)

    def _new(self, key: Key, labels: Mapping[str, str], *, container: str = "", anonymous: bool) -> Volume:
        return Volume(*key, self._files.data(*key), now_rfc3339(), dict(labels), container, anonymous)

    async def _make(self, wanted: Volume, wish: VolumeWish | None) -> Volume:
        self._room.check(_STEP)
        stage = self._files.new_stage(wanted.namespace)
        try:
            await self._stage(stage, wish)
            failpoints.reach("bundle.volume.staged")
            await threads.until_end(self._commit(stage, wanted))
        except BaseException:
            await threads.run(lambda: self._files.discard(stage))
            raise
        failpoints.reach("bundle.volume.made")
        return wanted

    async def _stage(self, stage: Path, wish: VolumeWish | None) -> bool:
        """Make the data that a volume begins with: what the image has at its place, or nothing; tell whether it has any."""
        await threads.run(lambda: self._files.make_stage(stage, wish.root if wish else (0, 0)))
        if wish is None or not wish.chain_id:
            return False
        mounts = await self._snapshots.look(wish.chain_id)
        return await self._copier.copy(wish.name, mounts, wish.mount.target, stage, wish.users, wish.groups)

    async def _commit(self, stage: Path, wanted: Volume) -> None:
        await asyncio.to_thread(self._files.commit, stage, wanted)
        self._known[wanted.key] = wanted

    async def _fill(self, volume: Volume, wish: VolumeWish) -> None:
        """Begin a volume that has no files, and that nobody else uses, with what the image has."""
        if not await asyncio.to_thread(self._files.is_empty, volume):
            return
        stage = self._files.new_stage(volume.namespace)
        try:
            if await self._stage(stage, wish):
                await threads.run(lambda: self._files.fill(volume, stage))
        finally:
            await threads.run(lambda: self._files.discard(stage))

    async def _retire(self, volume: Volume, *, durable: bool) -> None:
        await threads.until_end(self._retire_whole(volume, durable=durable))

    async def _retire_whole(self, volume: Volume, *, durable: bool) -> None:
        place = await asyncio.to_thread(self._files.retire, volume, durable=durable)
        del self._known[volume.key]
        failpoints.reach("bundle.volume.retired")
        self._discard_later(place)

    async def _let_go(self, volume: Volume) -> None:
        """Remove a volume that its last container has left; where that is not possible now, the next start does."""
        try:
            await self._retire(volume, durable=False)
        except FailedPrecondition as error:
            log.warning("kept a volume whose container is gone: %s", error.message)

    def _discard_later(self, place: Path) -> None:
        task = asyncio.get_running_loop().create_task(self._discard(place), name=f"discard-{place.name}")
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)

    async def _discard(self, place: Path) -> None:
        """Remove files beside other work; the next start removes what a crash leaves of them."""
        try:
            await asyncio.to_thread(self._files.discard, place)
        except OSError as error:
            log.warning("files of a removed volume could not be removed: %s", error, extra={"at": str(place)})
