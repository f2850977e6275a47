"""Programs of the host that the runtime runs as a container comes and goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hythe.errors import InvalidArgument
from hythe_bundle.command import DEFAULT_PATH
from hythe_bundle.wishes import HookWish, Wishes

STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def make(wishes: Wishes, trace: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Return ``hooks``: by stage, each hook in the order of the request; empty without any.

    Each has the trace of the request in its environment, so that its own spans show below it, and a PATH.

    Args:
        trace: the trace context as headers: ``traceparent``, perhaps ``tracestate``.

    Raises:
        InvalidArgument: an unknown stage, a path that is not absolute, or a variable without a name.

    Spec: OCI runtime-spec, "POSIX-platform Hooks"; OpenTelemetry, "Environment Variables as Context Propagation Carriers".
    """
    made: dict[str, list[dict[str, Any]]] = {}
    for wish in wishes.hooks:
        if wish.stage not in STAGES:
            raise _refused(wish, f"there is no stage {wish.stage[:50]!r}")
        if not wish.path.startswith("/"):
            raise _refused(wish, "its path is not absolute")
        if any("\0" in text for text in (wish.path, *wish.args, *wish.env)):
            raise _refused(wish, "a part has a NUL character")
        hook: dict[str, Any] = {
            "path": wish.path,
            "args": list(wish.args) or [wish.path],
            "env": _environment(wish, trace),
        }
        if wish.timeout_s:
            hook["timeout"] = wish.timeout_s
        made.setdefault(wish.stage, []).append(hook)
    return made


def _environment(wish: HookWish, trace: Mapping[str, str]) -> list[str]:
    variables = {"PATH": DEFAULT_PATH} | {name.upper(): f"{name.upper()}={text}" for name, text in trace.items()}
    for entry in wish.env:
        name, equals, _ = entry.partition("=")
        if not name or not equals:
            raise _refused(wish, f"{entry[:100]!r} is no variable with a value")
        variables[name] = entry
    return list(variables.values())


def _refused(wish: HookWish, reason: str) -> InvalidArgument:
    return InvalidArgument(f"set hook {wish.path[:200]!r}: {reason}")
