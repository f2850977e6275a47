"""Names, ids and their form in subjects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.errors import InvalidArgument
from hythe.identifiers import (
    check_container_name,
    check_id,
    check_namespace,
    decode_token,
    encode_token,
    new_id,
)

names = st.text(st.characters(exclude_categories=["Cs"]))


def test_new_ids_are_valid_and_differ() -> None:
    """Ids are 128 random bits in the form that is checked everywhere."""
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(check_id(value) == value for value in ids)


@pytest.mark.parametrize("value", ["", "a" * 31, "a" * 33, "A" * 32, "g" * 32, "a" * 31 + "\n", "a" * 32 + "\n"])
def test_malformed_id_is_refused(value: str) -> None:
    """Nothing but 32 lower-case hex digits is an id."""
    with pytest.raises(InvalidArgument):
        check_id(value)


@pytest.mark.parametrize("value", ["default", "a", "A1", "k8s.io", "a-b_c.d", "a" * 76])
def test_good_namespace_is_taken(value: str) -> None:
    """containerd's namespaces are all good here."""
    assert check_namespace(value) == value


@pytest.mark.parametrize("value", ["", ".", "a.", "-a", "a..b", "a b", "ä", "a/b", "a\n", "*", ">", "a" * 77])
def test_bad_namespace_is_refused(value: str) -> None:
    """Nothing that could mean a path, a wildcard or nothing is a namespace."""
    with pytest.raises(InvalidArgument):
        check_namespace(value)


@pytest.mark.parametrize("value", ["web", "0", "a.b-c_d", "a..", "a" * 76])
def test_good_container_name_is_taken(value: str) -> None:
    """Docker's names are all good here."""
    assert check_container_name(value) == value


@pytest.mark.parametrize("value", ["", "-a", ".a", "_a", "..", "a/b", "a b", "a\n", "ä", "a" * 77])
def test_bad_container_name_is_refused(value: str) -> None:
    """Nothing that could leave a directory or break a line is a container name."""
    with pytest.raises(InvalidArgument):
        check_container_name(value)


@given(names)
def test_token_can_be_decoded_to_its_name(name: str) -> None:
    """Every name has a token and comes back from it."""
    assert decode_token(encode_token(name)) == name


@given(names, names)
def test_different_names_have_different_tokens(one: str, other: str) -> None:
    """Two names never share a subject."""
    assert (encode_token(one) == encode_token(other)) == (one == other)


@given(names)
def test_token_is_one_plain_subject_token(name: str) -> None:
    """A token is never empty, a wildcard, several tokens, or unprintable."""
    token = encode_token(name)
    assert token
    assert token.isascii()
    assert token.isprintable()
    assert not set(token) & set(".*> \t")


@pytest.mark.parametrize(
    ("name", "token"), [("", "_"), ("_", "=5F"), ("a.b", "a=2Eb"), ("=", "=3D"), ("ä", "=C3=A4"), ("h-1", "h-1")]
)
def test_token_of_a_name_stays_what_it_is(name: str, token: str) -> None:
    """The encoding is part of the protocol."""
    assert encode_token(name) == token


@pytest.mark.parametrize(
    "token", ["", "a.b", "=", "=4", "=zz", "=61", "=2e", "=C3", "=FF", "a_b", "__", "*", "a b", "ä", "=+1", "= 1"]
)
def test_text_that_is_no_token_is_refused(token: str) -> None:
    """Only what the encoding makes is decoded, so a subject has one meaning."""
    with pytest.raises(InvalidArgument):
        decode_token(token)


@given(st.text())
def test_decoding_any_text_gives_its_name_or_invalid_argument(token: str) -> None:
    """Hostile subjects never raise anything else, and whatever is decoded encodes back."""
    try:
        name = decode_token(token)
    except InvalidArgument:
        return
    assert encode_token(name) == token
