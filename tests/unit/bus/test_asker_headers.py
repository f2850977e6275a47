"""Who asked first, as requests from service to service carry it."""

from __future__ import annotations

import pytest

from hythe.asking import NOBODY, Asker, current, working_for
from hythe.bus.asker_headers import CALLER_HEADER, REQUEST_HEADER, asker_of, inject

ALICE = Asker("alice@laptop é", "r" * 32)


def headers_for(asker: Asker) -> dict[str, str]:
    """Return what a request that is made for `asker` carries."""
    headers: dict[str, str] = {}
    with working_for(asker):
        inject(headers)
    return headers


@pytest.mark.parametrize("caller", ["distribution", ""])
def test_service_is_believed_for_whom_it_asks(caller: str) -> None:
    """What a service does for a user is told as the user's, on subjects that name the caller and on those of hosts."""
    assert asker_of(headers_for(ALICE), caller, "own") == ALICE


def test_user_cannot_ask_in_the_name_of_another() -> None:
    """Whatever headers a user's key sends, what it does is told as its own."""
    assert asker_of(headers_for(ALICE), "mallory", "own") == Asker("mallory", "own")


def test_service_that_asks_for_nobody_is_told_itself() -> None:
    """What a service does by itself names the service."""
    assert headers_for(NOBODY) == {}
    assert asker_of({}, "metadata", "own") == Asker("metadata", "own")


@pytest.mark.parametrize(
    "spoiled", [{CALLER_HEADER: "%zz"}, {REQUEST_HEADER: ""}, {REQUEST_HEADER: "a b"}, {REQUEST_HEADER: "r" * 129}]
)
def test_headers_that_make_no_sense_are_as_none(spoiled: dict[str, str]) -> None:
    """A header that can't be read is told as little as one that isn't there."""
    assert asker_of({**headers_for(ALICE), **spoiled}, "bundle", "own") == Asker("bundle", "own")


def test_block_that_ends_gives_back_for_whom_it_was_before() -> None:
    """What is done after somebody's work isn't told as theirs."""
    with working_for(ALICE):
        with working_for(Asker("bob", "1")):
            pass
        assert current.get() == ALICE
    assert current.get() == NOBODY
