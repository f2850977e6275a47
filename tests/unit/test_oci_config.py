"""Image configs from strangers, platforms, and the chain ids of layers."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.digest import Digest, digest_of
from hythe.errors import InvalidArgument
from hythe.oci import (
    HistoryStep,
    Manifest,
    Platform,
    chain_id,
    chain_ids,
    default_platform,
    layers_with_diff_ids,
    parse_config,
    parse_document,
    parse_platform,
)
from hythe.oci.config import MAX_STEP_TEXT
from hythe.oci.platform import normalised
from scripts.lab.images import ImageBuilder, Layer

DIFF_IDS = [f"sha256:{i:064x}" for i in range(3)]
CONFIG: dict[str, Any] = {
    "created": "2026-01-02T03:04:05Z",
    "architecture": "arm64",
    "variant": "v8",
    "os": "linux",
    "config": {
        "User": "1000:1000",
        "Env": ["PATH=/bin", "A=b=c"],
        "Entrypoint": ["/init"],
        "Cmd": ["--help"],
        "WorkingDir": "/srv",
        "StopSignal": "SIGINT",
        "Labels": {"a": "b"},
        "Volumes": {"/data": {}},
        "ExposedPorts": {"80/tcp": {}},
        "ArgsEscaped": True,
        "Healthcheck": {"Test": ["NONE"]},
    },
    "rootfs": {"type": "layers", "diff_ids": DIFF_IDS},
    "author": "Ada <ada@example.org>",
    "history": [
        {"created": "2026-01-01T00:00:00Z", "created_by": "ADD file", "author": "Ada", "comment": "base"},
        {"created_by": 'CMD ["sh"]', "empty_layer": True},
    ],
}


def encode(value: object) -> bytes:
    """Return `value` as JSON."""
    return json.dumps(value).encode()


def changed(**fields: Any) -> bytes:
    """Return CONFIG with fields of its ``config`` replaced."""
    return encode({**CONFIG, "config": {**CONFIG["config"], **fields}})


def test_config_is_read_with_all_that_a_container_needs() -> None:
    """Each field of the spec that decides how a container runs is there, and unknown ones do no harm."""
    config = parse_config(encode(CONFIG))
    assert config.digest == digest_of(encode(CONFIG))
    assert config.platform == Platform("linux", "arm64")
    assert config.created == "2026-01-02T03:04:05Z"
    assert (config.user, config.working_dir, config.stop_signal) == ("1000:1000", "/srv", "SIGINT")
    assert config.env == ("PATH=/bin", "A=b=c")
    assert (config.entrypoint, config.cmd) == (("/init",), ("--help",))
    assert (dict(config.labels), config.volumes, config.exposed_ports) == ({"a": "b"}, ("/data",), ("80/tcp",))
    assert [str(diff_id) for diff_id in config.diff_ids] == DIFF_IDS


@pytest.mark.parametrize("empty", [{}, {"config": None, "rootfs": None}, {"config": {"Env": None, "Labels": None}}])
def test_config_that_says_nothing_is_read_as_empty(empty: dict[str, Any]) -> None:
    """Absent and null fields mean the same, as in Go's documents."""
    config = parse_config(encode(empty))
    assert (config.user, config.env, config.entrypoint, config.diff_ids) == ("", (), (), ())
    assert config.platform == Platform("linux", "")


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (changed(User=0), "User"),
        (changed(User="a\0b"), "User"),
        (changed(Env="PATH=/bin"), "Env"),
        (changed(Env=[1]), "Env"),
        (changed(Env=["A=\0"]), "Env"),
        (changed(Entrypoint="/bin/sh"), "Entrypoint"),
        (changed(Cmd=[["sh"]]), "Cmd"),
        (changed(WorkingDir=["/"]), "WorkingDir"),
        (changed(Labels=["a"]), "Labels"),
        (changed(Labels={"a": 1}), "Labels"),
        (changed(Volumes=["/data"]), "Volumes"),
        (changed(Volumes={"/a\0": {}}), "Volumes"),
        (encode({**CONFIG, "config": []}), "config"),
        (encode({**CONFIG, "os": 1}), "os"),
        (encode({**CONFIG, "author": 1}), "author"),
        (encode({**CONFIG, "history": {}}), "history"),
        (encode({**CONFIG, "history": ["made by hand"]}), "history[0]"),
        (encode({**CONFIG, "history": [{}, {"created_by": ["sh"]}]}), "history[1]"),
        (encode({**CONFIG, "history": [{"empty_layer": 1}]}), "empty_layer"),
        (encode({**CONFIG, "history": [{}] * 10_001}), "history"),
        (encode({**CONFIG, "rootfs": {"type": "zip"}}), "type"),
        (encode({**CONFIG, "rootfs": {"type": "layers", "diff_ids": ["x"]}}), "digest"),
        (encode({**CONFIG, "rootfs": {"type": "layers", "diff_ids": DIFF_IDS * 200}}), "600"),
        (b"not json", "JSON"),
        (b'{"config": {"User": "\\udc80"}}', "UTF-8"),
    ],
)
def test_hostile_config_is_refused_with_its_field(raw: bytes, field: str) -> None:
    """A config with a field of another type never reaches the spec of a container."""
    with pytest.raises(InvalidArgument) as raised:
        parse_config(raw)
    assert field in raised.value.message


