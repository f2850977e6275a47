"""What all messages share: requests forbid unknown fields, replies ignore them, both are immutable."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

ModelT = TypeVar("ModelT", bound=BaseModel)

ContainerId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
DigestText = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Request(BaseModel):
    """A message that asks; unknown fields are refused, so that a misspelt option never passes in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Reply(BaseModel):
    """A message that answers or reports; unknown fields are ignored, so that an older reader understands a newer one."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class Empty(Reply):
    """An answer that says only: done."""


def read_reply(model: type[ModelT], data: bytes | str) -> ModelT:
    """Return the reply that `data` spells, ignoring unknown fields at any depth.

    Parts that replies share with requests, such as a container's spec, would refuse them by themselves.

    Raises:
        pydantic.ValidationError: it is no such reply.
    """
    return model.model_validate_json(data, extra="ignore")
