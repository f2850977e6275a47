"""One act for each of several things that a command names: what cannot be done keeps no other from being done."""

from __future__ import annotations

import sys

from hythe.cli.output import visible
from hythe.errors import HytheError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def for_each(names: Iterable[str], act: Callable[[str], object]) -> None:
    """Do `act` with each of `names` in their order, and raise the first error at the end; the others are shown on stderr.

    Raises:
        HytheError: one of them could not be done.
    """
    if error := tried(names, act):
        raise error


def for_each_shown(names: Iterable[str], act: Callable[[str], object]) -> None:
    """As `for_each`; also print each name with which it could be done."""

    def act_and_show(name: str) -> None:
        act(name)
        print(visible(name))

    for_each(names, act_and_show)


def tried(names: Iterable[str], act: Callable[[str], object]) -> HytheError | None:
    """Do `act` with each of `names` in their order, and return the first error; the others are shown on stderr."""
    first: HytheError | None = None
    for name in names:
        try:
            act(name)
        except HytheError as error:
            if first is not None:
                _show(error)
            first = first or error
    return first


def _show(error: HytheError) -> None:
    """Show an error that is not the command's first."""
    print(visible(f"error: {error.message}"), file=sys.stderr)
    if error.next_step:
        print(f"  next:  {visible(error.next_step)}", file=sys.stderr)
