"""What all messages share: requests forbid unknown fields, replies ignore them, both are immutable."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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
