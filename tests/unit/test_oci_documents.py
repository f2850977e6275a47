"""Manifests and indexes from strangers: read as the spec says, or refused with the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.digest import digest_of
from hythe.errors import InvalidArgument, NotFound
from hythe.oci import Index, Manifest, parse_document, parse_platform, select
from hythe.oci import media_types as types
from hythe.oci.fields import MAX_DOCUMENT_BYTES, load_objects
from scripts.lab.images import ImageBuilder, Layer, index
from tests.fakes.faults import both_manifest_and_index

DIGEST = "sha256:" + "ab" * 32
DESCRIPTOR: dict[str, Any] = {"mediaType": types.OCI_CONFIG, "digest": DIGEST, "size": 7}
LAYER: dict[str, Any] = {**DESCRIPTOR, "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": types.OCI_MANIFEST,
    "config": DESCRIPTOR,
    "layers": [LAYER],
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": types.OCI_INDEX,
    "manifests": [{**DESCRIPTOR, "mediaType": types.OCI_MANIFEST}],
}


def encode(value: object) -> bytes:
    """Return `value` as JSON."""
    return json.dumps(value).encode()


def an_index(*entries: tuple[str, str]) -> Index:
    """Return an index with an entry (digest filled with the position) for each (platform, media type)."""
    manifests = []
    for i, (platform, media_type) in enumerate(entries):
        entry: dict[str, Any] = {"mediaType": media_type, "digest": f"sha256:{i:064x}", "size": 1}
        if platform:
            parts = platform.split("/")
            entry["platform"] = dict(zip(("os", "architecture", "variant"), parts, strict=False))
        manifests.append(entry)
    parsed = parse_document(encode({"schemaVersion": 2, "manifests": manifests}), types.OCI_INDEX)
    assert isinstance(parsed, Index)
    return parsed


def chosen(offers: Index, wanted: str) -> int:
    """Return the position of the entry selected for a platform."""
    return int(select(offers, parse_platform(wanted)).digest.hex, 16)


@pytest.mark.parametrize("flavour", ["oci", "docker"])
def test_manifest_is_read_beside_its_bytes(flavour: Any) -> None:
    """A manifest of either family gives config, layers from the bottom, and its own descriptor from the raw bytes."""
    image = ImageBuilder(flavour).layer(Layer().directory("a")).layer(Layer().directory("b")).build()
    parsed = parse_document(image.manifest.data, image.manifest.media_type)
    assert isinstance(parsed, Manifest)
    assert parsed.raw == image.manifest.data
    assert str(parsed.descriptor.digest) == image.manifest.digest
    assert parsed.descriptor.size_bytes == len(image.manifest.data)
    assert parsed.descriptor.media_type == image.manifest.media_type
    assert str(parsed.config.digest) == image.config.digest
    assert [str(layer.digest) for layer in parsed.layers] == [layer.digest for layer in image.layers]


@pytest.mark.parametrize("flavour", ["oci", "docker"])
def test_index_is_read_with_its_platforms(flavour: Any) -> None:
    """An index of either family gives its entries with their platforms."""
    images = [ImageBuilder(flavour, architecture=name).layer(b"").build() for name in ("amd64", "arm64")]
    root = index(images, flavour).root
    parsed = parse_document(root.data, root.media_type)
    assert isinstance(parsed, Index)
    assert parsed.digest == digest_of(root.data)
    assert [str(entry.platform) for entry in parsed.manifests] == ["linux/amd64", "linux/arm64"]


@pytest.mark.parametrize(
    ("document", "content_type", "expected"),
    [
        ({**MANIFEST, "mediaType": None}, types.DOCKER_MANIFEST, types.DOCKER_MANIFEST),
        ({**MANIFEST, "mediaType": None}, "", types.OCI_MANIFEST),
        ({**INDEX, "mediaType": None}, "", types.OCI_INDEX),
        (MANIFEST, "", types.OCI_MANIFEST),
        (MANIFEST, f"{types.OCI_MANIFEST}; charset=utf-8", types.OCI_MANIFEST),
        (MANIFEST, types.OCI_MANIFEST.upper(), types.OCI_MANIFEST),
    ],
)
def test_media_type_comes_from_the_document_or_its_offer(document: Any, content_type: str, expected: str) -> None:
    """Where only one of document and header names the type, that one counts."""
    assert parse_document(encode(document), content_type).media_type == expected


def test_document_that_is_both_manifest_and_index_is_refused() -> None:
    """What one reader takes for an index and another for a manifest is run by neither (CVE-2021-41190)."""
    image = ImageBuilder().layer(b"").build()
    both = both_manifest_and_index(image)
    for content_type in (types.OCI_MANIFEST, types.OCI_INDEX, ""):
        with pytest.raises(InvalidArgument):
            parse_document(both.data, content_type)
    with pytest.raises(InvalidArgument) as raised:
        parse_document(both.data, types.OCI_MANIFEST)
    assert "both" in raised.value.message


@pytest.mark.parametrize("name", ["Layers", "LAYERS", "config", "Config"])
def test_other_case_of_a_field_does_not_hide_a_second_kind(name: str) -> None:
    """Go's readers ignore the case of field names, so an index with ``Layers`` is both, too."""
    with pytest.raises(InvalidArgument) as raised:
        parse_document(encode({**INDEX, name: []}), types.OCI_INDEX)
    assert "both" in raised.value.message


