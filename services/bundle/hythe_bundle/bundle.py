"""Bundles: what an agent needs to run a container, made from one durable record and remade from it when it is gone.

The files of a bundle are labels of the container's active snapshot, so that snapshot and bundle become durable in one
commit. What lies in the bundle's directory is derived from them and never synced.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hythe import failpoints, tracing
from hythe.errors import AlreadyExists, Conflict, NotFound
from hythe.oci import Platform
from hythe.ports.snapshots import NO_PARENT, Mount, Snapshotter
from hythe_bundle import id_maps, names
from hythe_bundle.adopting import Adopting
from hythe_bundle.bundle_files import BundleFile, BundleFiles
from hythe_bundle.content import Report
from hythe_bundle.describing import CONFIG, RECORD, BundleRequest, Descriptions, compact
from hythe_bundle.own_labels import BUNDLE_PREFIX
from hythe_bundle.unpacker import Room, Unpacker
from hythe_bundle.volumes import VolumePlaces

_MOUNTS = "mounts.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk; `mounts` make its root file system at `rootfs`, none where that lies in somebody's directory."""

    path: Path
    mounts: tuple[Mount, ...]
    args: tuple[str, ...]
    stop_signal: str

    @property
    def rootfs(self) -> Path:
        """Where the agent mounts."""
        return self.path / "rootfs"


@dataclass(frozen=True, slots=True)
class KeptBundle:
    """What is kept of a container's bundle: its record, the text of its config.json, and its mounts."""

    path: Path
    record: Mapping[str, Any]
    config: str
    mounts: tuple[Mount, ...]


