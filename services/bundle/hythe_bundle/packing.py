"""Packing bundles: into one archive, or into content as an artifact that registries take.

A container's bundle is packed from its snapshot, seen where nobody else sees it; its live mount is never touched.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from hythe import threads, tracing
from hythe.digest import Digest
from hythe.errors import FailedPrecondition, NotFound
from hythe.holding import Held
from hythe.oci import Descriptor
from hythe.oci.fields import load_object
from hythe.oci.media_types import OCI_MANIFEST
from hythe.ports.snapshots import Snapshotter
from hythe.reference import parse_reference
from hythe_bundle import carried, foreign, id_maps
from hythe_bundle.bundle import Bundles
from hythe_bundle.carried import Files, Source
from hythe_bundle.carrying import Carrier, Compression, Packing, Result, Sight
from hythe_bundle.directories import Progress
from hythe_bundle.known_bundles import record_of
from hythe_bundle.ledger import Ground
from hythe_bundle.making import Making
from hythe_bundle.storing import Additions, Store, additions


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive on the disk."""

    file: str
    digest: Digest
    size_bytes: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact in content, and its normalised name."""

    reference: str
    target: Descriptor
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is packed; `snapshot` is what it is seen of, empty for a directory."""

    files: Files
    sight: Sight
    warnings: tuple[str, ...] = ()
    snapshot: str = ""


