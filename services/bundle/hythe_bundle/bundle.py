"""Bundles: what an agent needs to run a container, made from one durable record and remade from it when it is gone.

The files of a bundle are labels of the container's active snapshot, so that snapshot and bundle become durable in one
commit. What lies in the bundle's directory is derived from them and never synced.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hythe import failpoints, tracing
from hythe.digest import Digest, digest_of
from hythe.errors import AlreadyExists, Conflict, NotFound
from hythe.oci import Platform
from hythe.ports.snapshots import NO_PARENT, Mount, Snapshotter
from hythe_bundle import command, foreign, spec
from hythe_bundle.bundle_files import BundleFile, BundleFiles
from hythe_bundle.command import Wishes
from hythe_bundle.content import Origin, Report
from hythe_bundle.foreign import ForeignDisk
from hythe_bundle.image_facts import ImageFacts
from hythe_bundle.images import UnpackedImage
from hythe_bundle.spec import BoundFile, HostFacts
from hythe_bundle.unpacker import Room, Unpacker

_LABEL = "bundle/"
_RECORD = "record.json"
_CONFIG = "config.json"
_MOUNTS = "mounts.json"
_SHARED = ("hosts", "hostname")
"""Files that the container itself reads."""


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """What a bundle is asked to be.

    Attributes:
        image: root manifest or index; None where `directory` takes its place.
        directory: absolute path of a bundle that others made, which is run in place of an image.
        request: the request as it came, JSON; kept in the record, and compared when the id comes again.
    """

    id: str
    namespace: str
    origin: Origin
    image: Digest | None
    wishes: Wishes
    cgroup_path: str
    request: str
    directory: str = ""


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
        facts: ImageFacts,
        files: BundleFiles,
        room: Room,
        host: Callable[[], HostFacts],
        platform: Platform,
        disk: ForeignDisk,
    ) -> None:
        """Make bundles for `platform` on the host that `host` tells of."""
        self._snapshots = snapshots
        self._unpacker = unpacker
        self._facts = facts
        self._files = files
        self._room = room
        self._host = host
        self._platform = platform
        self._disk = disk
        self.adopting = asyncio.Lock()

    async def prepare(self, wanted: BundleRequest, report: Report) -> Bundle:
        """Return the container's bundle, made if it isn't there; one durable commit when the image is unpacked already.

        Repeating it with the same request answers the same bundle. When it fails, nothing of it is left.

        Args:
            report: told how unpacking goes, where it is needed.

        Raises:
            Conflict: the id has a bundle that was asked for otherwise.
            InvalidArgument: the request or the image's config can't be fulfilled.
            FailedPrecondition: another container may write to the root file system of the same directory.
            ResourceExhausted: the disk or its reserve is used up.
            HytheError: see `Unpacker.unpack`.
        """
        path = self._files.path(wanted.namespace, wanted.id)
        known = await self._find(wanted, path)
        if known is not None:
            return known
        self._room.check("prepare bundle")
        if wanted.image is None:
            async with self.adopting:
                return await self._record(wanted, path, await self._adopt(wanted), NO_PARENT)
        image = (await self._unpacker.unpack(wanted.origin, wanted.image, self._platform, report)).image
        with tracing.span("make spec"):
            texts = await self._describe(wanted, image, path)
        return await self._record(wanted, path, texts, image.chain_id)

    async def _record(self, wanted: BundleRequest, path: Path, texts: dict[str, str], parent: str) -> Bundle:
        """Make the durable record of a bundle, then the bundle."""
        try:
            with tracing.span("prepare snapshot"):
                labels = {_LABEL + name: text for name, text in texts.items()}
                mounts = await self._snapshots.prepare(wanted.id, parent, labels=labels)
        except AlreadyExists:
            known = await self._find(wanted, path)
            if known is None:
                raise
            return known
        try:
            failpoints.reach("bundle.prepare.recorded")
            return await self._write(path, texts, mounts)
        except BaseException:
            await asyncio.shield(self.release(wanted.namespace, wanted.id))
            raise

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
        if texts and json.loads(texts[_RECORD])["namespace"] != namespace:
            return
        await asyncio.to_thread(self._files.check_unmounted, path)
        if texts:
            try:
                await self._snapshots.remove(container_id)
            except NotFound:
                pass  # released by another request meanwhile
        await asyncio.to_thread(self._files.remove, path)

    async def recover(self) -> None:
        """Make the directories on disk those that the records speak of; called once, before the first request."""
        paths: set[Path] = set()
        async for snapshot in self._snapshots.walk():
            texts = _texts(snapshot.labels)
            if texts:
                record = json.loads(texts[_RECORD])
                path = self._files.path(record["namespace"], record["id"])
                paths.add(path)
                await self._write(path, texts, await self._snapshots.mounts(snapshot.name))
        await asyncio.to_thread(self._files.keep_only, paths)

    async def _find(self, wanted: BundleRequest, path: Path) -> Bundle | None:
        """Return the bundle that was made for the same request before, its files made again where they are gone."""
        try:
            texts = _texts((await self._snapshots.stat(wanted.id)).labels)
        except NotFound:
            return None
        record = json.loads(texts.get(_RECORD, "{}"))
        if record.get("namespace") != wanted.namespace or record.get("request_digest") != _digest(wanted):
            raise Conflict(f"prepare bundle {wanted.id}: there is one that was asked for otherwise")
        return await self._write(path, texts, await self._snapshots.mounts(wanted.id))

    async def _describe(self, wanted: BundleRequest, image: UnpackedImage, path: Path) -> dict[str, str]:
        """Return the files of the bundle of an image but for the mounts."""
        wishes = wanted.wishes
        bound = _bound_files(wishes, path, self._host())
        config = await self.configure(wanted.id, wishes, image, wanted.cgroup_path, bound)
        record = {
            "id": wanted.id,
            "namespace": wanted.namespace,
            "image": {
                "reference": wanted.origin.reference,
                "digest": str(wanted.image),
                "manifest": str(image.manifest),
                "config": str(image.config.digest),
                "chain_id": image.chain_id,
            },
            "args": config["process"]["args"],
            "stop_signal": command.stop_signal(wishes, image.config),
            "request": json.loads(wanted.request),
            "request_digest": _digest(wanted),
        }
        texts = {_RECORD: _json(record), _CONFIG: _json(config), "hostname": config["hostname"] + "\n"}
        if wishes.network != "host":
            texts["hosts"] = f"127.0.0.1\tlocalhost {config['hostname']}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        return texts

    async def configure(
        self, container_id: str, wishes: Wishes, image: UnpackedImage, cgroup_path: str, bound: list[BoundFile]
    ) -> dict[str, Any]:
        """Return the config.json of a container of an image; see `spec.make`."""
        return spec.make(
            container_id,
            wishes,
            image.config,
            await self._facts.user(wishes.user or image.config.user, image.chain_id),
            cgroup_path,
            bound,
            self._host(),
            with_32_bit=await self._facts.has_32_bit(image.chain_id),
        )

    async def _adopt(self, wanted: BundleRequest) -> dict[str, str]:
        """Return the files of the bundle of a container that is run from somebody's directory."""
        with tracing.span("read bundle", hythe__bundle=wanted.directory):
            found = await asyncio.to_thread(foreign.read, self._disk, wanted.directory)
        async for other in self.records():
            foreign.check_apart(found, other)
        config = foreign.adopt(found, wanted.id, wanted.namespace, "/" + wanted.cgroup_path.strip("/"))
        record = {
            "id": wanted.id,
            "namespace": wanted.namespace,
            **foreign.facts(found),
            "args": list(found.config.args),
            "stop_signal": command.signal_of(wanted.wishes.stop_signal or found.config.stop_signal),
            "request": json.loads(wanted.request),
            "request_digest": _digest(wanted),
        }
        return {_RECORD: _json(record), foreign.CONFIG: _json(config)}

    async def records(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the record of each container's bundle, with ``created_at``."""
        async for snapshot in self._snapshots.walk():
            if texts := _texts(snapshot.labels):
                yield {**json.loads(texts[_RECORD]), "created_at": snapshot.created_at}

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
        record = json.loads(texts.get(_RECORD, "{}"))
        if record.get("namespace") != namespace:
            raise missing
        mounts = () if record.get("directory") else await self._snapshots.mounts(container_id)
        record["created_at"] = snapshot.created_at
        return KeptBundle(self._files.path(namespace, container_id), record, texts[_CONFIG], mounts)

    async def _write(self, path: Path, texts: Mapping[str, str], mounts: tuple[Mount, ...]) -> Bundle:
        record = json.loads(texts[_RECORD])
        if record.get("directory"):
            mounts = ()  # the root file system is somebody's directory; the snapshot is there for its labels alone
        with tracing.span("write bundle"):
            every = {**texts, _MOUNTS: _json([asdict(mount) for mount in mounts])}
            files = {name: BundleFile(text, name in _SHARED) for name, text in every.items()}
            await asyncio.to_thread(self._files.write, path, files)
        return Bundle(path, mounts, tuple(record["args"]), record["stop_signal"])


def _texts(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the files that a snapshot's labels hold; none if it is no container's."""
    return {name.removeprefix(_LABEL): text for name, text in labels.items() if name.startswith(_LABEL)}


def _bound_files(wishes: Wishes, path: Path, host: HostFacts) -> list[BoundFile]:
    """Return what is bound over the image's files: names and addresses fit for the network that the container has."""
    bound = [BoundFile("/etc/hostname", str(path / "hostname"), read_only=False)]
    if wishes.network == "host":
        bound += [BoundFile(name, name, read_only=True) for name in host.network_files]
    else:
        bound.append(BoundFile("/etc/hosts", str(path / "hosts"), read_only=False))
    return bound


def _digest(wanted: BundleRequest) -> str:
    return str(digest_of(wanted.request.encode()))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
