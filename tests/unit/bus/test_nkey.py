"""Bus keys are the same as those of the reference package."""

from __future__ import annotations

import base64
from pathlib import Path

import nkeys  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.bus import nkey
from hythe.errors import FailedPrecondition, InvalidArgument


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_any_secret_signs_and_names_itself_as_the_reference_does(secret: bytes, data: bytes) -> None:
    """Seed, public key and signature equal those of the `nkeys` package, byte for byte."""
    key = nkey.Key(secret)
    seed = nkeys.encode_seed(secret, nkeys.PREFIX_BYTE_USER).rstrip(b"=")
    reference = nkeys.from_seed(bytearray(seed))
    assert key.seed.encode() == seed
    assert key.public.encode() == reference.public_key
    assert key.sign(data) == reference.sign(data)


def test_generated_key_read_back_from_its_seed_is_the_same_key() -> None:
    """A key survives being written down."""
    key = nkey.generate()
    again = nkey.from_seed(key.seed + "\n")
    assert (again.public, again.seed) == (key.public, key.seed)
    assert nkey.generate().seed != key.seed


def test_signature_text_is_base64url_without_padding() -> None:
    """The server can decode the signature as CONNECT carries it."""
    key = nkey.generate()
    text = key.signature_text("nonce")
    assert base64.urlsafe_b64decode(text + "==") == key.sign(b"nonce")
    assert not set(text) & set("=+/")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:-1],
        lambda s: s[:10] + ("A" if s[10] != "A" else "B") + s[11:],
        lambda s: s.lower(),
        lambda s: "",
        lambda s: "SU",
        lambda s: s + "A" * 8,
    ],
)
def test_damaged_seed_is_refused_without_repeating_it(change: object) -> None:
    """A wrong seed is an InvalidArgument whose text does not hold the secret."""
    seed = nkey.generate().seed
    damaged = change(seed)  # type: ignore[operator]
    with pytest.raises(InvalidArgument) as caught:
        nkey.from_seed(damaged)
    assert seed[5:20] not in str(caught.value)


def test_public_key_or_account_seed_is_refused() -> None:
    """Only a user's seed is a bus key."""
    with pytest.raises(InvalidArgument):
        nkey.from_seed(nkey.generate().public)
    with pytest.raises(InvalidArgument):
        nkey.from_seed(nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_ACCOUNT).decode().rstrip("="))


def test_missing_key_file_says_who_makes_it(tmp_path: Path) -> None:
    """The error names the file and the command that makes keys."""
    with pytest.raises(FailedPrecondition, match=r"admin\.nk") as caught:
        nkey.load(str(tmp_path / "admin.nk"))
    assert "hythe up" in caught.value.next_step


def test_key_file_with_binary_content_is_refused(tmp_path: Path) -> None:
    """A file that holds no text is no key."""
    (tmp_path / "k.nk").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidArgument):
        nkey.load(str(tmp_path / "k.nk"))
