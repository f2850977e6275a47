"""Where a span hangs: the context that travels in message headers and in a caller's environment.

Spec: W3C Trace Context, "traceparent Header".
"""

from __future__ import annotations

_HEX = frozenset("0123456789abcdef")


def parse_traceparent(text: str) -> tuple[str, str, bool] | None:
    """Return (trace id, span id, sampled) of a ``traceparent``, or None where it names no span."""
    parts = text.strip().split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return None
    version, trace_id, span_id, flags = parts[:4]
    if not _HEX.issuperset("".join(parts[:4])) or version == "ff" or (version == "00" and len(parts) > 4):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return trace_id, span_id, bool(int(flags, 16) & 1)


def format_traceparent(trace_id: str, span_id: str, sampled: bool) -> str:
    """Return the ``traceparent`` that makes a span the parent of what its receiver does."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"
