"""`--filter KEY=VALUE` as Docker understands it for images: different keys must all hold.

Of several values of one key one is enough, but all labels must be there: so does Docker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hythe.cli import output
from hythe.cli.image_words import spellings
from hythe.cli.moments import moment_s
from hythe.errors import HytheError, InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Row = dict[str, Any]
    Test = Callable[[Row], bool]

LIST_KEYS = ("before", "dangling", "label", "reference", "since", "until")
_YES, _NO = ("true", "1", "t"), ("false", "0", "f")
_LEAST_HEX = 4


def read(texts: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each key.

    Raises:
        InvalidArgument: a text is not ``KEY=VALUE``, or its key is not in `known`.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if key not in known:
            raise InvalidArgument(
                f"read --filter {text!r}: there is no filter {key!r}", next_step=f"filters are {', '.join(known)}"
            )
        if not equals or not value:
            raise InvalidArgument(f"read --filter {text!r}: expected {key}=VALUE")
        found.setdefault(key, []).append(value)
    return found


def select(rows: Sequence[Row], filters: Mapping[str, Sequence[str]], now_s: float) -> list[Row]:
    """Return the images that every filter lets through, in their order.

    Raises:
        InvalidArgument: a value is not what its key needs.
        NotFound: ``before`` or ``since`` names no image of `rows`.
    """
    tests = [_MAKERS[key](values, rows, now_s) for key, values in filters.items()]
    return [row for row in rows if all(test(row) for test in tests)]


def created_s(row: Row) -> float | None:
    """Return when an image was made, as it says of itself, in seconds since 1970; None where it does not say."""
    return output.epoch_s(row["image_created_at"])


def _dangling(values: Sequence[str], rows: Sequence[Row], now_s: float) -> Test:
    for value in values:
        if value.lower() not in (*_YES, *_NO):
            raise InvalidArgument(f"read --filter 'dangling={value}': expected true or false")
    wanted = {value.lower() in _YES for value in values}
    return lambda row: bool(row["dangling"]) in wanted


def _label(values: Sequence[str], rows: Sequence[Row], now_s: float) -> Test:
    pairs = [value.partition("=") for value in values]
    return lambda row: all(
        key in row["labels"] and (not equals or row["labels"][key] == value) for key, equals, value in pairs
    )


def _reference(values: Sequence[str], rows: Sequence[Row], now_s: float) -> Test:
    patterns = [_glob(value) for value in values]

    def test(row: Row) -> bool:
        if row["dangling"]:
            return False
        texts = spellings(str(row["reference"]))
        return any(pattern.fullmatch(text) for pattern in patterns for text in texts)

    return test


def _before(values: Sequence[str], rows: Sequence[Row], now_s: float) -> Test:
    moments = [_created_of(value, rows, "before") for value in values]
    return lambda row: (at := created_s(row)) is not None and any(at < moment for moment in moments)


def _since(values: Sequence[str], rows: Sequence[Row], now_s: float) -> Test:
    moments = [_created_of(value, rows, "since") for value in values]
    return lambda row: (at := created_s(row)) is not None and any(at > moment for moment in moments)


def _until(values: Sequence[str], rows: Sequence[Row], now_s: float) -> Test:
    moments = [moment_s(value, now_s) for value in values]
    return lambda row: (at := created_s(row)) is not None and any(at < moment for moment in moments)


_MAKERS: dict[str, Callable[[Sequence[str], Sequence[Row], float], Test]] = {
    "before": _before,
    "dangling": _dangling,
    "label": _label,
    "reference": _reference,
    "since": _since,
    "until": _until,
}


def _created_of(image: str, rows: Sequence[Row], key: str) -> float:
    row = _named(image, rows)
    at = None if row is None else created_s(row)
    if row is None:
        raise NotFound(
            f"read --filter '{key}={image}': there is no such image",
            next_step="`hythe images` lists those of the namespace",
            details={"kind": "image"},
        )
    if at is None:
        raise InvalidArgument(f"read --filter '{key}={image}': this image does not say when it was made")
    return at


def _named(image: str, rows: Sequence[Row]) -> Row | None:
    """Return the image of a reference, or of an id or the beginning of one."""
    from hythe.reference import parse_reference  # only for these filters

    hexadecimal = image.removeprefix("sha256:")
    if len(hexadecimal) >= _LEAST_HEX and not hexadecimal.strip("0123456789abcdef"):
        for row in rows:
            if any(str(row[key]).partition(":")[2].startswith(hexadecimal) for key in ("id", "digest")):
                return row
    try:
        wanted = str(parse_reference(image))
    except HytheError:
        return None
    return next((row for row in rows if row["reference"] == wanted), None)


def _glob(pattern: str) -> re.Pattern[str]:
    """Return a shell pattern as Go's path.Match reads it: ``*`` and ``?`` stop at a slash."""
    out, at = "", 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "*":
            out += "[^/]*"
        elif letter == "?":
            out += "[^/]"
        elif letter == "[":
            end = pattern.find("]", at + 1)
            if end < 0:
                raise InvalidArgument(f"read --filter 'reference={pattern}': [ is not closed")
            out += _one_of(pattern[at:end], pattern)
            at = end + 1
        else:
            out += re.escape(letter)
    return re.compile(out)


def _one_of(inside: str, pattern: str) -> str:
    negated = inside.startswith("^")
    letters = re.sub(r"([\\\[^&~|]|(?<=-)-)", r"\\\1", inside[negated:])
    try:
        re.compile(f"[{letters}]")
    except re.error as error:
        raise InvalidArgument(f"read --filter 'reference={pattern}': [{inside}]: {error}") from None
    return f"(?!/)[{'^' if negated else ''}{letters}]"