class Packer:
    """Packs bundles."""

    def __init__(
        self,
        snapshots: Snapshotter,
        bundles: Bundles,
        making: Making,
        ground: Ground,
        carrier: Carrier,
        store: Store,
        disk: foreign.ForeignDisk,
        own_root: str,
    ) -> None:
        """Leave out what lies below `own_root`."""
        self._snapshots = snapshots
        self._bundles = bundles
        self._making = making
        self._ground = ground
        self._carrier = carrier
        self._store = store
        self._disk = disk
        self._own_root = own_root

    async def pack(
        self,
        namespace: str,
        container_id: str,
        directory: str,
        file: str,
        compression: Compression,
        epoch_s: int | None,
        progress: Progress,
    ) -> Packed:
        """Write a bundle, a container's or a directory's, to `file`, which appears when it is whole and on the disk.

        The same bundle gives the same bytes.

        Raises:
            NotFound, InvalidArgument: there is no such bundle, or it could not be run.
            FailedPrecondition: something is mounted in the directory, its root file system lies outside of it, or a container is
                run from a directory of others, or has users of its own, or it was removed meanwhile.
            HytheError: see `Carrier.pack`.
        """
        subject = await self._subject(namespace, container_id, directory)
        async with self._making.unfinished(file, directory=False) as partial:
            archive = await threads.run(lambda: self._ground.open_new(partial))
            try:
                progress(0, 0)
                with tracing.span("pack bundle"):
                    packing = Packing(compression, carried.ROOTFS, epoch_s=epoch_s)
                    result = await self._carrier.pack(
                        subject.sight, subject.files.by_name, packing, archive, lambda done: progress(done, 0)
                    )
            finally:
                os.close(archive)
            await self._check_whole(subject)
            await self._making.finish_file(partial, file)
        return Packed(file, Digest(result.digest), result.size_bytes, (*subject.warnings, *result.warnings))

    async def store(
        self,
        namespace: str,
        container_id: str,
        directory: str,
        reference: str,
        epoch_s: int | None,
        held: Held,
        progress: Progress,
    ) -> Stored:
        """Put a bundle into the content of the namespace as an artifact, and give it a name.

        The same bundle gives the same digest.

        Raises:
            InvalidArgument: `reference` is none.
            FailedPrecondition: as for `pack`; also where a file's name would hide another one in a layer.
            HytheError: see `Store.register` and `Ingest`; then nothing that was added stays.
        """
        name = str(parse_reference(reference))
        subject = await self._subject(namespace, container_id, directory)
        progress(0, 0)
        async with additions(self._store, namespace, held) as added:
            with tracing.span("pack bundle"):
                layer, result = await self._store_layer(namespace, subject, epoch_s, added, progress)
            raw_config = carried.artifact_config(subject.files)
            config = Descriptor(carried.CONFIG_TYPE, await added.put(raw_config), len(raw_config))
            manifest = carried.artifact_manifest(config, layer)
            target = Descriptor(OCI_MANIFEST, await added.put(manifest), len(manifest))
            kept = await self._store.register(namespace, name, target)
        return Stored(kept, target, (*subject.warnings, *result.warnings))

    async def _store_layer(
        self, namespace: str, subject: _Subject, epoch_s: int | None, added: Additions, progress: Progress
    ) -> tuple[Descriptor, Result]:
        packing = Packing("gzip", as_layer=True, epoch_s=epoch_s)
        async with self._store.ingest(namespace) as ingest:
            result = await self._carrier.pack_into(subject.sight, packing, ingest.write, lambda done: progress(done, 0))
            await self._check_whole(subject)
            layer = Descriptor(carried.LAYER_TYPE, Digest(result.digest), result.size_bytes)
            await added.refer(layer.digest)
            added.note(layer.digest, new=await ingest.commit(layer.digest, layer.size_bytes, {}))
        return layer, result

    async def _subject(self, namespace: str, container_id: str, directory: str) -> _Subject:
        return await (self._of_container(namespace, container_id) if container_id else self._of_directory(directory))

    async def _of_directory(self, directory: str) -> _Subject:
        found = await asyncio.to_thread(foreign.read, self._disk, directory)
        if found.root != found.directory and not found.root.startswith(f"{found.directory}/"):
            raise FailedPrecondition(
                f"pack bundle {directory}: its config.json names {found.root}, which lies outside of it",
                next_step="put the root file system into the bundle; a stranger's config.json may name any of this host",
            )
        await asyncio.to_thread(self._ground.check_unmounted, found.directory)
        config = found.config.raw
        if found.config.root.startswith("/") or found.root != f"{found.directory}/{carried.ROOTFS}":
            config = carried.text_of(carried.portable(found.config.value, self._own_root)[0])
        if record := await record_of(self._ground, directory):
            carried.read_record(record, f"{directory}/{carried.RECORD}")
        return _Subject(Files(config, record), Sight(directory, directory=found.root))

    async def _of_container(self, namespace: str, container_id: str) -> _Subject:
        kept = await self._bundles.look_up(namespace, container_id)
        record = kept.record
        if directory := record.get("directory"):
            raise FailedPrecondition(
                f"pack container {container_id[:12]}: it is run from the directory {directory}",
                next_step=f"`hythe bundle pack {directory}`",
            )
        value = load_object(kept.config.encode(), foreign.CONFIG).value
        if id_maps.has_own_users(value):
            raise FailedPrecondition(
                f"pack container {container_id[:12]}: its users are its own, and its files have two sorts of owners",
                next_step="`hythe commit` it, and `hythe bundle create --uidmap …` a bundle of that image",
            )
        config, left_out = carried.portable(value, self._own_root)
        image = record["image"]
        source = Source(image["reference"], image["digest"])
        digests = {name: image[name] for name in ("manifest", "config")}
        text = carried.make_record(source, config, record["stop_signal"], record["created_at"], digests)
        own = ("/etc/hostname", "/etc/hosts")
        lost = [place for place in left_out if place not in own]
        warnings = (f"what is mounted at {', '.join(lost)} belongs to this host and is left out",) if lost else ()
        files = Files(carried.text_of(carried.with_stop_signal(config, record["stop_signal"])), text)
        sight = Sight(container_id, await self._snapshots.look(container_id))
        return _Subject(files, sight, warnings, container_id)

    async def _check_whole(self, subject: _Subject) -> None:
        """Return if what was packed was there all the time: files of a snapshot go only after its record."""
        try:
            if subject.snapshot:
                await self._snapshots.stat(subject.snapshot)
        except NotFound as error:
            raise FailedPrecondition(
                f"pack container {subject.snapshot[:12]}: it was removed meanwhile", cause=error.message
            ) from error
