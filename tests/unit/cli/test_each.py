"""One act for each of several names."""

from __future__ import annotations

import pytest

from hythe.cli.each import for_each
from hythe.errors import FailedPrecondition, NotFound


def test_what_cannot_be_done_keeps_no_other_from_being_done(capsys: pytest.CaptureFixture[str]) -> None:
    """The first error ends the command, with its trace and exit code; the others are told at once, with their advice."""
    done = []

    def act(name: str) -> None:
        if name == "used":
            raise FailedPrecondition("remove used: it is in use", next_step="remove its user")
        if name == "none":
            raise NotFound("find none: \x1b[31m")
        done.append(name)

    with pytest.raises(NotFound, match="find none"):
        for_each(["a", "none", "used", "none", "b"], act)
    assert done == ["a", "b"]
    assert capsys.readouterr() == (
        "",
        "error: remove used: it is in use\n  next:  remove its user\nerror: find none: \\x1b[31m\n",
    )


def test_nothing_is_raised_when_all_is_done() -> None:
    """No names, no errors."""
    for_each([], str)
    for_each(["a"], str)
