"""Named places where a test can make a process fail: ``HYTHE_FAILPOINTS="name=action;name=2*off->kill"``.

Syntax as containerd's ``pkg/failpoint``: terms ``[count*]action[(argument)]`` joined by ``->``. Actions: ``off``,
``kill`` (SIGKILL of this process), ``error(text)``, ``delay(milliseconds)``. Without the variable a failpoint is one
dictionary lookup.
"""

from __future__ import annotations

import os
import re
import signal
import time

from hythe.errors import Internal, InvalidArgument

_TERM = re.compile(r"(?:(\d+)\*)?(off|kill|error|delay)(?:\(([^)]*)\))?")


def _parse(text: str) -> dict[str, list[list[object]]]:
    points: dict[str, list[list[object]]] = {}
    for item in filter(None, text.split(";")):
        name, _, terms = item.partition("=")
        parsed: list[list[object]] = []
        for term in terms.split("->"):
            match = _TERM.fullmatch(term.strip())
            if match is None:
                raise InvalidArgument(f"parse HYTHE_FAILPOINTS: {term!r} is no [count*]action[(argument)]")
            parsed.append([int(match[1]) if match[1] else -1, match[2], match[3] or ""])
        points[name.strip()] = parsed
    return points


_points = _parse(os.environ.get("HYTHE_FAILPOINTS", ""))


def reach(name: str) -> None:
    """Do what the environment says for failpoint `name`; nothing by default."""
    terms = _points.get(name)
    if not terms:
        return
    for term in terms:
        if term[0] == 0:
            continue
        if isinstance(term[0], int) and term[0] > 0:
            term[0] -= 1
        _act(name, str(term[1]), str(term[2]))
        return


def _act(name: str, action: str, argument: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "error":
        raise Internal(f"failpoint {name}: {argument or 'error'}")
    elif action == "delay":
        time.sleep(int(argument or 0) / 1000)
