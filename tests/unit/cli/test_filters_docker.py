"""`--filter` for images: Docker's keys, patterns and times."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.cli.filters_docker import LIST_KEYS, read, select
from hythe.errors import InvalidArgument, NotFound

NOW = 1_800_000_000.0


def _row(reference: str, **more: Any) -> dict[str, Any]:
    fields = {"dangling": False, "labels": {}, "image_created_at": "", "id": "", "digest": "sha256:" + "0" * 64}
    return {"reference": reference, **fields, **more}


ROWS = [
    _row("docker.io/library/busybox:1.36", image_created_at="2026-01-01T00:00:00Z", id="sha256:" + "ab" * 32),
    _row("docker.io/team/app:latest", image_created_at="2026-02-01T00:00:00Z", labels={"a": "1", "b": ""}),
    _row("localhost:5000/team/app:2", image_created_at="2026-03-01T00:00:00Z", labels={"a": "2"}),
    _row("hythe.invalid/x@sha256:" + "f" * 64, dangling=True),
]


def _selected(*texts: str) -> list[int]:
    chosen = select(ROWS, read(texts, LIST_KEYS), NOW)
    return [ROWS.index(row) for row in chosen]


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["dangling=true"], [3]),
        (["dangling=0"], [0, 1, 2]),
        (["dangling=true", "dangling=false"], [0, 1, 2, 3]),
        (["label=a"], [1, 2]),
        (["label=a=1"], [1]),
        (["label=a", "label=b"], [1]),
        (["label=a=1", "label=a=2"], []),
        (["label=b="], [1]),
        (["reference=busybox"], [0]),
        (["reference=busybox:1.*"], [0]),
        (["reference=docker.io/library/busybox"], [0]),
        (["reference=*"], [0]),
        (["reference=*/*"], [1]),
        (["reference=team/app"], [1]),
        (["reference=*/*/app"], [1, 2]),
        (["reference=busybo[a-z]:1.3?"], [0]),
        (["reference=busybo[^x]"], []),
        (["reference=busybox", "reference=team/*"], [0, 1]),
        (["reference=busybox", "label=a"], []),
        (["before=team/app"], [0]),
        (["since=ababab"], [1, 2]),
        (["since=sha256:abab", "before=localhost:5000/team/app:2"], [1]),
        (["before=team/app", "before=localhost:5000/team/app:2"], [0, 1]),
        (["until=2026-02-15"], [0, 1]),
    ],
)
def test_filters_choose_images_as_docker_does(texts: list[str], found: list[int]) -> None:
    """Different keys must all hold, of one key's values one; labels must all be there; an image without a time has no age."""
    assert _selected(*texts) == found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("size=1", InvalidArgument),
        ("label", InvalidArgument),
        ("label=", InvalidArgument),
        ("dangling=maybe", InvalidArgument),
        ("reference=[a", InvalidArgument),
        ("reference=[z-a]", InvalidArgument),
        ("until=soon", InvalidArgument),
        ("before=nothing", NotFound),
        ("before=A B", NotFound),
        ("since=hythe.invalid/x@sha256:" + "f" * 64, InvalidArgument),
    ],
)
def test_filter_that_cannot_be_understood_is_refused(text: str, error: type[Exception]) -> None:
    """A filter never passes in silence."""
    with pytest.raises(error):
        _selected(text)


@given(st.text(alphabet="ab*?[]^-/\\&~|.", min_size=1, max_size=12))
def test_any_pattern_matches_or_is_refused(pattern: str) -> None:
    """No pattern makes the command fail in another way than by refusing it."""
    try:
        _selected(f"reference={pattern}")
    except InvalidArgument:
        pass


@given(st.text(alphabet="ab/.:", max_size=12))
def test_pattern_without_signs_matches_itself_alone(text: str) -> None:
    """Letters in a pattern stand for themselves."""
    row = _row(f"r.example/{text}")
    chosen = select([row], {"reference": [f"r.example/{text}"]}, NOW)
    assert chosen == [row]
