"""What each command does in each state, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from hythe.errors import Conflict, FailedPrecondition, Internal, NotFound
from hythe_runtime.agent import states
from hythe_runtime.agent.model import Epoch, Record, State, Tombstone
from hythe_runtime.agent.states import Step
from tests.unit.agent.records import intent

ALL_STATES: tuple[State, ...] = get_args(State)
ALL_STEPS: tuple[Step, ...] = get_args(Step)


def test_every_state_can_be_reached_and_every_step_is_used() -> None:
    """The table has no dead rows: each state is reached from nothing by allowed steps."""
    reached: set[State | None] = {None}
    while True:
        more = {to for (state, _), to in states.TRANSITIONS.items() if state in reached} - reached
        if not more:
            break
        reached |= more
    assert reached == {None, *ALL_STATES}
    assert {step for _, step in states.TRANSITIONS} == set(ALL_STEPS)


def test_removed_is_final() -> None:
    """Nothing follows a removal: ids never come back."""
    for step in ALL_STEPS:
        with pytest.raises(Internal):
            states.after("removed", step, "c")


@pytest.mark.parametrize("state", [s for s in ALL_STATES if s != "removed"])
def test_every_live_state_has_a_plan_for_stop_and_forced_remove(state: State) -> None:
    """`stop` and `rm -f` are answered in every state."""
    assert states.plan_stop(state)
    assert states.plan_remove(state, force=True, name="web")


def test_running_container_is_removed_only_by_force() -> None:
    """`rm` without force never kills."""
    with pytest.raises(FailedPrecondition, match="remove web: it is running"):
        states.plan_remove("running", force=False, name="web")


def test_signal_needs_a_process() -> None:
    """A signal to an ended container is an error that says its state."""
    with pytest.raises(FailedPrecondition, match="it is exited"):
        states.check_signalled("exited", "web")


def test_repeated_run_with_the_same_body_joins() -> None:
    """A retry of a request finds the container that the first one made."""
    asked = intent()
    record = Record(asked, "running", asked.epoch)
    again = replace(asked, created_at="later", trace_id="other")
    assert states.check_run(record, None, again.body_hash(), again.epoch, "web")
    assert not states.check_run(None, None, again.body_hash(), again.epoch, "web")


def test_run_with_another_body_is_a_conflict() -> None:
    """One id never means two containers."""
    asked = intent()
    other = replace(asked, spec={"args": ["false"]})
    with pytest.raises(Conflict):
        states.check_run(Record(asked, "running", asked.epoch), None, other.body_hash(), asked.epoch, "web")


def test_late_run_of_a_removed_container_is_refused() -> None:
    """A request that arrives after the removal does not bring the container back."""
    asked = intent()
    stone = Tombstone(asked.id, "default", asked.epoch, 1, "")
    with pytest.raises(FailedPrecondition, match="was removed here"):
        states.check_run(None, stone, asked.body_hash(), asked.epoch, "web")


def test_command_with_an_older_epoch_is_refused() -> None:
    """A command that was overtaken by a later one has no effect."""
    record = Record(intent(), "running", Epoch(2, 5))
    with pytest.raises(FailedPrecondition, match=r"epoch 1\.9 is older than 2\.5"):
        states.check_known(record, None, record.id, Epoch(1, 9))
    assert states.check_known(record, None, record.id, Epoch(2, 5)) is record


def test_command_to_an_unknown_container_says_whether_it_is_gone() -> None:
    """Removing what is gone is done; the caller can tell."""
    stone = Tombstone("c" * 32, "default", Epoch(1, 1), 1, "")
    with pytest.raises(NotFound, match="removed from this host") as caught:
        states.check_known(None, stone, stone.id, Epoch(1, 1))
    assert caught.value.outcome == "done"
    with pytest.raises(NotFound, match="does not know it"):
        states.check_known(None, None, stone.id, Epoch(1, 1))