@pytest.mark.parametrize(
    ("document", "content_type", "reason"),
    [
        (MANIFEST, types.OCI_INDEX, "offered as"),
        (MANIFEST, types.DOCKER_MANIFEST, "offered as"),
        (INDEX, types.OCI_MANIFEST, "offered as"),
        ({**INDEX, "mediaType": types.OCI_MANIFEST}, types.OCI_MANIFEST, "missing"),
        ({**MANIFEST, "mediaType": types.OCI_INDEX}, types.OCI_INDEX, "missing"),
        ({**MANIFEST, "mediaType": "text/html"}, "", "no image manifest"),
        ({**MANIFEST, "mediaType": None}, "application/json", "no image manifest"),
        ({"schemaVersion": 1, "fsLayers": []}, "", "schema 1"),
        ({"schemaVersion": 2, "FsLayers": []}, "", "schema 1"),
        ({**MANIFEST, "schemaVersion": 1}, types.OCI_MANIFEST, "schema 1"),
        (MANIFEST, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        ({**MANIFEST, "schemaVersion": 3}, types.OCI_MANIFEST, "schemaVersion"),
        ({**MANIFEST, "schemaVersion": "2"}, types.OCI_MANIFEST, "schemaVersion"),
        ({**MANIFEST, "schemaVersion": True}, types.OCI_MANIFEST, "schemaVersion"),
        ({k: v for k, v in MANIFEST.items() if k != "schemaVersion"}, types.OCI_MANIFEST, "schemaVersion"),
        ({**MANIFEST, "layers": {}}, types.OCI_MANIFEST, "layers"),
        ({**MANIFEST, "layers": ["x"]}, types.OCI_MANIFEST, "layers[0]"),
        ({**MANIFEST, "layers": [LAYER] * 501}, types.OCI_MANIFEST, "501"),
        ({**INDEX, "manifests": INDEX["manifests"] * 1001}, types.OCI_INDEX, "1001"),
        ({**INDEX, "manifests": [0] * 10_001}, types.OCI_INDEX, "10000"),
        ({**MANIFEST, "config": []}, types.OCI_MANIFEST, "config"),
        ({**MANIFEST, "config": {}}, types.OCI_MANIFEST, "mediaType"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "mediaType": "a/b\r\nX-Evil: 1"}}, types.OCI_MANIFEST, "no media type"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "mediaType": "a/\u20ac"}}, types.OCI_MANIFEST, "no media type"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "mediaType": "a/" + "b" * 300}}, types.OCI_MANIFEST, "no media type"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "platform": {"os": "x" * 101}}}, types.OCI_MANIFEST, "100 characters"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "size": -1}}, types.OCI_MANIFEST, "size"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "size": 1 << 50}}, types.OCI_MANIFEST, "size"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "size": 1.5}}, types.OCI_MANIFEST, "size"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "size": True}}, types.OCI_MANIFEST, "size"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "size": None}}, types.OCI_MANIFEST, "size"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "digest": "sha256:../../x"}}, types.OCI_MANIFEST, "digest"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "digest": 5}}, types.OCI_MANIFEST, "digest"),
        ({**MANIFEST, "config": {**DESCRIPTOR, "platform": 5}}, types.OCI_MANIFEST, "platform"),
        ({**MANIFEST, "annotations": {"a": 1}}, types.OCI_MANIFEST, "annotations"),
        ({**MANIFEST, "annotations": {"a": "\0"}}, types.OCI_MANIFEST, "NUL"),
        ([], types.OCI_MANIFEST, "object"),
        ("manifest", types.OCI_MANIFEST, "object"),
        (None, types.OCI_MANIFEST, "object"),
    ],
)
def test_hostile_document_is_refused_with_the_reason(document: Any, content_type: str, reason: str) -> None:
    """Each way of being wrong is an InvalidArgument that names the field."""
    with pytest.raises(InvalidArgument) as raised:
        parse_document(encode(document), content_type)
    assert reason in raised.value.message + raised.value.cause


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"schemaVersion": 2, "x": "\xc3\x28"}',
        b'{"schemaVersion": NaN}',
        b'{"schemaVersion": 2, "annotations": {"a": "\\ud800"}}',
        b'{"schemaVersion": 2, "schemaVersion": 1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schemaVersion": ' + b"9" * 5000 + b"}",
        b" " * (MAX_DOCUMENT_BYTES + 1),
    ],
    ids=lambda raw: repr(raw[:30]),
)
def test_bytes_that_are_no_json_of_one_meaning_are_refused(raw: bytes) -> None:
    """Broken encodings, depth bombs, duplicate keys, huge numbers and huge documents are InvalidArgument, nothing worse."""
    with pytest.raises(InvalidArgument):
        parse_document(raw, types.OCI_MANIFEST)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "annotations", "fsLayers"]),
        json_values | st.just(2) | st.just([LAYER]) | st.just(DESCRIPTOR) | st.sampled_from([*types.MANIFEST_TYPES]),
    ),
    st.sampled_from(["", types.OCI_MANIFEST, types.OCI_INDEX, types.DOCKER_MANIFEST, "x/y"]),
)
def test_any_document_parses_or_is_an_invalid_argument(document: dict[str, Any], content_type: str) -> None:
    """No JSON makes the parser fail in another way than InvalidArgument."""
    try:
        parsed = parse_document(encode(document), content_type)
    except InvalidArgument:
        return
    assert parsed.digest == digest_of(parsed.raw)


