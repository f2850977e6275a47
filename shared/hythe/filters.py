"""containerd's filter language: which of many things somebody asks for.

::

    filter    = selector ("," selector)*                  all of them must hold; the empty filter holds for all
    selector  = fieldpath | fieldpath operator value      a fieldpath alone: the field is there
    fieldpath = field ("." field)*
    field     = quoted | [A-Za-z0-9_]+
    operator  = "==" | "!=" | "~="                        the last is a regular expression, see `hythe.patterns`
    value     = quoted | [^\\s,]+                          after ~= also /…/ or |…|
    quoted    = text in double quotes, with Go's escapes  in /…/ and |…| an escape that Go doesn't have is the pattern's

Spec: containerd, package ``pkg/filters``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hythe.errors import InvalidArgument
from hythe.patterns import Pattern

MAX_FILTER_LENGTH = 4096
MAX_FILTERS = 64

Field = Callable[[tuple[str, ...]], tuple[str, bool]]
"""Gives a thing's value at a fieldpath, and whether it has one there."""

_SPACE = re.compile(r"\s*")
_FIELD = re.compile(r"[A-Za-z0-9_]+")
_OPERATOR = re.compile(r"[=!~]+")
_VALUE = re.compile(r'[^\s,"/|][^\s,]*')
_QUOTED = {quote: re.compile(rf"{re.escape(quote)}((?:[^\\{quote}]|\\.)*){re.escape(quote)}", re.S) for quote in '"/|'}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-3][0-7]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.S)
_CONTROLS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class _Selector:
    path: tuple[str, ...]
    operator: str
    value: str
    pattern: Pattern | None

    def holds(self, field: Field) -> bool:
        value, present = field(self.path)
        if self.pattern is not None:
            return present and self.pattern.search(value)
        if self.operator == "==":
            return present and value == self.value
        if self.operator == "!=":
            return value != self.value
        return present


@dataclass(frozen=True, slots=True)
class Filter:
    """Several filters, one of which must hold; none at all holds for everything."""

    _any_of: tuple[tuple[_Selector, ...], ...]

    def matches(self, field: Field) -> bool:
        """Tell whether the thing with these fields is asked for."""
        return not self._any_of or any(all(s.holds(field) for s in selectors) for selectors in self._any_of)


def parse_filters(filters: Sequence[str]) -> Filter:
    """Return what `filters` ask for together: whatever one of them matches.

    Raises:
        InvalidArgument: one cannot be read, its pattern is none, or there are more or longer ones than the limits
            (64 of 4096 characters) allow; the message has the position.
    """
    if len(filters) > MAX_FILTERS:
        raise InvalidArgument(f"parse filters: {len(filters)} are more than {MAX_FILTERS}")
    return Filter(tuple(_Parser(text).filter() for text in filters))


def fields_of(values: dict[str, str], labels: Callable[[str], str | None]) -> Field:
    """Return the fields of a thing that has plain values and labels.

    Args:
        values: fields of one name.
        labels: gives the label of a key or None; asked for ``labels.<key>``, where dots belong to the key.
    """

    def field(path: tuple[str, ...]) -> tuple[str, bool]:
        if path[0] == "labels" and len(path) > 1:
            found = labels(".".join(path[1:]))
        else:
            found = values.get(path[0]) if len(path) == 1 else None
        return found or "", found is not None

    return field


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > MAX_FILTER_LENGTH:
            raise InvalidArgument(f"parse filter: longer than {MAX_FILTER_LENGTH} characters")
        self._text = text
        self._position = 0

    def filter(self) -> tuple[_Selector, ...]:
        self._skip_space()
        if self._at_end():
            return ()
        selectors = [self._selector()]
        while not self._at_end():
            self._expect(",")
            selectors.append(self._selector())
        return tuple(selectors)

    def _selector(self) -> _Selector:
        path = [self._field()]
        while self._peek() == ".":
            self._expect(".")
            path.append(self._field())
        if self._at_end() or self._peek() == ",":
            return _Selector(tuple(path), "", "", None)
        start = self._position
        operator = self._match(_OPERATOR)
        if operator not in ("==", "!=", "~="):
            self._position = start
            raise self._wrong("expected one of == != ~=")
        start = self._position
        value = self._value(alternative_quotes=operator == "~=")
        return _Selector(tuple(path), operator, value, self._pattern(value, start) if operator == "~=" else None)

    def _field(self) -> str:
        if self._peek() == '"':
            return self._quoted()
        field = self._match(_FIELD)
        if field is None:
            raise self._wrong("expected a field")
        return field

    def _value(self, *, alternative_quotes: bool) -> str:
        quote = self._peek()
        if quote == '"' or (alternative_quotes and quote in ("/", "|")):
            return self._quoted()
        if quote in ("/", "|"):
            raise self._wrong(f"a value that begins with {quote} must stand in double quotes")
        value = self._match(_VALUE)
        if value is None:
            raise self._wrong("expected a value")
        return value

    def _pattern(self, value: str, start: int) -> Pattern:
        try:
            return Pattern(value)
        except InvalidArgument as error:
            raise InvalidArgument(f"parse filter {self._text!r}: position {start}: {error.message}") from error

    def _quoted(self) -> str:
        start, quote = self._position, self._peek()
        found = _QUOTED[quote].match(self._text, start)
        if found is None:
            raise self._wrong(f"the closing {quote} is missing")

        def spelled(match: re.Match[str]) -> str:
            hexadecimal, octal, short, long, other = match.groups()
            if other == quote or other in _CONTROLS:
                return _CONTROLS.get(other, other)
            if other is not None and quote != '"':
                return match[0]
            code = int(octal, 8) if octal else int(hexadecimal or short or long or "110000", 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise self._wrong(f"{match[0]} stands for no character")
            return chr(code)

        value = _ESCAPE.sub(spelled, found[1])
        self._position = found.end()
        self._skip_space()
        return value

    def _match(self, what: re.Pattern[str]) -> str | None:
        found = what.match(self._text, self._position)
        if found is None:
            return None
        self._position = found.end()
        self._skip_space()
        return found[0]

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise self._wrong(f"expected {character}")
        self._position += 1
        self._skip_space()

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._position)
        self._position = space.end() if space else self._position

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    def _at_end(self) -> bool:
        return self._position >= len(self._text)

    def _wrong(self, what: str) -> InvalidArgument:
        return InvalidArgument(f"parse filter {self._text!r}: position {self._position}: {what}")
