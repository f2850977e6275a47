"""How an error looks on the terminal: what failed, why, what is known about its effect, what to do next."""

from __future__ import annotations

from hythe.cli.output import visible
from hythe.errors import HytheError, InvalidArgument, NotFound

_SHORT = 12


def render(error: HytheError, elapsed_s: float, trace_id: str) -> str:
    """Return the lines for stderr; control characters are shown, not obeyed: a registry or an image may have put them there.

    Args:
        elapsed_s: seconds since the command began.
        trace_id: the trace that shows it, empty where none was stored.
    """
    facts = [f"on {error.host}"] if error.host and error.host not in error.message else []
    facts += [f'in phase "{error.phase}"'] if error.phase else []
    lines = [visible(f"error: {error.message} ({', '.join([*facts, f'after {elapsed_s:.2f} s'])})")]
    if error.cause:
        first, *rest = error.cause.strip().splitlines() or [""]
        lines.append(f"  cause: {visible(first)}")
        lines += [f"         {visible(line)}" for line in rest]
    known = "outcome unknown" if error.outcome == "unknown" else f"outcome known: {error.outcome}"
    lines.append(f"  tried: once; {known}")
    next_step = error.next_step or _next_step(error, trace_id)
    trace = f"     trace: {trace_id[:_SHORT]}  (hythe trace show {trace_id[:_SHORT]})" if trace_id else ""
    lines.append(f"  next:  {visible(next_step)}{trace}")
    return "\n".join(lines)


def _next_step(error: HytheError, trace_id: str) -> str:
    """Return what to do about an error that doesn't say so itself."""
    if isinstance(error, InvalidArgument):
        return "correct the value and try again; `hythe COMMAND --help` and `hythe config` say what is allowed"
    if isinstance(error, NotFound):
        return "correct the name and try again"
    return "the trace shows each step" if trace_id else "`hythe doctor` looks for what is wrong"