def test_history_is_read_oldest_first() -> None:
    """How an image says it was made is there step by step, with those that made no layer marked."""
    config = parse_config(encode(CONFIG))
    assert config.author == "Ada <ada@example.org>"
    assert config.history == (
        HistoryStep("2026-01-01T00:00:00Z", "ADD file", "Ada", "base", False),
        HistoryStep("", 'CMD ["sh"]', "", "", True),
    )
    assert parse_config(encode({**CONFIG, "history": None})).history == ()


def test_endless_text_in_history_is_cut() -> None:
    """A stranger's megabyte of build script does not make an image unusable, and is not carried around either."""
    config = parse_config(encode({**CONFIG, "history": [{"created_by": "x" * (1 << 20)}]}))
    assert config.history[0].created_by == "x" * MAX_STEP_TEXT


def test_layers_and_diff_ids_belong_together() -> None:
    """Each layer has its diff id; an image that names more of one than of the other is refused."""
    image = ImageBuilder().layer(Layer().directory("a")).layer(Layer().directory("b")).build()
    manifest, config = parse_document(image.manifest.data), parse_config(image.config.data)
    assert isinstance(manifest, Manifest)
    assert layers_with_diff_ids(manifest, config) == tuple(zip(manifest.layers, config.diff_ids, strict=True))
    with pytest.raises(InvalidArgument):
        layers_with_diff_ids(manifest, parse_config(encode(CONFIG)))


def test_chain_id_is_the_hash_of_the_chain_below() -> None:
    """A single layer's chain id is its diff id; each further one hashes ``<chain id> <diff id>`` (OCI image-spec)."""
    first, second, third = (Digest(text.removeprefix("sha256:")) for text in DIFF_IDS)
    assert chain_id([first]) == first
    two = hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    three = hashlib.sha256(f"sha256:{two} {third}".encode()).hexdigest()
    assert chain_ids([first, second, third]) == (first, Digest(two), Digest(three))
    assert chain_id([first, second, third]) == Digest(three)
    assert chain_ids([]) == ()
    with pytest.raises(InvalidArgument):
        chain_id([])


def test_default_platform_is_this_host() -> None:
    """On this machine the default is what Go would call it."""
    expected = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    assert (default_platform().os, default_platform().architecture) == (os.uname().sysname.lower(), expected)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i686", "linux/386"),
        ("macOS/arm64", "darwin/arm64"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_platform_has_one_spelling(text: str, canonical: str) -> None:
    """Aliases and baseline variants are one platform."""
    assert str(parse_platform(text)) == canonical
    assert parse_platform(canonical) == parse_platform(text)


@pytest.mark.parametrize(
    "text", ["", "linux", "amd64", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b", "linux/arm/*"]
)
def test_broken_platform_is_refused(text: str) -> None:
    """A platform needs an operating system and an architecture."""
    with pytest.raises(InvalidArgument):
        parse_platform(text)


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=4))
def test_normalising_twice_changes_nothing(os_name: str, architecture: str, variant: str) -> None:
    """A normalised platform stays as it is."""
    once = normalised(os_name, architecture, variant)
    assert normalised(once.os, once.architecture, once.variant) == once
