"""Frozen dataclasses to JSON and back, by their annotations."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Return `value` as what `json.dumps` takes; fields that have their default value are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: encode(item)
            for field in dataclasses.fields(value)
            if (item := getattr(value, field.name)) != field.default
        }
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def decode(cls: type[T], data: Mapping[str, Any]) -> T:
    """Return the `cls` that `encode` made `data` from; unknown keys are ignored, so that an older agent can read it.

    Raises:
        TypeError, ValueError: `data` lacks a field or does not have the field's shape.
    """
    hints = _hints(cls)  # type: ignore[arg-type]
    return cls(**{name: _convert(hint, data[name]) for name, hint in hints if name in data})


@functools.cache
def _hints(cls: type) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(cls))


def _convert(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type, hint), value)
    if typing.get_origin(hint) is tuple:
        return tuple(_convert(typing.get_args(hint)[0], item) for item in value)
    return value
