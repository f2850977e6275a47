"""The label by which an image's config keeps the snapshots of its layers."""

from __future__ import annotations

import json

import pytest

from hythe.digest import Digest, digest_of
from hythe.oci import chain_id
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.image_labels import CONFIG
from hythe_distribution.namespace_store import Library
from hythe_distribution.records import Publication
from hythe_distribution.snapshot_labels import with_snapshots

LABEL = "containerd.io/gc.ref.snapshot.overlayfs"
DIFF_IDS = [digest_of(b"lower"), digest_of(b"upper")]


def config_of(diff_ids: list[Digest]) -> bytes:
    """Return the config of an image with such layers."""
    return json.dumps({"rootfs": {"type": "layers", "diff_ids": [str(diff_id) for diff_id in diff_ids]}}).encode()


def labelled(config: bytes, snapshotter: str = "overlayfs") -> dict[str, str]:
    """Return the labels that a config gets when a manifest that names it is published with it."""
    manifest = Publication(digest_of(b"manifest"), 8, {CONFIG: str(digest_of(config))})
    blobs = (Publication(digest_of(config), len(config), {"a": "1"}), manifest)
    found = with_snapshots(blobs, {digest_of(config): config}.get, snapshotter)
    assert found[1] == manifest
    return dict(found[0].labels)


def test_config_names_the_chain_of_all_layers() -> None:
    """The label leads to the snapshot on top, under the snapshotter's name; other labels stay."""
    assert labelled(config_of(DIFF_IDS)) == {"a": "1", LABEL: str(chain_id(DIFF_IDS))}
    assert labelled(config_of(DIFF_IDS[:1]), "native") == {
        "a": "1",
        "containerd.io/gc.ref.snapshot.native": str(DIFF_IDS[0]),
    }


@pytest.mark.parametrize(
    "config", [config_of([]), b"{}", b"no json", b'{"rootfs": {"type": "layers", "diff_ids": [1]}}']
)
def test_config_without_layers_gets_no_label(config: bytes) -> None:
    """An image without layers has no snapshot, and what is no config of an image is left alone."""
    assert labelled(config) == {"a": "1"}


def test_blob_that_no_manifest_calls_its_config_gets_no_label() -> None:
    """A blob isn't read as a config only because it looks like one."""
    config = config_of(DIFF_IDS)
    blobs = (Publication(digest_of(config), len(config)),)
    assert with_snapshots(blobs, {digest_of(config): config}.get, "overlayfs") == blobs


def test_whoever_publishes_an_image_gives_its_config_the_label() -> None:
    """Pulls, imports and registrations all publish by the library, which reads each config from the store."""
    content = MemoryContent()
    library = Library(content, MemoryRecords(), snapshotter="overlayfs")
    config = config_of(DIFF_IDS)
    for data in (config, b"manifest"):
        with content.open_ingest("put") as ingest:
            ingest.write(data)
            ingest.commit()
    library.publish(
        "default",
        [
            Publication(digest_of(config), len(config)),
            Publication(digest_of(b"manifest"), 8, {CONFIG: str(digest_of(config))}),
        ],
    )
    assert dict(library.of("default").info(digest_of(config)).labels) == {LABEL: str(chain_id(DIFF_IDS))}
