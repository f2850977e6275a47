"""What `--format` makes of a row: a field, a field or the whole row as JSON, and text around it, in Go's notation.

Of Go's templates these are understood, and nothing else: ``{{.Field}}``, ``{{.Field.Inner}}``, ``{{json .}}``,
``{{json .Field}}``, literal text, and ``\\t`` and ``\\n`` outside the braces. With ``table`` in front, columns are separated
by ``\\t`` and get a header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hythe.cli import output
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

SUPPORTED = r"supported are {{.Field}}, {{json .}}, {{json .Field}}, text, \t and \n"
_ACTION = re.compile(r"\s*(json\s+)?(\.|(?:\.[A-Za-z_][A-Za-z0-9_]*)+)\s*", re.ASCII)


class FreeMap(dict[str, "Any"]):
    """A map whose keys are data, such as labels: a key that is not in it is no mistake of the template's."""


class Part:
    """A piece of a template: literal text, or a field.

    Attributes:
        path: names of the field from the outside in; empty for the whole row.
        column: where it stands in the template, from 1; 0 for literal text.
    """

    __slots__ = ("as_json", "column", "literal", "path")

    def __init__(self, literal: str, path: Sequence[str] = (), column: int = 0, *, as_json: bool = False) -> None:
        self.literal = literal
        self.path = tuple(path)
        self.column = column
        self.as_json = as_json


class Template:
    """A parsed template.

    Attributes:
        table: it began with ``table``: rows are aligned and have a header.
    """

    __slots__ = ("_parts", "table")

    def __init__(self, parts: Sequence[Part], *, table: bool) -> None:
        self._parts = tuple(parts)
        self.table = table

    def render(self, row: Mapping[str, Any]) -> str:
        """Return what the template makes of `row`; values have their control characters escaped.

        Raises:
            InvalidArgument: a field is not in the row; the message names those that are.
        """
        return "".join(self._value(part, row) if part.column else part.literal for part in self._parts)

    def header(self, names: Mapping[str, str]) -> str:
        """Return the header line: the name of each field in `names`, in the place of the field.

        Raises:
            InvalidArgument: there is no such field.
        """
        for part in self._parts:
            _find(part, names)
        return "".join(names.get(".".join(part.path), "") if part.column else part.literal for part in self._parts)

    @staticmethod
    def _value(part: Part, row: Mapping[str, Any]) -> str:
        value = _find(part, row)
        if part.as_json:
            return output.json_text(None if value is _ABSENT else value)
        return output.visible(_text(value))


class _Absent:
    """A key that a `FreeMap` does not have."""


_ABSENT = _Absent()


def parse(text: str) -> Template:
    """Return the template that `text` spells.

    Raises:
        InvalidArgument: something in braces is not understood; the message says where.
    """
    table = re.match(r"table(?=\s|\\t|\{\{)(?:\s|\\t)*", text)
    at = table.end() if table else 0
    parts: list[Part] = []
    while at < len(text):
        start = text.find("{{", at)
        if start < 0:
            start = len(text)
        if start > at:
            parts.append(Part(text[at:start].replace(r"\t", "\t").replace(r"\n", "\n")))
        if start == len(text):
            break
        end = text.find("}}", start)
        if end < 0:
            raise _wrong(start, "{{ is not closed", SUPPORTED)
        parts.append(_action(text[start + 2 : end], start))
        at = end + 2
    return Template(parts, table=table is not None)


def _action(inside: str, start: int) -> Part:
    found = _ACTION.fullmatch(inside)
    if found is None or (found[2] == "." and not found[1]):
        raise _wrong(start, f"{{{{{inside[:60]}}}}} is not supported", SUPPORTED)
    return Part("", [name for name in found[2].split(".") if name], start + 1, as_json=bool(found[1]))


def _find(part: Part, row: Mapping[str, Any]) -> Any:
    value: Any = row
    for depth, name in enumerate(part.path):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, FreeMap) or (value is None and depth):
            return _ABSENT
        else:
            raise _no_field(part, depth, value)
    return value


def _no_field(part: Part, depth: int, value: Any) -> InvalidArgument:
    above = "".join(f".{name}" for name in part.path[:depth])
    known = ", ".join(f"{above}.{name}" for name in value) if isinstance(value, Mapping) else ""
    advice = f"fields are {known}" if known else f"write {{{{{above}}}}}: it has no fields inside"
    return _wrong(part.column - 1, f"there is no field {above}.{part.path[depth]}", advice)


def _wrong(at: int, what: str, advice: str) -> InvalidArgument:
    return InvalidArgument(f"read --format: column {at + 1}: {what}", next_step=advice)


def _text(value: Any) -> str:
    """Return a value as Go prints it."""
    if value is None:
        return "<nil>"
    if value is _ABSENT:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(_text, value))}]"
    return str(value)


def show(text: str, rows: Iterable[Mapping[str, Any]], headers: Mapping[str, str]) -> None:
    """Print each row as the template `text` says.

    Args:
        rows: fields by name.
        headers: each field that a row has, with its name at the head of a column.

    Raises:
        InvalidArgument: the template is not understood, or names a field that is not in `headers`.
    """
    template = parse(text)
    head = template.header(headers)
    if not template.table:
        for row in rows:
            print(template.render(row))
        return
    lines = [template.render(row).split("\t") for row in rows]
    columns = head.split("\t")
    output.table(columns, lines)


def show_objects(text: str, objects: Iterable[Mapping[str, Any]]) -> None:
    """Print each object, whose fields have fields of their own, as the template `text` says.

    Raises:
        InvalidArgument: the template is not understood, is one of a table, or names a field that an object has not.
    """
    template = parse(text)
    if template.table:
        raise InvalidArgument("read --format: objects make no table", next_step="leave `table` out")
    for found in objects:
        print(template.render(found))
