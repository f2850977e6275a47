"""Unpacking an image: every layer that isn't here is fetched and applied, several at once, and committed in order."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hythe import failpoints, tracing
from hythe.digest import Digest
from hythe.errors import DataLoss, FailedPrecondition, HytheError, NotFound
from hythe.oci import Platform
from hythe.ports.snapshots import Snapshotter, Stage
from hythe_bundle.applier import Applied, Applier, Limits
from hythe_bundle.content import Blobs, LayerReport, LayerState, Origin, Report
from hythe_bundle.flights import Flights
from hythe_bundle.images import Layer, UnpackedImage, UnpackedImages, load
from hythe_bundle.slots import Slots

log = logging.getLogger(__name__)

WORKERS = 2
ELF_32_LABEL = "elf-32"


class Room(Protocol):
    """Looks after the free space of the snapshots' file system."""

    def check(self, step: str) -> None:
        """Return if more may be written.

        Raises:
            ResourceExhausted: less than the reserve is free.
        """


class Figures(Protocol):
    """What unpacking tells the figures of its process."""

    def applied(self, outcome: str, archive_bytes: int, elapsed_s: float) -> None:
        """A layer was applied (``ok``) or not (the error's code); `archive_bytes` are uncompressed."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Result of an unpack; `new_layers` were not here before."""

    image: UnpackedImage
    new_layers: int