class Bundles:
    """Prepares and releases bundles.

    Attributes:
        adopting: held while a directory of others becomes a container's, and while one is removed.
    """

    def __init__(
        self,
        snapshots: Snapshotter,
        unpacker: Unpacker,
        descriptions: Descriptions,
        files: BundleFiles,
        room: Room,
        platform: Platform,
        volumes: VolumePlaces,
    ) -> None:
        """Make bundles for `platform`, described by `descriptions`, which takes volumes from `volumes` as well."""
        self._snapshots = snapshots
        self._unpacker = unpacker
        self._descriptions = descriptions
        self._files = files
        self._room = room
        self._platform = platform
        self._volumes = volumes
        self.adopting = Adopting()

    async def prepare(self, wanted: BundleRequest, report: Report) -> Bundle:
        """Return the container's bundle, made if it isn't there; one durable commit when the image is unpacked already.

        Repeating it with the same request answers the same bundle. When it fails, nothing of it is left.

        Args:
            report: told how unpacking goes, where it is needed.

        Raises:
            Conflict: the id has a bundle that was asked for otherwise.
            InvalidArgument, FailedPrecondition, NotFound: the request or the image's config can't be fulfilled, or another
                container may write to the root file system of the same directory.
            ResourceExhausted: the disk or its reserve is used up.
            HytheError: see `Unpacker.unpack`.
        """
        path = self._files.path(wanted.namespace, wanted.id)
        known = await self._find(wanted, path)
        if known is not None:
            return known
        self._room.check("prepare bundle")
        if wanted.image is None:
            return await self.adopting.attempt(lambda: self._adopt(wanted, path))
        image = (await self._unpacker.unpack(wanted.origin, wanted.image, self._platform, report)).image
        try:
            with tracing.span("make spec"):
                texts = await self._descriptions.of_image(wanted, image, path)
        except BaseException:
            await asyncio.shield(self._volumes.abandon(wanted.id))
            raise
        return await self._record(wanted, path, texts, image.chain_id)

    async def _adopt(self, wanted: BundleRequest, path: Path) -> Bundle:
        texts = await self._descriptions.of_directory(wanted, self.records())
        return await self._record(wanted, path, texts, NO_PARENT)

    async def _record(self, wanted: BundleRequest, path: Path, texts: dict[str, str], parent: str) -> Bundle:
        """Make the durable record of a bundle, then the bundle."""
        try:
            with tracing.span("prepare snapshot"):
                labels = {BUNDLE_PREFIX + name: text for name, text in texts.items()}
                mounts = await self._snapshots.prepare(wanted.id, parent, labels=labels)
        except AlreadyExists:
            known = await self._find(wanted, path)
            if known is None:
                await asyncio.shield(self._volumes.abandon(wanted.id))
                raise
            return known
        except BaseException:
            await asyncio.shield(self._volumes.abandon(wanted.id))
            raise
        try:
            failpoints.reach("bundle.prepare.recorded")
            return await self._write(path, texts, mounts)
        except BaseException:
            await asyncio.shield(self._undo(wanted))
            raise

    async def _undo(self, wanted: BundleRequest) -> None:
        await self._volumes.abandon(wanted.id)
        await self.release(wanted.namespace, wanted.id)

    async def release(self, namespace: str, container_id: str) -> None:
        """Remove a bundle and its snapshot; nothing happens if they are gone. No fsync: it may be repeated after a crash.

        Raises:
            FailedPrecondition: something is mounted in it, or its root file system anywhere; nothing is removed.
        """
        path = self._files.path(namespace, container_id)
        try:
            texts = _texts((await self._snapshots.stat(container_id)).labels)
        except NotFound:
            texts = {}
        if texts and json.loads(texts[RECORD])["namespace"] != namespace:
            return
        await asyncio.to_thread(self._files.check_unmounted, path)
        if texts:
            try:
                await self._snapshots.remove(container_id)
            except NotFound:
                pass  # released by another request meanwhile
        await asyncio.to_thread(self._files.remove, path)
        await self._volumes.release(container_id)
        self.adopting.released()

    async def recover(self) -> None:
        """Make the directories on disk those that the records speak of; called once, before the first request."""
        paths: set[Path] = set()
        used: list[tuple[str, str, Sequence[str]]] = []
        async for snapshot in self._snapshots.walk():
            texts = _texts(snapshot.labels)
            if texts:
                record = json.loads(texts[RECORD])
                path = self._files.path(record["namespace"], record["id"])
                paths.add(path)
                used.append((record["id"], record["namespace"], record.get("volumes", ())))
                await self._write(path, texts, await self._snapshots.mounts(snapshot.name))
        await asyncio.to_thread(self._files.keep_only, paths)
        await self._volumes.recover(used)

    async def _find(self, wanted: BundleRequest, path: Path) -> Bundle | None:
        """Return the bundle that was made for the same request before, its files made again where they are gone."""
        try:
            texts = _texts((await self._snapshots.stat(wanted.id)).labels)
        except NotFound:
            return None
        record = json.loads(texts.get(RECORD, "{}"))
        if record.get("namespace") != wanted.namespace or record.get("request_digest") != wanted.digest:
            raise Conflict(f"prepare bundle {wanted.id}: there is one that was asked for otherwise")
        return await self._write(path, texts, await self._snapshots.mounts(wanted.id))

    async def records(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the record of each container's bundle, with ``created_at``."""
        async for snapshot in self._snapshots.walk():
            if texts := _texts(snapshot.labels):
                yield {**json.loads(texts[RECORD]), "created_at": snapshot.created_at}

    def path(self, namespace: str, container_id: str) -> Path:
        """Return where a container's bundle lies; see `BundleFiles.path`."""
        return self._files.path(namespace, container_id)

    async def look_up(self, namespace: str, container_id: str) -> KeptBundle:
        """Return what is kept of a container's bundle.

        Raises:
            NotFound: this host has none of that id in the namespace (``kind=bundle``).
        """
        missing = NotFound(f"find bundle {container_id}: there is none on this host", details={"kind": "bundle"})
        try:
            snapshot = await self._snapshots.stat(container_id)
        except NotFound:
            raise missing from None
        texts = _texts(snapshot.labels)
        record = json.loads(texts.get(RECORD, "{}"))
        if record.get("namespace") != namespace:
            raise missing
        mounts = () if record.get("directory") else await self._snapshots.mounts(container_id)
        record["created_at"] = snapshot.created_at
        return KeptBundle(self._files.path(namespace, container_id), record, texts[CONFIG], mounts)

    async def _write(self, path: Path, texts: Mapping[str, str], mounts: tuple[Mount, ...]) -> Bundle:
        record, config = json.loads(texts[RECORD]), json.loads(texts[CONFIG])
        if record.get("directory"):
            mounts = ()  # the root file system is somebody's directory; the snapshot is there for its labels alone
        mounts, owner = id_maps.with_id_maps(mounts, config), id_maps.owner(config)
        with tracing.span("write bundle"):
            every = {**texts, _MOUNTS: compact([asdict(mount) for mount in mounts])}
            files = {
                name: BundleFile(text, name in names.FILES, owner if name in names.FILES else id_maps.ROOT)
                for name, text in every.items()
            }
            await asyncio.to_thread(self._files.write, path, files)
        return Bundle(path, mounts, tuple(record["args"]), record["stop_signal"])


def record_in(labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the record of the container whose snapshot has these labels; None if it is no container's."""
    text = labels.get(BUNDLE_PREFIX + RECORD)
    record: dict[str, Any] | None = None if text is None else json.loads(text)
    return record


def config_in(labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the config of the container whose snapshot has these labels; None if it is no container's."""
    text = labels.get(BUNDLE_PREFIX + CONFIG)
    config: dict[str, Any] | None = None if text is None else json.loads(text)
    return config


def _texts(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the files that a snapshot's labels hold; none if it is no container's."""
    return {name.removeprefix(BUNDLE_PREFIX): text for name, text in labels.items() if name.startswith(BUNDLE_PREFIX)}
