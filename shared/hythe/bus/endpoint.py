"""What a service answers: its endpoints, the context of a request, and the figures kept for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from hythe.asking import NOBODY, Asker

Scope = Literal["any", "host"]
Abandoned = Literal["cancel", "continue"]
Progress = Callable[[BaseModel], None]


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks what: the namespace and, on ``rpc`` subjects, the caller's key name (fixed by its permission).

    Attributes:
        asker: who asked first, where the caller is a service that asks for somebody else; for events, never for policy.
    """

    namespace: str
    caller: str
    request_id: str
    subject: str
    asker: Asker = NOBODY


@dataclass(slots=True)
class Figures:
    """Counts of one endpoint since the start, as NATS micro's STATS reports them; times in nanoseconds."""

    requests: int = 0
    errors: int = 0
    last_error: str = ""
    processing_ns: int = 0

    def note(self, code: str, elapsed_s: float) -> None:
        """Count one request that was answered with `code` after `elapsed_s` seconds."""
        self.requests += 1
        self.processing_ns += int(elapsed_s * 1e9)
        if code != "ok":
            self.errors += 1
            self.last_error = code


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One noun and verb of a service.

    Attributes:
        abandoned: what becomes of an operation when nobody follows it any more.
    """

    service: str
    noun: str
    verb: str
    scope: Scope
    request_type: type[BaseModel]
    unary: Callable[[Context, Any], Awaitable[BaseModel]] | None = None
    operation: Callable[[Context, Any, Progress], Awaitable[BaseModel]] | None = None
    abandoned: Abandoned = "continue"
    figures: Figures = field(default_factory=Figures)

    @property
    def kind(self) -> str:
        """``service.noun.verb``, the name of its spans and figures."""
        return f"{self.service}.{self.noun}.{self.verb}"