class Unpacker:
    """Turns images into committed snapshots."""

    def __init__(
        self,
        snapshots: Snapshotter,
        applier: Applier,
        blobs: Blobs,
        images: UnpackedImages,
        room: Room,
        limits: Limits,
        figures: Figures,
    ) -> None:
        self._snapshots = snapshots
        self._applier = applier
        self._blobs = blobs
        self._images = images
        self._room = room
        self._limits = limits
        self._figures = figures
        self._flights: Flights[LayerReport] = Flights()
        self._slots = Slots(WORKERS)
        self._wanted: Counter[str] = Counter()
        self._looking = asyncio.Lock()

    async def unpack(self, origin: Origin, target: Digest, platform: Platform, report: Report) -> Unpacked:
        """Return when all layers of an image are committed snapshots.

        An image that is known costs one look-up. A layer that several images want at once is fetched and applied once.
        When this fails or is cancelled, the layers that it made and nothing else needs are removed again.

        Args:
            target: root manifest or index.
            report: told where each layer stands, at each change and now and then between.

        Raises:
            ResourceExhausted: the disk, its reserve or a limit is used up.
            DataLoss: a layer is damaged, or not the one that the image's config names.
            InvalidArgument: a document or layer is broken, hostile or refused.
            HytheError: see `Blobs`, `Applier` and `hythe_bundle.images.load`.
        """
        known = self._images.find(target, platform)
        if known is not None and (not known.chain_id or await self._has(known.chain_id)):
            return Unpacked(known, 0)
        self._room.check("unpack image")
        image = await load(self._blobs, origin, target, platform)
        names = [layer.chain_id for layer in image.layers]
        with tracing.span("unpack image", oci__manifest__digest=str(image.manifest.digest)) as span:
            self._wanted.update(names)
            missing: list[Layer] = []
            try:
                async with self._looking:
                    missing = [layer for layer in image.layers if not await self._has(layer.chain_id)]
                span.set("oci.layers", len(names))
                span.set("oci.layers.missing", len(missing))
                for layer in image.layers:
                    if layer not in missing:
                        report(LayerReport(layer.blob.digest, "exists", layer.blob.size_bytes, layer.blob.size_bytes))
                await self._make_all(origin, missing, report)
                unpacked = UnpackedImage(image.manifest.digest, names[-1] if names else "", image.config)
                failpoints.reach("bundle.image.record")
                await self._images.put({target, image.manifest.digest}, platform, unpacked)
                failpoints.reach("bundle.image.recorded")
            except BaseException:
                self._wanted -= Counter(names)
                await asyncio.shield(self._sweep(missing))
                raise
            self._wanted -= Counter(names)
            return Unpacked(unpacked, len(missing))

    async def _has(self, name: str) -> bool:
        try:
            await self._snapshots.stat(name)
        except NotFound:
            return False
        return True

    async def _make_all(self, origin: Origin, missing: Sequence[Layer], report: Report) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for layer in missing:
                    work = functools.partial(self._make, origin, layer)
                    group.create_task(self._flights.join(layer.chain_id, work, report))
        except BaseExceptionGroup as failures:
            raise _first(failures) from None

    async def _make(self, origin: Origin, layer: Layer, report: Report) -> None:
        """Fetch, apply and commit one layer; what lies below it is committed before it, by whoever makes that."""
        size = layer.blob.size_bytes
        if await self._has(layer.chain_id):  # somebody has just made it
            report(LayerReport(layer.blob.digest, "exists", size, size))
            return
        blob = await self._blobs.open(origin, layer.blob, report)
        try:
            report(LayerReport(layer.blob.digest, "fetched", size, size))
            async with self._slots.hold(size):
                stage = await self._snapshots.stage()
                failpoints.reach("bundle.layer.stage")
                try:
                    applied = await self._apply(layer, blob, stage, report)
                    failpoints.reach("bundle.layer.applied")
                except BaseException:
                    await asyncio.shield(self._snapshots.discard(stage))
                    raise
        finally:
            os.close(blob)
        try:
            with tracing.span("commit snapshot", snapshot__name=layer.chain_id):
                failpoints.reach("bundle.layer.commit")
                await self._snapshots.commit_stage(
                    stage,
                    layer.chain_id,
                    layer.parent,
                    implied=applied.implied,
                    opaque=applied.opaque,
                    labels={ELF_32_LABEL: "yes"} if applied.elf_32 else None,
                )
        except BaseException:
            await asyncio.shield(self._snapshots.discard(stage))
            raise
        report(LayerReport(layer.blob.digest, "unpacked", size, size))

    async def _apply(self, layer: Layer, blob: int, stage: Stage, report: Report) -> Applied:
        digest, size = layer.blob.digest, layer.blob.size_bytes
        state: LayerState = "unpacking"

        def progress(done_bytes: int) -> None:
            report(LayerReport(digest, state, min(done_bytes, size), size))

        started = time.monotonic()
        outcome, archive_bytes = "Internal", 0
        with tracing.span("unpack layer", oci__digest=str(digest), oci__size_bytes=size) as span:
            try:
                progress(0)
                applied = await self._applier.apply(
                    str(digest), blob, stage.mounts, self._limits, progress, lowest=not layer.parent
                )
                span.set("oci.archive_bytes", applied.archive_bytes)
                span.set("oci.entries", applied.entries)
                span.set("oci.implied_directories", len(applied.implied))
                if applied.diff_id != layer.diff_id:
                    raise DataLoss(
                        f"unpack layer {digest}: the image's config says that it unpacks to {layer.diff_id}, "
                        f"it unpacks to {applied.diff_id}",
                        phase="unpack layer",
                        next_step="push the image again; its config and layers don't belong together",
                    )
                outcome, archive_bytes = "ok", applied.archive_bytes
                return applied
            except HytheError as error:
                outcome = error.code
                raise
            except asyncio.CancelledError:
                outcome = "cancelled"
                raise
            finally:
                self._figures.applied(outcome, archive_bytes, time.monotonic() - started)

    async def _sweep(self, made: Sequence[Layer]) -> None:
        """Remove the layers of a failed unpack, topmost first, as far as nothing else has or wants them."""
        async with self._looking:
            for layer in reversed(made):
                name = layer.chain_id
                if self._wanted[name] > 0 or name in self._flights or self._images.uses(name):
                    continue
                try:
                    await self._snapshots.remove(name)
                except (NotFound, FailedPrecondition):
                    pass  # never made, or something lies on it
                except HytheError as error:
                    log.warning("layer %s of a failed unpack stays: %s", name, error.message)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error to report: a fault of ours before one that the closed set has a word for."""
    flat = list(failures.exceptions)
    faults = [error for error in flat if not isinstance(error, HytheError)]
    return (faults or flat)[0]
