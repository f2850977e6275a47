"""Names of images for people: the same as `hythe.reference` says, without what that costs to import."""

from __future__ import annotations

import pytest

from hythe.cli.image_words import familiar, short_id, split_name
from hythe.reference import parse_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "text",
    [
        "busybox",
        "busybox:1.36",
        "team/app",
        "library/a/b:1",
        f"busybox@{DIGEST}",
        f"busybox:1@{DIGEST}",
        "localhost:5000/app:2",
        "registry.example/team/app",
        "[::1]:5000/app:1",
        "docker.io/localhost/app",
        "docker.io/a.b/c",
    ],
)
def test_short_name_is_that_of_the_reference(text: str) -> None:
    """Listings write a name as every other part of Hythe does, and its parts are the reference's."""
    reference = parse_reference(text)
    assert familiar(str(reference)) == reference.familiar
    repository, tag, digest = split_name(str(reference))
    assert (tag, digest) == (reference.tag or "", str(reference.digest or ""))
    assert parse_reference(f"{repository}:x").name == reference.name


def test_dangling_image_has_no_name() -> None:
    """The name that only Hythe knows is not shown."""
    assert split_name(f"hythe.invalid/x@{DIGEST}") == ("<none>", "", DIGEST)
    assert familiar(f"hythe.invalid/x@{DIGEST}") == f"<none>@{DIGEST}"


def test_short_id_has_twelve_digits() -> None:
    """As in Docker."""
    assert (short_id(DIGEST), short_id(DIGEST, whole=True)) == ("a" * 12, DIGEST)
