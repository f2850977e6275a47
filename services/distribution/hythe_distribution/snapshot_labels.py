"""The label by which the config of an image keeps the image's topmost snapshot, on every host that has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hythe.digest import Digest
from hythe.errors import DataLoss, InvalidArgument
from hythe.oci import chain_id, parse_config
from hythe_distribution.image_labels import CONFIG
from hythe_distribution.records import Publication

SNAPSHOT = "containerd.io/gc.ref.snapshot."

Read = Callable[[Digest], bytes | None]
"""Returns a document from the store; None where it isn't there."""


def with_snapshots(blobs: Sequence[Publication], read: Read, snapshotter: str) -> tuple[Publication, ...]:
    """Return `blobs` with that label on each image config among them; blocks.

    A config is known by the label of the manifest that names it, which is among `blobs`, too. One without layers, and what
    can't be read as a config, gets no label.

    Args:
        snapshotter: its name stands in the label; empty gives none.

    Spec: containerd, "Garbage Collection", garbage collection labels.
    """
    configs = {blob.labels[CONFIG] for blob in blobs if CONFIG in blob.labels} if snapshotter else frozenset[str]()
    return tuple(
        replace(blob, labels={**blob.labels, **_label(blob.digest, read, snapshotter)})
        if str(blob.digest) in configs
        else blob
        for blob in blobs
    )


def _label(config: Digest, read: Read, snapshotter: str) -> dict[str, str]:
    try:
        raw = read(config)
        diff_ids = parse_config(raw).diff_ids if raw is not None else ()
    except (InvalidArgument, DataLoss):
        return {}
    return {f"{SNAPSHOT}{snapshotter}": str(chain_id(diff_ids))} if diff_ids else {}
