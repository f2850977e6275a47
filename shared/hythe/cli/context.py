"""What every command gets: settings, its arguments, the bus when it needs one, and its own spans."""

from __future__ import annotations

import os

from hythe import subjects
from hythe.errors import HytheError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from hythe.client.root_span import CommandTrace
    from hythe.client.sync_bus import SyncBus
    from hythe.settings import Settings


class Context:
    """One command in progress.

    Attributes:
        args: the command's own arguments, parsed.
    """

    def __init__(
        self, name: str, settings: Settings, args: argparse.Namespace, start_ns: int, *, traced: bool = False
    ) -> None:
        self.name = name
        self.settings = settings
        self.args = args
        self._start_ns = start_ns
        self._traced = traced
        self._bus: SyncBus | None = None
        self._trace: CommandTrace | None = None

    @property
    def as_json(self) -> bool:
        """Tell whether the result is written as JSON Lines."""
        return bool(self.args.format == "json")

    @property
    def namespace(self) -> str:
        """The namespace that the command works in."""
        return self.settings.namespace

    @property
    def trace(self) -> CommandTrace | None:
        """The command's spans; None for commands that are not traced."""
        if self._traced and self._trace is None:
            from hythe.client.root_span import CommandTrace

            self._trace = CommandTrace(f"hythe {self.name}", os.environ, self._start_ns)
        return self._trace

    def note(self, **attributes: str | int | float | bool) -> None:
        """Set attributes of the command's span; ``__`` in a name stands for ``.``."""
        if self.trace is not None:
            self.trace.root.attributes.update({key.replace("__", "."): value for key, value in attributes.items()})

    @property
    def bus(self) -> SyncBus:
        """The connection to the bus, made at first use."""
        if self._bus is None:
            from hythe.client.sync_bus import open_bus  # commands without the bus start faster

            self._bus = open_bus(self.settings, self.trace)
        return self._bus

    def subject(self, service: str, noun: str, verb: str) -> str:
        """Return the subject of a request to `service` in the command's namespace."""
        return subjects.rpc(self.namespace, self.bus.key_name, service, noun, verb)

    def operate(self, service: str, noun: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        """Follow an operation that tells nothing on its way to its end, and return its result.

        Raises:
            HytheError: what the service said, or that it does not answer.
        """
        return self.follow(self.subject(service, noun, verb), body)

    def follow(
        self, subject: str, body: dict[str, Any], told: Callable[[dict[str, Any]], object] = lambda payload: None
    ) -> dict[str, Any]:
        """Follow an operation to its end, and return its result; `told` is told what it tells on its way.

        Raises:
            HytheError: what the service said, or that it does not answer.
        """
        result: dict[str, Any] = {}
        for state, payload in self.bus.operate(subject, body):
            if state == "done":
                result = payload
            else:
                told(payload)
        return result

    def finish(self, error: HytheError | None, code: int) -> str:
        """Send the command's spans, once; return the trace id if there is a trace to look at, else an empty string."""
        if self._bus is None or self._trace is None or not self._trace.sampled:
            return ""
        if self._trace.root.end_ns:
            return self._trace.trace_id
        self.note(hythe__exit_code=code)
        if error is not None:
            self._trace.root.fail(error.whole)
        message = self._trace.message(self.settings.host)
        if self.settings.otlp_endpoint:
            from hythe.client.otlp import export

            export(self.settings.otlp_endpoint, message)
        try:
            self._bus.publish(subjects.span(self.namespace, self._trace.trace_id, root=True), message)
            self._bus.flush(0.3)
        except HytheError:
            return ""  # a trace that cannot be sent never fails a command
        return self._trace.trace_id

    def close(self) -> None:
        """End the connection."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None
