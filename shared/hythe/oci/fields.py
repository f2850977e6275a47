"""Reading JSON that a stranger wrote: each field is checked for its type, and an error names the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn

from hythe.errors import InvalidArgument

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
MAX_ITEMS = 10_000


def load_object(raw: bytes, what: str) -> Fields:
    """Return the JSON object that `raw` spells.

    Args:
        raw: at most 4 MiB of UTF-8.
        what: name of the document for error messages.

    Raises:
        InvalidArgument: too large, not UTF-8, not JSON, nested too deeply, not an object, or ambiguous: a key that
            stands twice or a half surrogate means different things to different readers.
    """
    value = _load(raw, what)
    if not isinstance(value, dict):
        raise InvalidArgument(f"parse {what}: expected a JSON object")
    return Fields(value, what)


def load_objects(raw: bytes, what: str) -> tuple[Fields, ...]:
    """Return the JSON objects of the list that `raw` spells, at most 10,000.

    Raises:
        InvalidArgument: as for `load_object`; it is no list, or something in it is no object.
    """
    return Fields({what: _load(raw, what)}, what).children(what)


def _load(raw: bytes, what: str) -> object:
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise InvalidArgument(f"parse {what}: {len(raw)} bytes, more than {MAX_DOCUMENT_BYTES}")
    try:
        value: object = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise InvalidArgument(f"parse {what}: not UTF-8", cause=str(error)) from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"parse {what}: not JSON", cause=str(error)[:200]) from None
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


class Fields:
    """One JSON object. Each getter returns the field or, where it is absent or null, an empty value.

    All raise InvalidArgument, naming the field, when it has another type than asked for.
    """

    __slots__ = ("_value", "_what")

    def __init__(self, value: Mapping[str, object], what: str) -> None:
        self._value = value
        self._what = what

    @property
    def value(self) -> Mapping[str, object]:
        """The object itself."""
        return self._value

    def has(self, name: str) -> bool:
        """Tell whether a key is there in any mix of cases: Go's readers take ``Layers`` for ``layers``."""
        return any(key.lower() == name for key in self._value)

    def refuse(self, name: str, reason: str) -> InvalidArgument:
        """Return the error that says what is wrong with field `name`."""
        return InvalidArgument(f"parse {self._what}: {name} {reason}")

    def text(self, name: str) -> str:
        """Return a string without NUL."""
        value = self._value.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.refuse(name, "is not text")
        return self._clean(name, value)

    def number(self, name: str, most: int) -> int:
        """Return a whole number from 0 to `most`; it must be there."""
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refuse(name, "is not a whole number")
        if not 0 <= value <= most:
            raise self.refuse(name, f"is {str(value)[:30]}, not from 0 to {most}")
        return value

    def flag(self, name: str) -> bool:
        """Return a truth value; false where it is absent."""
        value = self._value.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.refuse(name, "is not true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings without NUL."""
        items = self._list(name)
        if not all(isinstance(item, str) for item in items):
            raise self.refuse(name, "is not a list of texts")
        return tuple(self._clean(name, str(item)) for item in items)

    def mapping(self, name: str) -> dict[str, str]:
        """Return a map from string to string."""
        value = self._object(name)
        if not all(isinstance(item, str) for item in value.values()):
            raise self.refuse(name, "is not a map of texts")
        return {self._clean(name, key): self._clean(name, str(item)) for key, item in value.items()}

    def keys(self, name: str) -> tuple[str, ...]:
        """Return the keys of a map, the form in which image configs write sets."""
        return tuple(self._clean(name, key) for key in self._object(name))

    def child(self, name: str) -> Fields:
        """Return a nested object."""
        return Fields(self._object(name), f"{self._what}: {name}")

    def children(self, name: str) -> tuple[Fields, ...]:
        """Return a list of nested objects."""
        items = self._list(name)
        result = []
        for i, item in enumerate(items):
            if not isinstance(item, dict):
                raise self.refuse(f"{name}[{i}]", "is not an object")
            result.append(Fields(item, f"{self._what}: {name}[{i}]"))
        return tuple(result)

    def _clean(self, name: str, value: str) -> str:
        if "\0" in value:
            raise self.refuse(name, "has a NUL character")
        return value

    def _list(self, name: str) -> list[object]:
        value = self._value.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.refuse(name, "is not a list")
        if len(value) > MAX_ITEMS:
            raise self.refuse(name, f"has more than {MAX_ITEMS} items")
        return value

    def _object(self, name: str) -> dict[str, object]:
        value = self._value.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.refuse(name, "is not an object")
        if len(value) > MAX_ITEMS:
            raise self.refuse(name, f"has more than {MAX_ITEMS} items")
        return value
