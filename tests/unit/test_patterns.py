"""Regular expressions without backtracking."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.errors import InvalidArgument
from hythe.patterns import Pattern


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("^$", "", True),
        ("$^", "", True),
        ("^$", "x", False),
        ("b", "abc", True),
        ("^b", "abc", False),
        ("c$", "abc", True),
        ("a.c", "a\nc", False),
        ("a.c", "aéc", True),
        ("(?i)^ABC$", "aBc", True),
        ("(?i)[^a]", "A", False),
        ("^a{2,3}$", "aaaa", False),
        ("^a{2,}$", "aaaa", True),
        ("^(?:ab|c)+?$", "abcab", True),
        (r"^[\d.\]-]+$", "1.2-]", True),
        (r"^[]a]+$", "]a", True),
        (r"^[^\w]$", "-", True),
        (r"^[^\W]$", "-", False),
        (r"^\D\S\s\n$", "ab \n", True),
        (r"^\.\\\*$", ".\\*", True),
        ("(^)*a", "ba", True),
        ("(a*)*b", "aaab", True),
        ("a|", "", True),
        ("()", "", True),
    ],
)
def test_pattern_matches_as_in_re2(pattern: str, text: str, expected: bool) -> None:
    """What is common to RE2 and Python means the same here."""
    assert Pattern(pattern).search(text) is expected


@pytest.mark.parametrize(
    ("pattern", "position"),
    [
        ("(", 1),
        (")", 0),
        ("a)", 1),
        ("[a", 2),
        ("[", 1),
        ("[]", 2),
        ("[b-a]", 4),
        (r"[a-\d]", 5),
        ("*a", 0),
        ("a**", 2),
        ("^*", 1),
        ("a{,3}", 2),
        ("a{3,2}", 2),
        ("a{256}", 2),
        ("a{2", 2),
        ("a{x}", 2),
        ("\\", 1),
        (r"\b", 1),
        (r"(a)\1", 4),
        ("(?=a)", 1),
        ("(?P<x>a)", 1),
        ("[[:alpha:]]", 2),
        ("(" * 33 + ")" * 33, 33),
    ],
)
def test_pattern_that_is_none_is_refused_at_its_position(pattern: str, position: int) -> None:
    """A mistake, and what would need backtracking, is told with the place where it is."""
    with pytest.raises(InvalidArgument, match=f"position {position}:"):
        Pattern(pattern)


@pytest.mark.parametrize("pattern", ["a" * 257, "((a{99}){99}){99}", "(a{255}){255}"])
def test_pattern_that_would_grow_is_refused(pattern: str) -> None:
    """Neither length nor repetition makes a pattern that fills the memory."""
    with pytest.raises(InvalidArgument):
        Pattern(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*.*.*.*.*.*)*x", "a*" * 100 + "b"])
def test_pattern_that_would_backtrack_for_ever_ends_at_once(pattern: str) -> None:
    """No pattern keeps the store busy: each takes a time that grows with the text alone."""
    started = time.monotonic()
    Pattern(pattern).search("a" * 4096 + "!")
    assert time.monotonic() - started < 2.0


def patterns() -> st.SearchStrategy[str]:
    """Patterns of all that is known, over few letters so that they match now and then."""
    atoms = st.sampled_from(["a", "b", "-", ".", "[ab]", "[^a]", "[a-b-]", r"\d", r"\W", "^", "$", ""])
    repeats = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,2}", "{0,}", "*?"])

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map("|".join),
            st.tuples(inner, repeats).map(lambda parts: f"(?:{parts[0]}){parts[1]}"),
        )

    return st.recursive(atoms, larger, max_leaves=8)


@given(patterns(), st.text(alphabet="ab-1", max_size=8))
def test_pattern_matches_as_in_python(pattern: str, text: str) -> None:
    """Whatever is made of the known parts matches exactly where Python's own expressions do."""
    assert Pattern(pattern).search(text) == bool(re.search(pattern, text, re.ASCII))
