"""The documents of a committed image: its base's, with a layer, a step of history and the wished changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hythe.digest import digest_of
from hythe.errors import InvalidArgument
from hythe.oci import Descriptor, Manifest, Platform, parse_config, parse_document
from hythe_bundle import new_image
from hythe_bundle.new_image import BaseImage, ImageWish, NewLayer
from scripts.lab.images import Image, ImageBuilder, Layer

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER = NewLayer(Descriptor(GZIP, digest_of(b"blob"), 4), digest_of(b"diff"))
WISH = ImageWish(1_700_000_000 * 10**9, "sh -c x", "Ann", "why", ("LABEL b=2",))
HERE = Platform("linux", "amd64")


def base_of(image: Image, name: str = "registry.example/base:1") -> BaseImage:
    """Return an image as the base of another."""
    manifest = parse_document(image.manifest.data)
    assert isinstance(manifest, Manifest)
    return BaseImage(manifest, parse_config(image.config.data), name)


def builder(flavour: Any = "oci") -> ImageBuilder:
    """Return a builder with a layer and a config."""
    return ImageBuilder(flavour).layer(Layer().file("a")).config(Cmd=["sh"], Labels={"a": "1"}, Env=["PATH=/bin"])


def made(base: BaseImage | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config and manifest of an image on `base`."""
    new_image.check(base, WISH)
    config = new_image.make_config(base, WISH, LAYER, HERE)
    described = Descriptor(new_image.config_type(base), digest_of(config), len(config))
    media_type, manifest = new_image.make_manifest(base, described, LAYER)
    parsed = parse_document(manifest, media_type)
    assert isinstance(parsed, Manifest) and len(parsed.layers) == len(parse_config(config).diff_ids)
    assert (config, manifest) == (new_image.make_config(base, WISH, LAYER, HERE), manifest)
    return json.loads(config), json.loads(manifest)


def test_new_image_is_its_base_and_a_layer() -> None:
    """Platform, config and layers are the base's, as they stand there; layer, history and labels are added."""
    image = builder().build()
    config, manifest = made(base_of(image))
    before = json.loads(image.config.data)
    assert config["architecture"] == before["architecture"] and config["created"] == "2023-11-14T22:13:20.000000Z"
    assert config["config"] == {**before["config"], "Labels": {"a": "1", "b": "2"}}
    assert config["rootfs"]["diff_ids"] == [*before["rootfs"]["diff_ids"], str(LAYER.diff_id)]
    assert config["history"] == [
        {"comment": "layer of the base image"},
        {"created": config["created"], "created_by": "sh -c x", "author": "Ann", "comment": "why"},
    ]
    assert manifest["layers"][:-1] == json.loads(image.manifest.data)["layers"]
    assert manifest["layers"][-1] == {"mediaType": GZIP, "digest": str(LAYER.blob.digest), "size": 4}
    assert manifest["annotations"] == {
        "org.opencontainers.image.base.name": "registry.example/base:1",
        "org.opencontainers.image.base.digest": image.manifest.digest,
    }


def test_image_on_dockers_is_dockers() -> None:
    """No registry has to take a manifest with types of both kinds."""
    config, manifest = made(base_of(builder("docker").build()))
    types = {
        manifest["mediaType"],
        manifest["config"]["mediaType"],
        *(layer["mediaType"] for layer in manifest["layers"]),
    }
    assert all(media_type.startswith("application/vnd.docker.") for media_type in types)
    assert "annotations" not in manifest and config["os"] == "linux"


def test_image_on_nothing_has_one_layer_and_this_platform() -> None:
    """Without a base the image is one layer, for the platform of the host that makes it."""
    config, manifest = made(None)
    assert (config["os"], config["architecture"], len(manifest["layers"])) == ("linux", "amd64", 1)
    assert config["config"] == {"Labels": {"b": "2"}} and "annotations" not in manifest


def test_what_told_of_the_builds_container_is_left_out() -> None:
    """Fields of the container that the base was built in, and its author, say nothing of the new image."""
    image = builder().build()
    document = {**json.loads(image.config.data), "container": "x", "container_config": {"Cmd": ["x"]}, "author": "Bob"}
    base = BaseImage(base_of(image).manifest, parse_config(json.dumps(document).encode()))
    config, _ = made(base)
    assert not {"container", "container_config"} & set(config) and config["author"] == "Ann"


def test_artifact_and_full_image_are_no_base() -> None:
    """What is no container image, or has all the layers that one may have, is refused before anything is written."""
    image = builder()
    for _ in range(499):
        image = image.layer(Layer())
    with pytest.raises(InvalidArgument, match="500 layers"):
        new_image.check(base_of(image.build()), WISH)
    document = json.loads(builder().build().manifest.data)
    document["config"]["mediaType"] = "application/vnd.example+json"
    artifact = parse_document(json.dumps(document).encode())
    assert isinstance(artifact, Manifest)
    with pytest.raises(InvalidArgument, match="no container image"):
        new_image.check(BaseImage(artifact, parse_config(builder().build().config.data)), WISH)
