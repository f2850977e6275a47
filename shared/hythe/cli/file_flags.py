"""Files of variables and labels, one a line, by Docker's rules."""

from __future__ import annotations

import os

from hythe.cli.flag_values import file_text, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def variables(paths: Sequence[str]) -> list[str]:
    """Return ``NAME=VALUE`` of each line; a name alone takes its value from here, and is left out where there is none.

    Raises:
        InvalidArgument: a file can't be read, or a line has no name or one with blanks in it.
    """
    found = []
    for path in paths:
        for name, value in _lines("--env-file", path):
            if value is not None:
                found.append(f"{name}={value}")
            elif name in os.environ:
                found.append(f"{name}={os.environ[name]}")
    return found


def labels(paths: Sequence[str]) -> dict[str, str]:
    """Return the labels of all lines; a name alone is a label with an empty value. Errors are those of `variables`."""
    return {name: value or "" for path in paths for name, value in _lines("--label-file", path)}


def _lines(flag: str, path: str) -> Iterator[tuple[str, str | None]]:
    for number, line in enumerate(file_text(flag, path).split("\n"), 1):
        line = line.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not name or name.split() != [name]:
            raise wrong(flag, path, f"line {number} begins with no name, or with one that has blanks in it")
        yield name, value if equals else None
