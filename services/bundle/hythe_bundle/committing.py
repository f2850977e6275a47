"""Commits: what a snapshot changes becomes a layer, and with the image below it a new image with a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hythe import tracing
from hythe.digest import Digest, parse_digest
from hythe.errors import FailedPrecondition, InvalidArgument, NotFound
from hythe.holding import Held
from hythe.oci import Descriptor, Manifest, Platform, parse_config, parse_document
from hythe.oci.media_types import CONFIG_TYPES
from hythe.ports.snapshots import Snapshot
from hythe.reference import parse_reference
from hythe_bundle import new_image
from hythe_bundle.bundle import record_in
from hythe_bundle.comparing import NOTHING, Comparer, StoredLayer
from hythe_bundle.differ import LayerForm
from hythe_bundle.images import UnpackedImages
from hythe_bundle.new_image import BaseImage, ImageWish, NewLayer
from hythe_bundle.storing import Additions, Store, additions


@dataclass(frozen=True, slots=True)
class CommitOrder:
    """What a commit is asked for.

    Attributes:
        key: id of a container, or name of a snapshot.
        reference: name of the new image.
    """

    namespace: str
    key: str
    reference: str
    wish: ImageWish
    form: LayerForm


@dataclass(frozen=True, slots=True)
class Committed:
    """A new image: its name as it is kept, manifest and config, and the layer that is new in it.

    Attributes:
        size_bytes: of config and all layers.
    """

    reference: str
    manifest: Descriptor
    config: Descriptor
    layer: StoredLayer
    size_bytes: int


class Committer:
    """Makes images of snapshots."""

    def __init__(self, comparer: Comparer, store: Store, images: UnpackedImages, platform: Platform) -> None:
        """Take `platform` for images that stand on no other."""
        self._comparer = comparer
        self._store = store
        self._images = images
        self._platform = platform

    async def commit(self, order: CommitOrder, held: Held, progress: Callable[[int], None]) -> Committed:
        """Make an image of what a snapshot changes and of the image below it, and give it a name.

        A container's image is the one that it was made from; any other snapshot's the one that ends with its parent. Where
        that is unknown, the new image has one layer with everything that the snapshot shows. A snapshot that something
        writes to meanwhile is read as it is. When this fails or is cancelled, nothing of it is left in content. What the new
        image is made of is referred to before it is looked for, and `held` until the image has its name.

        Args:
            progress: told the bytes of the layer's archive written so far, now and then.

        Raises:
            NotFound: there is no snapshot of that name.
            FailedPrecondition: a blob of the image below is not in content any more; or see `Differ`.
            InvalidArgument: the reference or an instruction is refused.
            HytheError: see `Comparer.store_layer` and `Store.register`.
        """
        if parse_reference(order.reference).digest is not None:
            raise InvalidArgument(f"commit to {order.reference}: a name for a new image has no digest")
        snapshot = await self._comparer.find(order.namespace, order.key)
        record = record_in(snapshot.labels)
        async with additions(self._store, order.namespace, held) as added:
            with tracing.span("read base image"):
                base = await self._base(order.namespace, snapshot, added)
            wish = order.wish if record is None else _with_command(order.wish, record["args"])
            new_image.check(base, wish)
            other = NOTHING if base is None else None
            layer = await self._comparer.store_layer(order.namespace, order.key, other, order.form, added, progress)
            return await self._make(order, base, wish, layer, added)

    async def _make(
        self, order: CommitOrder, base: BaseImage | None, wish: ImageWish, layer: StoredLayer, added: Additions
    ) -> Committed:
        top = NewLayer(layer.blob, layer.written.diff_id)
        with tracing.span("store documents"):
            raw_config = new_image.make_config(base, wish, top, self._platform)
            config = Descriptor(new_image.config_type(base), await added.put(raw_config), len(raw_config))
            media_type, raw_manifest = new_image.make_manifest(base, config, top)
            manifest = Descriptor(media_type, await added.put(raw_manifest), len(raw_manifest))
        with tracing.span("register image", container__image__name=order.reference):
            reference = await self._store.register(order.namespace, order.reference, manifest)
        below = sum(blob.size_bytes for blob in base.manifest.layers) if base is not None else 0
        return Committed(reference, manifest, config, layer, config.size_bytes + below + layer.blob.size_bytes)

    async def _base(self, namespace: str, snapshot: Snapshot, added: Additions) -> BaseImage | None:
        record = record_in(snapshot.labels)
        if record is not None:
            image = record["image"]
            return await self._read(namespace, parse_digest(image["manifest"]), image["reference"], added)
        known = self._images.by_chain(snapshot.parent) if snapshot.parent else None
        return await self._read(namespace, known.manifest, "", added) if known is not None else None

    async def _read(self, namespace: str, digest: Digest, name: str, added: Additions) -> BaseImage:
        """Return an image all of which is in the namespace's content, and keep it there.

        Raises:
            FailedPrecondition: it is not.
        """
        await added.refer(digest)
        try:
            manifest = parse_document(await self._store.read(namespace, digest))
            if not isinstance(manifest, Manifest) or manifest.config.media_type not in CONFIG_TYPES:
                raise InvalidArgument(f"commit: {digest} is no container image")
            config = parse_config(await self._store.read(namespace, manifest.config.digest))
        except NotFound as error:
            raise _missing(digest, name, "manifest or config") from error
        for layer in manifest.layers:
            if not await self._store.has(namespace, layer.digest):
                raise _missing(digest, name, f"layer {layer.digest}")
        return BaseImage(manifest, config, name)


def _with_command(wish: ImageWish, args: list[str]) -> ImageWish:
    return ImageWish(wish.created_ns, wish.created_by or " ".join(args), wish.author, wish.comment, wish.instructions)


def _missing(digest: Digest, name: str, what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"commit: {what} of the image below, {name or digest}, is not in content any more",
        next_step=f"`hythe pull --no-unpack {name.partition('@')[0] or 'IMAGE'}` brings it back"
        + (f", if that is still {digest}" if name else ""),
        details={"kind": "blob", "digest": str(digest)},
    )