@pytest.mark.parametrize(
    ("offers", "wanted", "expected"),
    [
        (["linux/arm64", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64", "linux/amd64"], "linux/amd64", 0),
        (["linux/arm64/v8"], "linux/arm64", 0),
        (["linux/arm64"], "linux/arm64/v8", 0),
        (["linux/aarch64"], "linux/arm64", 0),
        (["linux/x86_64"], "linux/amd64", 0),
        (["linux/arm/v6", "linux/arm/v7", "linux/arm/v5"], "linux/arm/v7", 1),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", 1),
        (["linux/arm"], "linux/arm/v7", 0),
        (["linux/arm/v7"], "linux/arm", 0),
        (["linux/arm/v7", "linux/arm64"], "linux/arm64", 1),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm64", 1),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3", 1),
        (["linux/386", "linux/amd64"], "linux/amd64", 1),
        (["linux/386"], "linux/amd64", 0),
        (["windows/amd64", "linux/amd64"], "linux/amd64", 1),
        (["unknown/unknown", "linux/amd64"], "linux/amd64", 1),
        (["", "linux/amd64"], "linux/amd64", 1),
        (["linux/arm64", ""], "linux/amd64", 1),
    ],
)
def test_best_platform_is_selected(offers: list[str], wanted: str, expected: int) -> None:
    """The exact platform wins, then the nearest that this processor runs, then the only entry without a platform."""
    assert chosen(an_index(*((offer, types.OCI_MANIFEST) for offer in offers)), wanted) == expected


@pytest.mark.parametrize(
    ("offers", "wanted"),
    [
        (["linux/arm64", "windows/amd64"], "linux/amd64"),
        (["linux/arm/v8"], "linux/arm/v7"),
        (["linux/amd64/v3"], "linux/amd64"),
        (["linux/s390x"], "linux/ppc64le"),
        (["", ""], "linux/amd64"),
        ([], "linux/amd64"),
        (["unknown/unknown"], "linux/amd64"),
    ],
)
def test_platform_that_is_not_offered_is_not_found_with_the_offers(offers: list[str], wanted: str) -> None:
    """The error lists what could have been chosen."""
    with pytest.raises(NotFound) as raised:
        chosen(an_index(*((offer, types.OCI_MANIFEST) for offer in offers)), wanted)
    assert raised.value.details == {"kind": "platform"}
    for offer in offers:
        if offer and "unknown" not in offer:
            assert offer in raised.value.message


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        ({**MANIFEST, "mediaType": "x" * 1_000_000}, types.OCI_MANIFEST),
        (MANIFEST, "x" * 60_000),
        ({**MANIFEST, "config": {**DESCRIPTOR, "digest": "x" * 1_000_000}}, types.OCI_MANIFEST),
        ({**MANIFEST, "config": {**DESCRIPTOR, "size": 10**4000}}, types.OCI_MANIFEST),
        ({**MANIFEST, "config": {**DESCRIPTOR, "mediaType": "x" * 1_000_000}}, types.OCI_MANIFEST),
        ({**MANIFEST, "config": {**DESCRIPTOR, "platform": {"os": "x" * 1_000_000}}}, types.OCI_MANIFEST),
    ],
)
def test_error_about_a_document_is_short_however_long_its_fields_are(document: Any, content_type: str) -> None:
    """A registry cannot fill logs and terminals with what it puts into a field."""
    with pytest.raises(InvalidArgument) as raised:
        parse_document(json.dumps(document).encode(), content_type)
    assert len(raised.value.whole) + len(raised.value.next_step) < 500


def test_entry_that_is_no_image_is_not_selected() -> None:
    """An artifact in an index is not taken for an image, whatever platform it names."""
    offers = an_index(("linux/amd64", "application/vnd.example.sbom"), ("linux/amd64", types.DOCKER_MANIFEST))
    assert chosen(offers, "linux/amd64") == 1


def test_list_of_objects_is_read_and_anything_else_refused() -> None:
    """A document that is a list, as Docker's list of images, is read object by object under the same rules."""
    assert [fields.text("a") for fields in load_objects(b'[{"a":"1"},{"a":"2"}]', "list")] == ["1", "2"]
    for raw in (b"{}", b"[1]", b'[{"a":1,"a":2}]', b"[", b"[" + b" " * MAX_DOCUMENT_BYTES + b"]"):
        with pytest.raises(InvalidArgument, match="parse list"):
            load_objects(raw, "list")
