"""Bundles: what an agent needs to run a container, made from one durable record and remade from it when it is gone.

The files of a bundle are labels of the container's active snapshot, so that snapshot and bundle become durable in one
commit. What lies in the bundle's directory is derived from them and never synced.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from hythe import failpoints, tracing
from hythe.digest import Digest, digest_of
from hythe.errors import AlreadyExists, Conflict, NotFound
from hythe.oci import Platform
from hythe.ports.snapshots import Mount, Snapshotter
from hythe_bundle import command, spec
from hythe_bundle.command import Wishes
from hythe_bundle.content import Origin, Report
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
        image: root manifest or index.
        request: the request as it came, JSON; kept in the record, and compared when the id comes again.
    """

    id: str
    namespace: str
    origin: Origin
    image: Digest
    wishes: Wishes
    cgroup_path: str
    request: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk; `mounts` make its root file system at `rootfs`."""

    path: Path
    mounts: tuple[Mount, ...]
    args: tuple[str, ...]
    stop_signal: str

    @property
    def rootfs(self) -> Path:
        """Where the agent mounts."""
        return self.path / "rootfs"


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle; a `shared` one can be read by every user of the container that it is bound into."""

    text: str
    shared: bool


class BundleFiles(Protocol):
    """The directories of bundles. All but `path` block: call them in a thread."""

    def path(self, namespace: str, container_id: str) -> Path:
        """Return where a bundle lies.

        Raises:
            InvalidArgument: namespace or id breaks its rule, so that it could be no name of a directory.
        """

    def write(self, path: Path, files: Mapping[str, BundleFile]) -> None:
        """Make the directory with ``rootfs`` and these files in it, or make again what is missing or other than this.

        Raises:
            ResourceExhausted: the disk is full; nothing is left behind.
        """

    def check_unmounted(self, path: Path) -> None:
        """Return if nothing is mounted in the directory.

        Raises:
            FailedPrecondition: something is.
        """

    def remove(self, path: Path) -> None:
        """Remove the directory; nothing happens if it isn't there. `check_unmounted` comes first."""

    def keep_only(self, paths: set[Path]) -> None:
        """Remove all other bundles, but for those in which something is mounted."""


class Bundles:
    """Prepares and releases bundles."""

    def __init__(
        self,
        snapshots: Snapshotter,
        unpacker: Unpacker,
        facts: ImageFacts,
        files: BundleFiles,
        room: Room,
        host: Callable[[], HostFacts],
        platform: Platform,
    ) -> None:
        """Make bundles for `platform` on the host that `host` tells of."""
        self._snapshots = snapshots
        self._unpacker = unpacker
        self._facts = facts
        self._files = files
        self._room = room
        self._host = host
        self._platform = platform

    async def prepare(self, wanted: BundleRequest, report: Report) -> Bundle:
        """Return the container's bundle, made if it isn't there; one durable commit when the image is unpacked already.

        Repeating it with the same request answers the same bundle. When it fails, nothing of it is left.

        Args:
            report: told how unpacking goes, where it is needed.

        Raises:
            Conflict: the id has a bundle that was asked for otherwise.
            InvalidArgument: the request or the image's config can't be fulfilled.
            ResourceExhausted: the disk or its reserve is used up.
            HytheError: see `Unpacker.unpack`.
        """
        path = self._files.path(wanted.namespace, wanted.id)
        known = await self._find(wanted, path)
        if known is not None:
            return known
        self._room.check("prepare bundle")
        image = (await self._unpacker.unpack(wanted.origin, wanted.image, self._platform, report)).image
        with tracing.span("make spec"):
            texts = await self._describe(wanted, image, path)
        try:
            with tracing.span("prepare snapshot"):
                labels = {_LABEL + name: text for name, text in texts.items()}
                mounts = await self._snapshots.prepare(wanted.id, image.chain_id, labels=labels)
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
        """Return the files of the bundle but for the mounts."""
        host, wishes = self._host(), wanted.wishes
        config = spec.make(
            wanted.id,
            wishes,
            image.config,
            await self._facts.user(wishes.user or image.config.user, image.chain_id),
            wanted.cgroup_path,
            _bound_files(wishes, path, host),
            host,
            with_32_bit=await self._facts.has_32_bit(image.chain_id),
        )
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

    async def _write(self, path: Path, texts: Mapping[str, str], mounts: tuple[Mount, ...]) -> Bundle:
        with tracing.span("write bundle"):
            every = {**texts, _MOUNTS: _json([asdict(mount) for mount in mounts])}
            files = {name: BundleFile(text, name in _SHARED) for name, text in every.items()}
            await asyncio.to_thread(self._files.write, path, files)
        record = json.loads(texts[_RECORD])
        return Bundle(path, mounts, tuple(record["args"]), record["stop_signal"])


def record_in(labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the record of the container whose snapshot has these labels; None if it is no container's."""
    text = labels.get(_LABEL + _RECORD)
    record: dict[str, Any] | None = None if text is None else json.loads(text)
    return record


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
