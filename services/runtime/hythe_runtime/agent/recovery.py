"""What an agent does with what the one before it left: a plan for each container, made from what is seen (ARCHITECTURE §6).

The plan is a pure function. A container is never started again here, and nothing that lives is ended only because no
entry speaks of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hythe_runtime.agent.model import Record

REBOOTED = "the host was rebooted, exit code unknown"
NEVER_STARTED = "the agent ended before the container was started"

Action = Literal["watch", "started", "ended", "rebooted", "undo", "settle", "keep"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there of one container.

    Attributes:
        same_boot: the host was not rebooted since the container's latest step.
        run_directory: its run directory is there.
        monitored: its conmon lives.
        has_exit_file: conmon wrote an exit code.
        runtime_state: runc's word for its state, empty if runc does not know it.
    """

    same_boot: bool
    run_directory: bool
    monitored: bool
    has_exit_file: bool
    runtime_state: str


def plan(record: Record, seen: Seen) -> Action:
    """Return what to do with a container of the journal.

    ``watch`` it on; note that it was ``started`` and watch it; note that it has ``ended`` as its exit file says, or is
    ``rebooted``; ``undo`` what was begun; ``settle`` what an ended one has left; ``keep`` it as it is.
    """
    if record.state == "exited":
        return "settle" if seen.run_directory or record.intent.auto_remove else "keep"
    if record.state == "removing":
        return "settle"
    if record.state == "running":
        if not seen.same_boot:
            return "rebooted"
        return "watch" if seen.monitored else "ended"
    if seen.same_boot and seen.monitored and seen.runtime_state == "running":
        return "started"
    if seen.same_boot and not seen.monitored and seen.has_exit_file:
        return "ended"
    return "undo"
