"""Requests about what snapshots change: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

from collections.abc import Callable

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.clock import now_ns
from hythe.holding import Holder
from hythe.wire import changes as wire
from hythe.wire.distribution import Descriptor as DescriptorMessage
from hythe_bundle.committing import CommitOrder, Committer
from hythe_bundle.comparing import Comparer, StoredLayer
from hythe_bundle.differ import Change, LayerForm
from hythe_bundle.new_image import ImageWish
from hythe_bundle.storing import Store, additions

_LETTERS = {"added": "A", "changed": "C", "deleted": "D"}


class DiffHandlers:
    """The endpoints."""

    def __init__(self, comparer: Comparer, committer: Committer, store: Store, host: str, holder: Holder) -> None:
        self._comparer = comparer
        self._committer = committer
        self._store = store
        self._host = host
        self._holder = holder

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        add = service.operation
        add("snapshot", "changes", wire.SnapshotChanges, self.snapshot_changes, scope="host", abandoned="cancel")
        add("snapshot", "diff", wire.SnapshotDiff, self.snapshot_diff, scope="host", abandoned="cancel")
        add("image", "commit", wire.ImageCommit, self.image_commit, scope="host", abandoned="cancel")

    async def snapshot_changes(
        self, context: Context, request: wire.SnapshotChanges, progress: Progress
    ) -> wire.ChangesTold:
        """Answer ``snapshot.changes``."""
        count = 0
        async for some in self._comparer.changes(context.namespace, request.key, request.other or None):
            progress(wire.ChangePage(first=count, changes=[_change(change) for change in some]))
            count += len(some)
        return wire.ChangesTold(count=count)

    async def snapshot_diff(self, context: Context, request: wire.SnapshotDiff, progress: Progress) -> wire.LayerStored:
        """Answer ``snapshot.diff``. The layer is held for as long as a lease lasts, for the caller to refer to it."""
        form = LayerForm(request.compression, request.source_date_epoch)
        namespace, other = context.namespace, request.other or None
        async with self._holder.hold(namespace, context.request_id) as held:
            async with additions(self._store, namespace, held) as added:
                layer = await self._comparer.store_layer(namespace, request.key, other, form, added, _told(progress))
            async with held.handed_over():
                pass  # nobody ends it: it runs out
        return _layer(layer)

    async def image_commit(
        self, context: Context, request: wire.ImageCommit, progress: Progress
    ) -> wire.ImageCommitted:
        """Answer ``image.commit``."""
        image = request.image
        epoch = image.source_date_epoch
        order = CommitOrder(
            namespace=context.namespace,
            key=request.key,
            reference=image.reference,
            wish=ImageWish(
                created_ns=now_ns() if epoch is None else epoch * 10**9,
                author=image.author,
                comment=image.message,
                instructions=tuple(image.changes),
            ),
            form=LayerForm(image.compression, epoch),
        )
        async with self._holder.hold(context.namespace, context.request_id) as held:
            made = await self._committer.commit(order, held, _told(progress))
        return wire.ImageCommitted(
            reference=made.reference,
            digest=str(made.manifest.digest),
            id=str(made.config.digest),
            size_bytes=made.size_bytes,
            layer=_layer(made.layer),
            host=self._host,
        )


def _told(progress: Progress) -> Callable[[int], None]:
    return lambda done_bytes: progress(wire.LayerProgress(done_bytes=done_bytes))


def _change(change: Change) -> wire.FileChange:
    path = "/" + change.path.decode(errors="backslashreplace")
    return wire.FileChange.model_validate({"kind": _LETTERS[change.kind], "path": path})


def _layer(layer: StoredLayer) -> wire.LayerStored:
    blob = layer.blob
    message = DescriptorMessage(media_type=blob.media_type, digest=str(blob.digest), size_bytes=blob.size_bytes)
    written = layer.written
    return wire.LayerStored(
        blob=message,
        diff_id=str(written.diff_id),
        archive_bytes=written.archive_bytes,
        entries=written.entries,
        new=layer.new,
    )
