"""The generated documents are true, and what they are made from is complete."""

from __future__ import annotations

import pytest

from scripts.lab import docs


@pytest.mark.parametrize("name", ["docs/subjects.md", "docs/errors.md", "docs/events.md"])
def test_generated_document_is_up_to_date(name: str) -> None:
    """The document is what `make docs` would write now."""
    path = docs.ROOT / name
    assert path.read_text() == docs.pages()[path], "run `make docs`"


def test_every_registered_request_has_a_promise() -> None:
    """Each request that a service answers is described by its message's docstring."""
    found = docs.registrations()
    assert {r.service for r in found} == {docs.EVERY, "metadata", "distribution", "bundle", "runtime", "agent"}
    assert [r.message.__name__ for r in found if not r.message.__doc__] == []
