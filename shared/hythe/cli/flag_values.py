"""Values of flags in Docker's forms: sizes, numbers, pairs, lists with quotes, paths; and how a bad one is refused."""

from __future__ import annotations

import re

from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FILE_BYTES = 1 << 20
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?) ?([kmgtp])?i?b?", re.ASCII | re.IGNORECASE)
_POWERS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)
_YES, _NO = ("1", "t", "true"), ("0", "f", "false")


def wrong(flag: str, value: str, why: str, advice: str = "") -> InvalidArgument:
    """Return the error for a value that a flag doesn't take, with the reason and what to write instead."""
    return InvalidArgument(f"read {flag} {value[:200]!r}: {why}", next_step=advice)


def size_bytes(flag: str, text: str, part: str | None = None) -> int:
    """Return a size in bytes: a number, fractions allowed, and b, k, m, g, t or p, which count by 1024.

    Args:
        text: all that was written after the flag.
        part: the part of it that is the size; all by default.

    Raises:
        InvalidArgument: it is none, or larger than 2⁶³-1.
    """
    found = _SIZE.fullmatch(text if part is None else part)
    if found is None:
        raise wrong(flag, text, f"{_this(part)} is no size", "write e.g. 512m or 1.5g; units are b, k, m, g, t and p")
    number, power = found[1], _POWERS[(found[2] or "").lower()]
    whole, _, fraction = number.partition(".")
    value = (int(whole) << power) + ((int(fraction) << power) // 10 ** len(fraction) if fraction else 0)
    if value >= 1 << 63:
        raise wrong(flag, text, f"{_this(part)} is larger than any size")
    return value


def integer(flag: str, text: str, least: int, most: int, part: str | None = None) -> int:
    """Return a whole number from `least` to `most`; `part` as for `size_bytes`.

    Raises:
        InvalidArgument: it is none, or out of that range.
    """
    number = text if part is None else part
    if not _NUMBER.fullmatch(number):
        raise wrong(flag, text, f"{_this(part)} is no whole number", f"write a number from {least} to {most}")
    value = int(number)
    if not least <= value <= most:
        raise wrong(flag, text, f"{_this(part)} is not from {least} to {most}")
    return value


def _this(part: str | None) -> str:
    return "it" if part is None else repr(part[:100])


def truth(flag: str, text: str, value: str) -> bool:
    """Return what a yes or no means; `text` is the whole of what was written after the flag.

    Raises:
        InvalidArgument: it is neither.
    """
    if value.lower() in _YES:
        return True
    if value.lower() in _NO:
        return False
    raise wrong(flag, text, f"{value!r} is neither true nor false")


def one_of(flag: str, text: str, known: Sequence[str], part: str | None = None) -> str:
    """Return the word that was given if it is one of `known`; `part` as for `size_bytes`.

    Raises:
        InvalidArgument: it is not.
    """
    word = text if part is None else part
    if word not in known:
        raise wrong(flag, text, f"{_this(part)} is none of {', '.join(known)}")
    return word


def pair(flag: str, text: str) -> tuple[str, str]:
    """Return name and value of ``NAME=VALUE``.

    Raises:
        InvalidArgument: the name or ``=`` is missing.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise wrong(flag, text, "expected NAME=VALUE")
    return name, value


def listed(flag: str, text: str, part: str | None = None) -> list[str]:
    """Return the parts between commas; one in double quotes may have commas in it. `part` as for `size_bytes`.

    Raises:
        InvalidArgument: a quote is not closed.

    Spec: RFC 4180, one record.
    """
    record = text if part is None else part
    if '"' not in record:
        return record.split(",")
    import csv  # only where there are quotes

    try:
        (parts,) = csv.reader([record], strict=True)
    except (csv.Error, ValueError) as error:
        raise wrong(flag, text, f"its quotes are not understood: {error}") from None
    return parts


def container_path(flag: str, text: str, path: str) -> str:
    """Return an absolute path in a container, cleaned by letters; never its root.

    Raises:
        InvalidArgument: it is not absolute, or is the root.
    """
    if not path.startswith("/"):
        raise wrong(flag, text, f"{path!r} is not an absolute path in the container")
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        raise wrong(flag, text, "nothing can be mounted over the container's root")
    return "/" + "/".join(parts)


def file_text(flag: str, text: str, path: str | None = None) -> str:
    """Return the text of the file that a flag names, at `path` if that is only a part of `text`.

    Raises:
        InvalidArgument: it can't be read, is larger than 1 MiB, or is not UTF-8.
    """
    try:
        with open(text if path is None else path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise wrong(flag, text, f"the file can't be read: {getattr(error, 'strerror', error)}") from None
    if len(data) > MAX_FILE_BYTES:
        raise wrong(flag, text, f"the file is larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise wrong(flag, text, f"the file is not UTF-8 at byte {error.start}") from None
