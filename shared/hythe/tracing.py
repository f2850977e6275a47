"""The tracing port: spans as domain code sees them, without any telemetry library.

`hythe.telemetry` installs the OpenTelemetry backend at process start; without one, spans cost next to nothing.
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Literal, Protocol

from hythe.durable import SyncCount, current_syncs

Kind = Literal["internal", "client", "server", "producer", "consumer"]
Value = str | int | float | bool


class Span(Protocol):
    """A span in progress."""

    def set(self, key: str, value: Value) -> None:
        """Set one attribute."""

    def event(self, name: str, **attributes: Value) -> None:
        """Note that something happened now."""

    def fail(self, message: str) -> None:
        """Mark the span as failed."""


class Backend(Protocol):
    """What makes, ends and carries spans."""

    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], parent: Mapping[str, str] | None
    ) -> AbstractContextManager[Span]:
        """Run a block as a span, below the span in progress or the one that the headers `parent` carry."""

    def inject(self, headers: dict[str, str]) -> None:
        """Add ``traceparent`` (and ``tracestate``) of the span in progress to `headers`."""

    def trace_id(self) -> str:
        """Return the id of the trace in progress as 32 hex digits, or an empty string."""


class _NoSpan:
    def set(self, key: str, value: Value) -> None:
        pass

    def event(self, name: str, **attributes: Value) -> None:
        pass

    def fail(self, message: str) -> None:
        pass


class _NoBackend:
    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], parent: Mapping[str, str] | None
    ) -> AbstractContextManager[Span]:
        return nullcontext(_NoSpan())

    def inject(self, headers: dict[str, str]) -> None:
        pass

    def trace_id(self) -> str:
        return ""


_backend: Backend = _NoBackend()
namespace: contextvars.ContextVar[str] = contextvars.ContextVar("hythe_namespace", default="")


def install(backend: Backend) -> None:
    """Make `backend` carry all spans of this process from now on."""
    global _backend
    _backend = backend


class _Block:
    """A span as a block, with the count of fsyncs that are done inside; a class, for generators cost twice as much."""

    __slots__ = ("_inner", "_span", "_syncs", "_token")

    def __init__(self, inner: AbstractContextManager[Span]) -> None:
        self._inner = inner
        self._syncs = SyncCount()

    def __enter__(self) -> Span:
        self._token = current_syncs.set(self._syncs)
        self._span = self._inner.__enter__()
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._syncs.count:
                self._span.set("hythe.fsyncs", self._syncs.count)
            self._inner.__exit__(kind, error, traceback)
        finally:
            current_syncs.reset(self._token)


def span(
    name: str, *, kind: Kind = "internal", parent: Mapping[str, str] | None = None, **attributes: Value
) -> AbstractContextManager[Span]:
    """Run a block as a span; an exception marks it failed. Fsyncs done inside are counted on it (``hythe.fsyncs``).

    Attribute names are given with ``__`` for ``.``: ``span("mount", container__id=…)`` sets ``container.id``.
    """
    return _Block(_backend.span(name, kind, {k.replace("__", "."): v for k, v in attributes.items()}, parent))


def inject(headers: dict[str, str]) -> None:
    """Add the context of the span in progress to message headers."""
    _backend.inject(headers)


def trace_id() -> str:
    """Return the id of the trace in progress, or an empty string."""
    return _backend.trace_id()
