"""The image config: what a container of the image runs, and the identity of its layers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hythe.digest import Digest, digest_of, parse_digest
from hythe.errors import InvalidArgument
from hythe.oci.descriptor import Descriptor
from hythe.oci.fields import Fields, load_object
from hythe.oci.manifest import MAX_LAYERS, Manifest
from hythe.oci.platform import Platform, normalised

MAX_STEP_TEXT = 32 << 10
"""Most characters of one text of a history entry; a longer one is no reason to refuse the image, so it is cut."""


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """One step of how an image was made, in an untrusted stranger's words; a text is cut at `MAX_STEP_TEXT` characters.

    Attributes:
        created: RFC 3339, as the image says; empty when it doesn't.
        empty_layer: the step made no layer.

    Spec: OCI image-spec, "Image Configuration", history.
    """

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image config beside its raw bytes. All of it is untrusted: a stranger chose user, labels and volumes.

    Attributes:
        platform: an operating system that is not named is ``linux``.
        created: RFC 3339, as the image says; empty when it doesn't.
        diff_ids: digests of the uncompressed layers, lowest first.
        author: who the image says made it.
        history: its steps, the oldest first; their number need not fit the layers.

    Spec: OCI image-spec, "Image Configuration".
    """

    raw: bytes = field(repr=False)
    digest: Digest
    platform: Platform
    created: str
    user: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    working_dir: str
    stop_signal: str
    labels: Mapping[str, str] = field(hash=False)
    volumes: tuple[str, ...]
    exposed_ports: tuple[str, ...]
    diff_ids: tuple[Digest, ...]
    author: str = ""
    history: tuple[HistoryStep, ...] = field(default=(), repr=False)


def parse_config(raw: bytes) -> ImageConfig:
    """Return the image config that `raw` spells.

    Raises:
        InvalidArgument: hostile or broken JSON, a field of another type, more than 500 diff ids or 10,000 steps of
            history, or a root file system of another type than ``layers``.
    """
    fields = load_object(raw, "image config")
    rootfs, run = fields.child("rootfs"), fields.child("config")
    if rootfs.text("type") not in ("", "layers"):
        raise rootfs.refuse("type", f"is {rootfs.text('type')[:50]!r}, not 'layers'")
    diff_ids = rootfs.texts("diff_ids")
    if len(diff_ids) > MAX_LAYERS:
        raise rootfs.refuse("diff_ids", f"has {len(diff_ids)} items, more than {MAX_LAYERS}")
    return ImageConfig(
        raw=raw,
        digest=digest_of(raw),
        platform=normalised(
            fields.text("os") or "linux", fields.text("architecture"), fields.text("variant"), fields.text("os.version")
        ),
        created=fields.text("created"),
        user=run.text("User"),
        env=run.texts("Env"),
        entrypoint=run.texts("Entrypoint"),
        cmd=run.texts("Cmd"),
        working_dir=run.text("WorkingDir"),
        stop_signal=run.text("StopSignal"),
        labels=run.mapping("Labels"),
        volumes=run.keys("Volumes"),
        exposed_ports=run.keys("ExposedPorts"),
        diff_ids=tuple(parse_digest(diff_id) for diff_id in diff_ids),
        author=fields.text("author"),
        history=tuple(_step(step) for step in fields.children("history")),
    )


def _step(fields: Fields) -> HistoryStep:
    return HistoryStep(
        fields.text("created")[:MAX_STEP_TEXT],
        fields.text("created_by")[:MAX_STEP_TEXT],
        fields.text("author")[:MAX_STEP_TEXT],
        fields.text("comment")[:MAX_STEP_TEXT],
        fields.flag("empty_layer"),
    )


def layers_with_diff_ids(manifest: Manifest, config: ImageConfig) -> tuple[tuple[Descriptor, Digest], ...]:
    """Return each layer of `manifest` beside the digest of its uncompressed bytes, lowest first.

    Raises:
        InvalidArgument: manifest and config do not name the same number of layers.
    """
    if len(manifest.layers) != len(config.diff_ids):
        raise InvalidArgument(
            f"read image {manifest.digest}: the manifest has {len(manifest.layers)} layers, "
            f"its config {len(config.diff_ids)} diff ids"
        )
    return tuple(zip(manifest.layers, config.diff_ids, strict=True))


def chain_ids(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    """Return the chain id of each layer: the identity of that layer on top of all below it.

    Spec: OCI image-spec, "Layer ChainID".
    """
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest(hashlib.sha256(f"{chain[-1]} {diff_id}".encode()).hexdigest()) if chain else diff_id)
    return tuple(chain)


def chain_id(diff_ids: Sequence[Digest]) -> Digest:
    """Return the chain id of the top layer.

    Raises:
        InvalidArgument: there is no layer.
    """
    if not diff_ids:
        raise InvalidArgument("compute chain id: the image has no layers")
    return chain_ids(diff_ids)[-1]
