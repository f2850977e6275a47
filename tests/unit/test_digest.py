"""Content digests."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.digest import EMPTY_DIGEST, Digest, digest_of, parse_digest, verified
from hythe.errors import DataLoss, InvalidArgument


def test_digest_of_data_is_its_sha256() -> None:
    """A digest is written as the OCI image-spec says."""
    assert str(digest_of(b"hythe")) == f"sha256:{hashlib.sha256(b'hythe').hexdigest()}"
    assert str(digest_of(b"")) == EMPTY_DIGEST


def test_digest_text_comes_back_from_parsing() -> None:
    """Parsing and writing are inverse."""
    assert str(parse_digest(EMPTY_DIGEST)) == EMPTY_DIGEST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha512:" + "a" * 128,
        "sha256:" + "a" * 64 + "\n",
        "sha256:../" + "a" * 61,
    ],
)
def test_malformed_digest_is_refused(text: str) -> None:
    """Nothing that could be a path or another algorithm is taken for a digest."""
    with pytest.raises(InvalidArgument):
        parse_digest(text)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut `data` into chunks of `sizes`, and the rest."""
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [*chunks, data[at:]]


@given(st.binary(max_size=200), st.lists(st.integers(0, 50), max_size=5))
def test_promised_blob_passes_whole(data: bytes, sizes: list[int]) -> None:
    """However it is cut, a blob that is what was promised passes unchanged."""
    assert b"".join(verified(pieces(data, sizes), digest_of(data), len(data), "blob")) == data


@given(st.binary(max_size=200), st.lists(st.integers(0, 50), max_size=5), st.binary(max_size=200))
def test_other_blob_never_ends_well(data: bytes, sizes: list[int], other: bytes) -> None:
    """Whoever sees the end of the stream has seen the promised bytes, and nothing else."""
    if other == data:
        return
    with pytest.raises(DataLoss):
        list(verified(pieces(other, sizes), digest_of(data), len(data), "blob"))


def test_too_many_bytes_are_not_passed_on() -> None:
    """A server that sends without end is stopped at the promised size."""
    passed = []
    with pytest.raises(DataLoss, match="expected 3 bytes, got more"):
        for chunk in verified(iter([b"ab", b"cd", b"ef"]), digest_of(b"abc"), 3, "blob"):
            passed.append(chunk)
    assert passed == [b"ab"]


def test_refusal_names_the_blob_and_both_digests() -> None:
    """The message says what was read, what was expected and what came."""
    with pytest.raises(DataLoss) as caught:
        list(verified([b"abd"], digest_of(b"abc"), 3, "layer 1"))
    assert caught.value.message == f"read layer 1: expected {digest_of(b'abc')}, got {digest_of(b'abd')}"


def test_digests_can_be_keys() -> None:
    """Equal digests are one key."""
    assert len({Digest("a" * 64), Digest("a" * 64), Digest("b" * 64)}) == 2
