"""Documents that several want at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hythe.digest import digest_of
from hythe.errors import NotFound
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.shared_documents import REMEMBERED_BYTES, REMEMBERED_S, SharedDocuments

RAW = b'{"a": "document"}'
DIGEST = digest_of(RAW)


def test_many_who_want_one_document_fetch_it_once() -> None:
    """However many pull an image at once, each of its documents comes once."""
    shared, gate, calls = SharedDocuments(), threading.Event(), []

    def fetch() -> bytes:
        calls.append(1)
        assert gate.wait(10)
        return RAW

    with ThreadPoolExecutor(8) as threads:
        works = [threads.submit(shared.get, DIGEST, Cancellation(), fetch) for _ in range(8)]
        gate.set()
        assert [work.result() for work in works] == [RAW] * 8
    assert len(calls) == 1


def test_next_one_tries_when_the_first_fails() -> None:
    """An error is the error of who met it; the others ask themselves."""
    shared, gate, begun = SharedDocuments(), threading.Event(), threading.Event()

    def fail() -> bytes:
        begun.set()
        assert gate.wait(10)
        raise NotFound("fetch: not here")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(shared.get, DIGEST, Cancellation(), fail)
        assert begun.wait(10)
        second = threads.submit(shared.get, DIGEST, Cancellation(), lambda: RAW)
        gate.set()
        with pytest.raises(NotFound):
            first.result()
        assert second.result() == RAW


def test_document_is_forgotten_after_a_while() -> None:
    """What is remembered is for those who come at the same time, not a second store."""
    now = [0.0]
    shared = SharedDocuments(lambda: now[0])
    assert shared.get(DIGEST, Cancellation(), lambda: RAW) == RAW
    assert shared.get(DIGEST, Cancellation(), lambda: b"not asked") == RAW
    now[0] = REMEMBERED_S + 1
    assert shared.get(DIGEST, Cancellation(), lambda: b"asked again") == b"asked again"


def test_memory_for_documents_is_bounded() -> None:
    """Large documents of strangers push out the older ones."""
    shared = SharedDocuments()
    for number in range(20):
        raw = bytes([number]) * (REMEMBERED_BYTES // 4)
        shared.get(digest_of(raw), Cancellation(), lambda raw=raw: raw)  # type: ignore[misc]
    assert sum(len(raw) for raw, _ in shared._remembered.values()) <= REMEMBERED_BYTES


def test_waiting_for_a_document_ends_when_nobody_wants_it() -> None:
    """A cancelled pull doesn't wait for the document of another."""
    shared, gate, begun, cancellation = SharedDocuments(), threading.Event(), threading.Event(), Cancellation()

    def fetch() -> bytes:
        begun.set()
        assert gate.wait(10)
        return RAW

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(shared.get, DIGEST, Cancellation(), fetch)
        assert begun.wait(10)
        cancellation.cancel()
        second = threads.submit(shared.get, DIGEST, cancellation, fetch)
        with pytest.raises(Cancelled):
            second.result(10)
        gate.set()
        assert first.result() == RAW
