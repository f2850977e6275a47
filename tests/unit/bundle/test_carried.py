"""What a carried bundle says of itself: nothing of this host, and nothing believed of what a stranger wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hythe.digest import digest_of
from hythe.errors import InvalidArgument
from hythe.oci import Descriptor, Manifest, parse_document
from hythe_bundle import carried
from hythe_bundle.carried import Files, Source

CONFIG: dict[str, Any] = {
    "process": {"args": ["sh"]},
    "root": {"path": "/hythe/bundle/bundles/default/x/rootfs", "readonly": True},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/etc/hostname", "type": "bind", "source": "/hythe/bundle/bundles/default/x/hostname"},
        {"destination": "/data", "type": "none", "source": "/hythe/volumes/v", "options": ["rbind"]},
        {"destination": "/srv", "type": "bind", "source": "/hythe-not-ours"},
    ],
    "linux": {"cgroupsPath": "/hythe/x", "namespaces": []},
    "annotations": {"io.hythe.container": "x", "a": "b"},
}
BLOB = Descriptor(carried.LAYER_TYPE, digest_of(b"layer"), 5)
PARTS = Descriptor(carried.CONFIG_TYPE, digest_of(b"config"), 6), BLOB


def test_portable_config_has_nothing_of_this_host() -> None:
    """Hythe's own paths, cgroup and annotations go; what the user bound stays; what was lost is told."""
    made, left_out = carried.portable(CONFIG, "/hythe")
    assert left_out == ("/etc/hostname", "/data")
    assert made["root"] == {"path": "rootfs", "readonly": True} and made["linux"] == {"namespaces": []}
    assert [mount["destination"] for mount in made["mounts"]] == ["/proc", "/srv"]
    assert made["annotations"] == {"a": "b"}
    assert CONFIG["linux"]["cgroupsPath"]  # what was given is as it was


def test_record_tells_the_image_again() -> None:
    """The image that a bundle was made from can be read from its record."""
    source = Source("localhost/a:1", str(digest_of(b"image")))
    raw = carried.make_record(source, CONFIG, "SIGTERM", "2026-01-01T00:00:00Z", {"manifest": "m"})
    assert carried.read_record(raw, "hythe.json") == source
    assert carried.read_record(b"", "hythe.json") == Source()


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"{",
        b"{}",
        b'{"format": 2}',
        b'{"format": 1, "image": {"digest": "sha256:x"}}',
        b'{"format":1,"image":[]}',
    ],
)
def test_record_of_a_stranger_is_data(raw: bytes) -> None:
    """A record that is none, or of a format to come, is refused."""
    with pytest.raises(InvalidArgument):
        carried.read_record(raw, "hythe.json")


def test_small_files_come_back_byte_for_byte() -> None:
    """The config blob of an artifact has both files as they were written."""
    files = Files(b'{ "a":  1.0 }\n', b'{"format":1}')
    assert carried.files_of_artifact(carried.artifact_config(files), "x") == files
    assert carried.files_of_artifact(carried.artifact_config(Files(b"{}")), "x") == Files(b"{}")


@pytest.mark.parametrize("value", [{}, {"config.json": ""}, {"config.json": 1}, {"config.json": "x" * (2 << 20)}, []])
def test_config_blob_without_a_config_is_refused(value: object) -> None:
    """A config blob that holds no config.json, or a huge one, is refused."""
    with pytest.raises(InvalidArgument):
        carried.files_of_artifact(json.dumps(value).encode(), "x")


def test_manifest_of_an_artifact_is_read_again() -> None:
    """The manifest says what it is, and its parts come back."""
    document = parse_document(carried.artifact_manifest(*PARTS))
    assert isinstance(document, Manifest) and document.artifact_type == carried.ARTIFACT_TYPE
    assert carried.parts_of(document, "x") == PARTS


@pytest.mark.parametrize(
    "change",
    [
        {"artifactType": "application/vnd.other"},
        {"layers": []},
        {"layers": [{"mediaType": "text/plain", "digest": str(BLOB.digest), "size": 5}]},
        {"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(BLOB.digest), "size": 5}},
    ],
)
def test_manifest_of_something_else_is_refused(change: dict[str, Any]) -> None:
    """Only what is a packed bundle in every part is taken for one."""
    value = json.loads(carried.artifact_manifest(*PARTS)) | change
    document = parse_document(json.dumps(value).encode())
    assert isinstance(document, Manifest)
    with pytest.raises(InvalidArgument, match="packed bundle"):
        carried.parts_of(document, "x")
