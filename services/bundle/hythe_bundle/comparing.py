"""Which two file systems a question about a snapshot's changes means, and layers made of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from hythe import tracing
from hythe.errors import FailedPrecondition, NotFound
from hythe.labels import UNCOMPRESSED
from hythe.oci import Descriptor
from hythe.ports.snapshots import Snapshot, Snapshotter
from hythe_bundle import id_maps
from hythe_bundle.bundle import config_in, record_in
from hythe_bundle.differ import SHRANK, Change, Comparison, Differ, LayerForm, WrittenLayer
from hythe_bundle.slots import Slots
from hythe_bundle.storing import Additions, Store

ATTEMPTS = 3
WORKERS = 2
LAYER_TYPES = {
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "none": "application/vnd.oci.image.layer.v1.tar",
}
NOTHING = ""
"""In place of a snapshot's name: a file system with nothing in it."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer that is in content; `new`: the namespace did not have it before."""

    blob: Descriptor
    written: WrittenLayer
    new: bool


class Comparer:
    """Compares snapshots, a few at a time."""

    def __init__(self, snapshots: Snapshotter, differ: Differ, store: Store) -> None:
        self._snapshots = snapshots
        self._differ = differ
        self._store = store
        self._slots = Slots(WORKERS)

    async def find(self, namespace: str, name: str) -> Snapshot:
        """Return what is recorded of a snapshot that the namespace may ask about: any but other namespaces' containers'.

        Raises:
            NotFound: there is none.
            FailedPrecondition: it is that of a container whose files lie elsewhere.
        """
        snapshot = await self._snapshots.stat(name)
        record = record_in(snapshot.labels)
        if record is not None and record["namespace"] != namespace:
            raise NotFound(
                f"find snapshot {name}: there is none in namespace {namespace}",
                next_step="-n NAMESPACE chooses the namespace of a container",
                details={"kind": "snapshot"},
            )
        if record is not None and not record.get("image"):
            raise FailedPrecondition(
                f"read the file system of container {name[:12]}: it runs a bundle's directory, and its files lie there"
            )
        return snapshot

    async def changes(self, namespace: str, name: str, other: str | None = None) -> AsyncIterator[Sequence[Change]]:
        """Yield what a snapshot changes of its parent, or of the snapshot `other`, some changes at a time.

        Raises:
            NotFound: there is no snapshot of that name.
            HytheError: see `Differ`.
        """
        comparison = await self._comparison(namespace, name, other)
        async with self._slots.hold(0):
            with tracing.span("compare snapshots", snapshot__name=name) as span:
                count = 0
                async for changes in self._differ.changes(comparison):
                    count += len(changes)
                    yield changes
                span.set("hythe.changes", count)

    async def store_layer(
        self, namespace: str, name: str, other: str | None, form: LayerForm, added: Additions, progress: Progress
    ) -> StoredLayer:
        """Put what a snapshot changes of its parent, or of `other`, into the namespace's content as a layer.

        A file that becomes shorter while it is read has all begin again, three times in all.

        Raises:
            NotFound: there is no snapshot of that name.
            HytheError: see `Differ` and `hythe_bundle.storing.Ingest`.
        """
        comparison = await self._comparison(namespace, name, other)
        async with self._slots.hold(0):
            for attempt in range(ATTEMPTS):
                try:
                    return await self._store_once(namespace, comparison, form, added, progress)
                except FailedPrecondition as error:
                    if error.details.get("kind") != SHRANK or attempt + 1 == ATTEMPTS:
                        raise
        raise AssertionError("the last attempt raises or returns")

    async def _store_once(
        self, namespace: str, comparison: Comparison, form: LayerForm, added: Additions, progress: Progress
    ) -> StoredLayer:
        async with self._store.ingest(namespace) as ingest:
            ingest_s = 0.0

            async def sink(piece: bytes) -> None:
                nonlocal ingest_s
                began_s = time.monotonic()
                await ingest.write(piece)
                ingest_s += time.monotonic() - began_s

            with tracing.span("write layer", snapshot__name=comparison.name) as span:
                written = await self._differ.write(comparison, form, sink, progress)
                span.set("hythe.compress_ms", written.compress_ms)
                span.set("hythe.ingest_ms", round(ingest_s * 1000))
                span.set("oci.entries", written.entries)
                span.set("oci.archive_bytes", written.archive_bytes)
                span.set("oci.size_bytes", written.size_bytes)
            with tracing.span("commit layer", oci__digest=str(written.digest)):
                labels = {UNCOMPRESSED: str(written.diff_id)}
                await added.refer(written.digest)
                new = await ingest.commit(written.digest, written.size_bytes, labels)
                added.note(written.digest, new=new)
        return StoredLayer(Descriptor(LAYER_TYPES[form.compression], written.digest, written.size_bytes), written, new)

    async def _comparison(self, namespace: str, name: str, other: str | None) -> Comparison:
        snapshot = await self.find(namespace, name)
        base_name = snapshot.parent if other is None else other
        if base_name != NOTHING:
            await self.find(namespace, base_name)
        return Comparison(
            name=name,
            base=await self._snapshots.look(base_name) if base_name != NOTHING else (),
            new=await self._snapshots.look(name),
            changes=await self._snapshots.changes_in(name) if base_name == snapshot.parent else None,
            changes_options=id_maps.options_back(config_in(snapshot.labels) or {}),
            skip_runtime_made=record_in(snapshot.labels) is not None,
        )
