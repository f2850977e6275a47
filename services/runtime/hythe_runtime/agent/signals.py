"""Signal names and numbers as users give them."""

from __future__ import annotations

import re
import signal

from hythe.errors import InvalidArgument

SIGKILL = int(signal.SIGKILL)
SIGTERM = int(signal.SIGTERM)
ENDING = frozenset(map(int, (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)))
"""The signals that are sent to have a process end; some processes take others for another meaning."""
_REALTIME = re.compile(r"RT(MIN|MAX)([+-]\d+)?")


def signal_number(text: str) -> int:
    """Return the number of a signal given as ``15``, ``TERM``, ``SIGTERM`` or ``SIGRTMIN+3``; case does not matter.

    Raises:
        InvalidArgument: there is no such signal.
    """
    name = text.strip().upper().removeprefix("SIG")
    if name.isascii() and name.isdigit() and 0 < int(name) < signal.NSIG:
        return int(name)
    realtime = _REALTIME.fullmatch(name)
    if realtime:
        number = (signal.SIGRTMIN if realtime[1] == "MIN" else signal.SIGRTMAX) + int(realtime[2] or 0)
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return int(number)
    elif f"SIG{name}" in signal.Signals.__members__:
        return int(signal.Signals[f"SIG{name}"])
    raise InvalidArgument(f"check signal {text!r}: there is none of that name or number")
