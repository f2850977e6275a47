"""Bundle directories that Hythe makes where users want them: created, unpacked, fetched."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hythe import failpoints, threads, tracing
from hythe.clock import now_rfc3339
from hythe.digest import Digest
from hythe.errors import InvalidArgument, NotFound
from hythe.identifiers import new_id
from hythe.oci import Manifest, Platform, parse_document
from hythe.ports.snapshots import Snapshotter
from hythe_bundle import carried, command, foreign, id_maps
from hythe_bundle.carried import Files, Source
from hythe_bundle.carrying import Carrier, Sight
from hythe_bundle.content import Blobs, Origin, Report
from hythe_bundle.describing import Descriptions
from hythe_bundle.known_bundles import record_of
from hythe_bundle.ledger import Created, Ground
from hythe_bundle.making import Making
from hythe_bundle.unpacker import Unpacker
from hythe_bundle.wishes import Wishes

CGROUP = "/carried"
"""Stands in a config.json until `carried.portable` takes it away."""

Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all (0: unknown)."""


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle directory that is whole and on the disk."""

    created: Created
    args: tuple[str, ...]
    file_bytes: int


class Directories:
    """Makes bundle directories."""

    def __init__(
        self,
        snapshots: Snapshotter,
        unpacker: Unpacker,
        blobs: Blobs,
        descriptions: Descriptions,
        making: Making,
        ground: Ground,
        carrier: Carrier,
        disk: foreign.ForeignDisk,
        platform: Platform,
        own_root: str,
    ) -> None:
        """Make bundles for `platform`; no path below `own_root` may stand in one."""
        self._snapshots = snapshots
        self._unpacker = unpacker
        self._blobs = blobs
        self._descriptions = descriptions
        self._making = making
        self._ground = ground
        self._carrier = carrier
        self._disk = disk
        self._platform = platform
        self._own_root = own_root

    async def create(
        self, origin: Origin, image: Digest, wishes: Wishes, directory: str, report: Report, progress: Progress
    ) -> Made:
        """Make the bundle of an image at `directory`, with a whole copy of its file system; no part of it is left on failure.

        Raises:
            AlreadyExists: something is at `directory`.
            InvalidArgument: a wish can't be fulfilled in a directory that is carried elsewhere.
            HytheError: see `Unpacker.unpack`, `spec.make` and `Carrier.copy`.
        """
        if volumes := [wish.target for wish in wishes.mounts if wish.type == "volume"]:
            raise _stays_here(directory, volumes)
        async with self._making.unfinished(directory, directory=True) as partial:
            unpacked = (await self._unpacker.unpack(origin, image, self._platform, report)).image
            with tracing.span("make spec"):
                made = await self._descriptions.configure(new_id(), wishes, unpacked, CGROUP)
                config, left_out = carried.portable(made, self._own_root)
            if left_out:
                raise _stays_here(directory, left_out)
            source = Source(origin.reference, str(image))
            signal = command.stop_signal(wishes, unpacked.config)
            digests = {"manifest": str(unpacked.manifest), "config": str(unpacked.config.digest)}
            record = carried.make_record(source, config, signal, now_rfc3339(), digests)
            files = Files(carried.text_of(carried.with_stop_signal(config, signal)), record)
            await threads.run(lambda: self._ground.make(partial, files.by_name, carried.ROOTFS))
            await self._let_users_pass(partial, config)
            failpoints.reach("bundle.directory.begun")
            file_bytes = 0
            if unpacked.chain_id:
                progress(0, 0)
                with tracing.span("copy root file system"):
                    seen = id_maps.with_id_maps(await self._snapshots.look(unpacked.chain_id), config)
                    sight = Sight(directory, seen)
                    result = await self._carrier.copy(
                        sight, Path(partial, carried.ROOTFS), lambda done: progress(done, 0)
                    )
                    await self._snapshots.stat(unpacked.chain_id)  # what is on record was whole while it was read
                    file_bytes = result.file_bytes
            created = await self._making.finish_directory(partial, directory, origin.namespace, source)
        return Made(created, tuple(config["process"]["args"]), file_bytes)

    async def unpack(self, namespace: str, file: str, directory: str, progress: Progress) -> Made:
        """Make a directory of an archive that a stranger may have written; no part of it is left on failure.

        Raises:
            NotFound: there is no such file.
            AlreadyExists: something is at `directory`.
            InvalidArgument: it is no packed bundle.
            HytheError: see `Carrier.unpack`.
        """
        archive, size_bytes = await asyncio.to_thread(self._ground.open_archive, file)
        try:
            async with self._making.unfinished(directory, directory=True) as partial:
                await threads.run(lambda: self._ground.make(partial, {}))
                progress(0, size_bytes)
                with tracing.span("unpack bundle"):
                    result = await self._carrier.unpack(
                        file, archive, Path(partial), lambda done: progress(done, size_bytes), below_root=False
                    )
                return await self._finish(partial, directory, namespace, file, None, result.file_bytes)
        finally:
            os.close(archive)

    async def fetch(self, origin: Origin, target: Digest, directory: str, report: Report, progress: Progress) -> Made:
        """Make a directory of an artifact whose content this host has or can get; no part of it is left on failure.

        Raises:
            AlreadyExists: something is at `directory`.
            InvalidArgument: it is no packed bundle.
            HytheError: see `Blobs` and `Carrier.unpack`.
        """
        async with self._making.unfinished(directory, directory=True) as partial:
            document = parse_document(await self._blobs.read_document(origin, target))
            if not isinstance(document, Manifest):
                raise InvalidArgument(f"read bundle {origin.reference}: it is an index, not a packed bundle")
            config, layer = carried.parts_of(document, origin.reference)
            raw = await self._blobs.read_document(origin, config.digest, config)
            files = carried.files_of_artifact(raw, origin.reference)
            archive = await self._blobs.open(origin, layer, report)
            try:
                await threads.run(lambda: self._ground.make(partial, files.by_name, carried.ROOTFS))
                progress(0, layer.size_bytes)
                with tracing.span("unpack bundle"):
                    result = await self._carrier.unpack(
                        origin.reference,
                        archive,
                        Path(partial),
                        lambda done: progress(done, layer.size_bytes),
                        below_root=True,
                    )
            finally:
                os.close(archive)
            source = Source(origin.reference, str(target))
            return await self._finish(partial, directory, origin.namespace, origin.reference, source, result.file_bytes)

    async def _finish(
        self, partial: str, directory: str, namespace: str, name: str, source: Source | None, file_bytes: int
    ) -> Made:
        """Look at what a stranger's archive has made, and give it its name if it is a bundle."""
        names = await asyncio.to_thread(self._ground.names, partial)
        if others := sorted(names - {foreign.CONFIG, carried.RECORD, carried.ROOTFS}):
            raise InvalidArgument(f"unpack bundle {name}: it has {others[0]!r} beside what a packed bundle has")
        try:
            for file in (foreign.CONFIG, carried.RECORD):
                await asyncio.to_thread(self._ground.check_unshared, partial, file)
            found = await asyncio.to_thread(foreign.read, self._disk, partial)
            recorded = carried.read_record(await record_of(self._ground, partial), carried.RECORD)
        except (NotFound, InvalidArgument) as error:
            raise InvalidArgument(
                f"unpack bundle {name}: it is no packed bundle", cause=error.message.replace(partial, directory)
            ) from error
        if found.root != f"{found.directory}/{carried.ROOTFS}":
            raise InvalidArgument(f"unpack bundle {name}: its config.json names another root file system than its own")
        await self._let_users_pass(partial, found.config.value)
        created = await self._making.finish_directory(partial, directory, namespace, source or recorded)
        return Made(created, found.config.args, file_bytes)

    async def _let_users_pass(self, partial: str, config: Mapping[str, Any]) -> None:
        """Let a container whose root is a user of the host reach its root file system, whose files that user has."""
        if id_maps.has_own_users(config):
            await asyncio.to_thread(self._ground.let_pass, partial)


def _stays_here(directory: str, targets: Sequence[str]) -> InvalidArgument:
    return InvalidArgument(
        f"create bundle {directory}: what is at {', '.join(targets)} belongs to this host and can't be carried",
        next_step="leave it out; `hythe bundle run` mounts nothing beside what config.json says",
    )
