"""Sending what this command makes: no chunk is made before it may be sent, none is lost, and the end is told once."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from hythe.client.io_produced import Produced


def sent(source: Produced) -> list[tuple[int, bytes]]:
    """Return all that may be sent now."""
    return list(source.chunks())


def credit(source: Produced, have: int, until: int, *, resend: bool = False) -> None:
    """Give the credit that a host gives."""
    source.credit({"have": have, "until": until, "resend": resend})


def test_nothing_is_made_before_there_is_credit() -> None:
    """A large file is not read before the container's host can take it."""
    made = []

    def chunks() -> Iterator[bytes]:
        for number in range(10):
            made.append(number)
            yield bytes(100)

    source = Produced(chunks())
    assert sent(source) == []
    assert made == []
    credit(source, 0, 250)
    assert [(offset, len(data)) for offset, data in sent(source)] == [(0, 100), (100, 100), (200, 50)]
    assert len(made) == 3


def test_end_is_told_after_the_last_byte_and_again_when_asked() -> None:
    """The end is an empty chunk at the final offset; a host that missed it gets it once more."""
    source = Produced(iter([b"abc"]))
    credit(source, 0, 100)
    assert sent(source) == [(0, b"abc"), (3, b"")]
    assert sent(source) == []
    credit(source, 3, 103, resend=True)
    assert sent(source) == [(3, b"")]


def test_empty_archive_is_only_an_end() -> None:
    """What has no bytes ends at once, when it may."""
    source = Produced(iter(()))
    assert sent(source) == []
    credit(source, 0, 1)
    assert sent(source) == [(0, b"")]


@given(
    sizes=st.lists(st.integers(1, 400), max_size=20),
    windows=st.lists(st.tuples(st.integers(1, 700), st.booleans()), min_size=1, max_size=30),
)
def test_host_that_misses_chunks_gets_them_again(sizes: list[int], windows: list[tuple[int, bool]]) -> None:
    """Whatever is lost on the way and however small the credit is, the host has every byte in the end."""
    whole = b"".join(bytes([number % 256]) * size for number, size in enumerate(sizes))
    source = Produced(iter([bytes([number % 256]) * size for number, size in enumerate(sizes)]))
    have, ended = b"", False
    turns = [*windows, *([(1000, False)] * 40)]
    resend = False
    for window, loses in turns:
        credit(source, len(have), len(have) + window, resend=resend)
        resend = loses
        for offset, data in source.chunks():
            if loses:
                continue
            assert offset <= len(have)
            have += data[len(have) - offset :]
            ended = ended or (not data and offset == len(whole))
    assert have == whole
    assert ended
