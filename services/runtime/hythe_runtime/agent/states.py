"""The states of a container and every allowed step between them, in one table; and what a command does in each state.

The entries of the journal are the steps: `hythe_runtime.agent.entries` names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hythe.errors import Conflict, FailedPrecondition, Internal, NotFound
from hythe_runtime.agent.model import Epoch, Record, State, Tombstone

Step = Literal["asked", "prepared", "created", "started", "commanded", "ended", "removing", "removed"]

TRANSITIONS: Mapping[tuple[State | None, Step], State] = {
    (None, "asked"): "creating",
    ("creating", "prepared"): "creating",
    ("creating", "commanded"): "creating",
    ("creating", "created"): "created",
    ("creating", "removing"): "removing",
    ("created", "commanded"): "created",
    ("created", "started"): "running",
    ("created", "ended"): "exited",
    ("running", "commanded"): "running",
    ("running", "ended"): "exited",
    ("exited", "commanded"): "exited",
    ("exited", "removing"): "removing",
    ("removing", "commanded"): "removing",
    ("removing", "removed"): "removed",
}


def after(state: State | None, step: Step, container_id: str) -> State:
    """Return the state that `step` leads to.

    Raises:
        Internal: the table has no such step from `state`.
    """
    try:
        return TRANSITIONS[state, step]
    except KeyError:
        raise Internal(f"change container {container_id}: {step!r} cannot follow state {state!r}") from None


StopPlan = Literal["abort", "signal", "answer"]
RemovePlan = Literal["abort", "kill", "remove", "follow"]

_STOP: Mapping[State, StopPlan] = {
    "creating": "abort",
    "created": "abort",
    "running": "signal",
    "exited": "answer",
    "removing": "answer",
}
_REMOVE: Mapping[State, RemovePlan] = {
    "creating": "abort",
    "created": "abort",
    "running": "kill",
    "exited": "remove",
    "removing": "follow",
}


def plan_stop(state: State) -> StopPlan:
    """Return what stopping does in `state`: undo what has not started, signal what runs, or answer at once."""
    return _STOP[state]


def plan_remove(state: State, *, force: bool, name: str) -> RemovePlan:
    """Return what removing does in `state`.

    Raises:
        FailedPrecondition: it has not ended, and `force` is not set.
    """
    plan = _REMOVE[state]
    if plan in ("abort", "kill") and not force:
        raise FailedPrecondition(f"remove {name}: it is {state}", next_step="stop it first, or force the removal")
    return plan


def check_signalled(state: State, name: str) -> None:
    """Tell whether a signal can be delivered in `state`.

    Raises:
        FailedPrecondition: nothing runs.
    """
    if state not in ("created", "running"):
        raise FailedPrecondition(f"signal {name}: it is {state}")


def check_run(record: Record | None, tombstone: Tombstone | None, body_hash: str, epoch: Epoch, name: str) -> bool:
    """Tell whether a request to run joins a container that is here (True) or makes a new one (False).

    Raises:
        Conflict: the id was used for another request.
        FailedPrecondition: the container was removed here; its id never comes back.
    """
    if tombstone is not None:
        raise FailedPrecondition(f"run {name}: this id was removed here: {tombstone.reason or 'removed'}")
    if record is None:
        return False
    if record.intent.body_hash() != body_hash:
        raise Conflict(f"run {name}: container {record.id} was asked for with another body")
    check_epoch(record.epoch, epoch, name)
    return True


def check_epoch(seen: Epoch, given: Epoch, name: str) -> None:
    """Refuse a command that was overtaken (ARCHITECTURE §6).

    Raises:
        FailedPrecondition: `given` is lower than the highest epoch seen.
    """
    if given < seen:
        raise FailedPrecondition(
            f"command {name}: epoch {given.era}.{given.revision} is older than {seen.era}.{seen.revision}, seen before"
        )


def check_known(record: Record | None, tombstone: Tombstone | None, container_id: str, epoch: Epoch | None) -> Record:
    """Return the record that a command is for.

    Raises:
        NotFound: there is none; the outcome is "done" where it was removed here.
        FailedPrecondition: the command was overtaken by a later one.
    """
    if record is None:
        if tombstone is not None:
            raise NotFound(f"find container {container_id}: it was removed from this host", outcome="done")
        raise NotFound(f"find container {container_id}: this host does not know it", outcome="done")
    if epoch is not None:
        check_epoch(record.epoch, epoch, record.intent.name)
    return record
