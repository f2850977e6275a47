"""What a service remembers of its answers has a bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hythe.bus.remembered import Remembered
from hythe.bus.replies import Answer


def answer(size_bytes: int) -> Answer:
    """Return an answer of a size."""
    return Answer("ok", bytes(size_bytes))


def test_answer_is_found_under_its_key_until_it_is_forgotten() -> None:
    """A key has its latest answer, with the hash of what was asked."""
    remembered: Remembered[str] = Remembered()
    remembered.keep("a", "hash", answer(1))
    remembered.keep("a", "other hash", answer(2))
    kept = remembered.get("a")
    assert kept is not None
    assert (kept.body, len(kept.answer.data)) == ("other hash", 2)
    remembered.forget("a")
    remembered.forget("a")
    assert remembered.get("a") is None


def test_answer_older_than_the_time_limit_is_forgotten() -> None:
    """Nothing is remembered for longer than was promised."""
    remembered: Remembered[str] = Remembered(keep_s=-1)
    remembered.keep("a", "", answer(1))
    assert remembered.get("a") is None


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 60)), max_size=100))
def test_remembered_answers_stay_within_number_and_bytes(kept: list[tuple[int, int]]) -> None:
    """Whatever is answered, the newest answers that fit are kept, and never more."""
    remembered: Remembered[int] = Remembered(most=5, most_bytes=100)
    for key, size in kept:
        remembered.keep(key, "", answer(size))
        assert remembered.get(key) is not None
        found = [r for k in range(21) if (r := remembered.get(k)) is not None]
        assert len(found) <= 5
        assert sum(len(r.answer.data) for r in found) <= 100
