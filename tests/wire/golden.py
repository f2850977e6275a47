"""Golden files of the protocol: for each message its JSON schema and one example of it on the wire.

A change here is a change of the protocol. ``python -m tests.wire.golden`` writes the files anew; look at the difference.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import hythe.wire
from hythe.wire.base import Reply, Request

DIRECTORY = Path(__file__).parent / "golden"
_BASES = (BaseModel, Request, Reply)


def modules() -> dict[str, list[type[BaseModel]]]:
    """Return the messages that each module of `hythe.wire` defines, by name."""
    found: dict[str, list[type[BaseModel]]] = {}
    for info in pkgutil.iter_modules(hythe.wire.__path__):
        module = importlib.import_module(f"hythe.wire.{info.name}")
        models = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, BaseModel)
            and value not in _BASES
            and value.__module__ == module.__name__
        ]
        if models:
            found[info.name] = sorted(models, key=lambda model: model.__name__)
    return found


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a message without its prose."""
    bare: dict[str, Any] = _without_prose(model.model_json_schema())
    return bare


def _without_prose(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_prose(value)
            for key, value in node.items()
            if not (key in ("title", "description") and isinstance(value, str))
        }
    if isinstance(node, list):
        return [_without_prose(value) for value in node]
    return node


def example(model: type[BaseModel]) -> dict[str, Any]:
    """Return a message with a value in every field, as JSON data."""
    whole = schema(model)
    made: dict[str, Any] = _value(whole, whole.get("$defs", {}))
    return made


def _value(node: dict[str, Any], definitions: dict[str, Any]) -> Any:
    if "$ref" in node:
        return _value(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in node:
        return _value(next(choice for choice in node["anyOf"] if choice.get("type") != "null"), definitions)
    if "enum" in node:
        return node["enum"][0]
    if "const" in node:
        return node["const"]
    kind = node["type"]
    if kind == "object":
        if "properties" in node:
            return {name: _value(part, definitions) for name, part in node["properties"].items()}
        values = node.get("additionalProperties")
        return {"key": "value" if values in (None, True, {"type": "string"}) else _value(values, definitions)}
    if kind == "array":
        return [_value(node["items"], definitions)]
    if kind == "string":
        pattern = re.compile(node.get("pattern", ""))
        return next(text for text in ("text", "0" * 32, f"sha256:{'0' * 64}", "content") if pattern.search(text))
    if kind == "boolean":
        return True
    least = node.get("minimum", node.get("exclusiveMinimum", 0) + 1)
    return max(least, 1) if kind == "integer" else max(least, 1) + 0.5


def golden(models: list[type[BaseModel]]) -> str:
    """Return the text of the golden file of one module."""
    content = {
        model.__name__: {
            "kind": "request" if issubclass(model, Request) else "reply",
            "example": json.loads(model.model_validate(example(model)).model_dump_json()),
            "schema": schema(model),
        }
        for model in models
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def main() -> None:
    """Write all golden files."""
    DIRECTORY.mkdir(exist_ok=True)
    present = modules()
    for path in DIRECTORY.glob("*.json"):
        if path.stem not in present:
            path.unlink()
    for name, models in present.items():
        (DIRECTORY / f"{name}.json").write_text(golden(models))


if __name__ == "__main__":
    main()
