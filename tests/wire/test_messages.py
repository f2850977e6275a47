"""The messages on the bus: pinned by golden files, strict towards requests, lenient towards replies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from hythe.wire.base import Reply, Request, read_reply
from tests.wire.golden import DIRECTORY, example, golden, modules

MODULES = modules()
MODELS = [model for models in MODULES.values() for model in models]
REQUESTS = [model for model in MODELS if issubclass(model, Request)]
REPLIES = [model for model in MODELS if issubclass(model, Reply)]


def name_of(value: object) -> str:
    """Return the name of a message for the test's id."""
    return value.__name__ if isinstance(value, type) else str(value)


def with_unknown_fields(data: Any) -> Any:
    """Return `data` with a field more in every object that is a message."""
    if isinstance(data, dict):
        grown = {key: with_unknown_fields(value) for key, value in data.items()}
        return grown if data.keys() == {"key"} else {**grown, "from_the_future": 1}
    if isinstance(data, list):
        return [with_unknown_fields(value) for value in data]
    return data


@pytest.mark.parametrize("module", sorted(MODULES))
def test_messages_are_those_of_the_golden_files(module: str) -> None:
    """The protocol changes only on purpose."""
    expected = (DIRECTORY / f"{module}.json").read_text()
    assert golden(MODULES[module]) == expected, "on purpose? then `python -m tests.wire.golden`"


def test_every_golden_file_has_its_module() -> None:
    """No golden file outlives its messages."""
    assert sorted(path.stem for path in DIRECTORY.glob("*.json")) == sorted(MODULES)


def test_every_message_is_a_request_or_a_reply() -> None:
    """Each message follows one of the two rules for unknown fields."""
    assert set(REQUESTS) | set(REPLIES) == set(MODELS)
    assert not set(REQUESTS) & set(REPLIES)


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_message_comes_back_from_its_json(model: type[BaseModel]) -> None:
    """What is sent is what is read."""
    message = model.model_validate(example(model))
    assert model.model_validate_json(message.model_dump_json()) == message


@pytest.mark.parametrize("model", REQUESTS, ids=name_of)
def test_request_refuses_unknown_fields(model: type[BaseModel]) -> None:
    """A misspelt option never passes in silence."""
    with pytest.raises(ValidationError, match="from_the_future"):
        model.model_validate_json(json.dumps({**example(model), "from_the_future": 1}))


@pytest.mark.parametrize("model", REPLIES, ids=name_of)
def test_reply_ignores_unknown_fields_at_any_depth(model: type[BaseModel]) -> None:
    """An older reader understands a newer writer, also where a reply contains what requests contain."""
    data = example(model)
    assert read_reply(model, json.dumps(with_unknown_fields(data))) == model.model_validate(data)


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_message_is_immutable(model: type[BaseModel]) -> None:
    """Nobody changes a message that others hold."""
    message = model.model_validate(example(model))
    for field in model.model_fields:
        with pytest.raises(ValidationError):
            setattr(message, field, None)


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_field_names_are_lower_snake_case(model: type[BaseModel]) -> None:
    """All messages are spelt one way."""
    assert all(field == field.lower() and field.isidentifier() for field in model.model_fields)
