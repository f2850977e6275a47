"""The fake registry is honest until told otherwise, and then misbehaves in exactly the way that was asked for."""

from __future__ import annotations

import http.client
import json

import pytest

from scripts.lab.images import ImageBuilder, Layer, digest_text
from tests.fakes import faults
from tests.fakes.registry import FakeRegistry

IMAGE = ImageBuilder().layer(Layer().file("etc/motd", b"welcome\n" * 1000), "none").build()
LAYER = IMAGE.layers[0]


def _get(registry: FakeRegistry, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(registry.address, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_honest_registry_serves_manifest_and_blobs_by_tag_and_digest(fake_registry: FakeRegistry) -> None:
    """Without a fault, what is served is what was put in."""
    assert fake_registry.serve(IMAGE, "lab/motd:1") == f"{fake_registry.address}/lab/motd:1"
    status, headers, body = _get(fake_registry, "/v2/lab/motd/manifests/1")
    assert (status, body, headers["docker-content-digest"]) == (200, IMAGE.manifest.data, IMAGE.manifest.digest)
    assert _get(fake_registry, f"/v2/lab/motd/manifests/{IMAGE.manifest.digest}")[2] == IMAGE.manifest.data
    assert _get(fake_registry, f"/v2/lab/motd/blobs/{LAYER.digest}")[2] == LAYER.data
    status, headers, body = _get(fake_registry, f"/v2/lab/motd/blobs/{LAYER.digest}", {"Range": "bytes=5-9"})
    assert (status, body, headers["content-range"]) == (206, LAYER.data[5:10], f"bytes 5-9/{len(LAYER.data)}")
    assert _get(fake_registry, "/v2/lab/other/manifests/1")[0] == 404
    assert fake_registry.requests[0].path == "/v2/lab/motd/manifests/1"


def test_blob_faults_change_bytes_or_length_as_their_names_say(fake_registry: FakeRegistry) -> None:
    """Each fault on a body does what its name says, so many times as asked, and then the registry is honest again."""
    fake_registry.serve(IMAGE, "lab/motd:1")
    path = f"/v2/lab/motd/blobs/{LAYER.digest}"
    for fault, length in ((faults.other_bytes(), 0), (faults.longer(3), 3), (faults.shorter(2), -2)):
        fake_registry.break_at("/blobs/", fault, times=1)
        body = _get(fake_registry, path)[2]
        assert len(body) == len(LAYER.data) + length
        assert digest_text(body) != LAYER.digest
    fake_registry.break_at("/blobs/", faults.truncated(100), times=1)
    with pytest.raises(http.client.IncompleteRead):
        _get(fake_registry, path)
    fake_registry.break_at("/blobs/", faults.ignore_range(), times=1)
    assert _get(fake_registry, path, {"Range": "bytes=5-9"})[0] == 200
    assert _get(fake_registry, path)[2] == LAYER.data


def test_stalled_blob_sends_a_part_and_keeps_the_connection_open(fake_registry: FakeRegistry) -> None:
    """A stalled body is neither finished nor closed."""
    fake_registry.serve(IMAGE, "lab/motd:1")
    fake_registry.break_at("/blobs/", faults.stalled(10))
    connection = http.client.HTTPConnection(fake_registry.address, timeout=0.2)
    connection.request("GET", f"/v2/lab/motd/blobs/{LAYER.digest}")
    response = connection.getresponse()
    assert response.read(10) == LAYER.data[:10]
    with pytest.raises(TimeoutError):
        response.read(1)
    connection.close()


def test_bearer_challenge_accepts_its_own_token_only(fake_registry: FakeRegistry) -> None:
    """A token from the realm that the challenge names opens the door, unless the registry refuses for ever."""
    fake_registry.serve(IMAGE, "lab/motd:1")
    fake_registry.break_at("^/v2/", faults.bearer(), times=2)
    status, headers, _ = _get(fake_registry, "/v2/lab/motd/manifests/1")
    assert status == 401 and headers["www-authenticate"].startswith('Bearer realm="http://')
    token = json.loads(_get(fake_registry, "/token?service=fake&scope=repository:any:pull")[2])["token"]
    assert _get(fake_registry, "/v2/lab/motd/manifests/1", {"Authorization": f"Bearer {token}"})[0] == 200
    fake_registry.break_at("^/v2/", faults.bearer(never=True))
    assert _get(fake_registry, "/v2/lab/motd/manifests/1", {"Authorization": f"Bearer {token}"})[0] == 401


def test_ambiguous_manifest_has_both_layers_and_manifests() -> None:
    """The manifest that is both can be read as either."""
    both = json.loads(faults.both_manifest_and_index(IMAGE).data)
    assert both["layers"] and both["manifests"]
