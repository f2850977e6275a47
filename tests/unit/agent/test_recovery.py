"""What an agent decides about the containers of the one before it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hythe_runtime.agent.model import Record, State
from hythe_runtime.agent.recovery import Action, Seen, plan
from tests.unit.agent.records import intent

ALL_WELL = Seen(True, True, True, False, "running")
DEAD = Seen(True, True, False, False, "")
ENDED = Seen(True, True, False, True, "stopped")
REBOOTED = Seen(False, False, False, False, "")


@pytest.mark.parametrize(
    ("state", "seen", "action"),
    [
        ("running", ALL_WELL, "watch"),
        ("running", replace(ALL_WELL, runtime_state=""), "watch"),
        ("running", ENDED, "ended"),
        ("running", DEAD, "ended"),
        ("running", replace(DEAD, run_directory=False), "ended"),
        ("running", REBOOTED, "rebooted"),
        ("created", ALL_WELL, "started"),
        ("creating", ALL_WELL, "started"),
        ("created", replace(ALL_WELL, runtime_state="created"), "undo"),
        ("creating", replace(ALL_WELL, runtime_state=""), "undo"),
        ("creating", DEAD, "undo"),
        ("created", DEAD, "undo"),
        ("creating", ENDED, "ended"),
        ("created", ENDED, "ended"),
        ("created", REBOOTED, "undo"),
        ("creating", replace(DEAD, run_directory=False), "undo"),
        ("exited", ENDED, "settle"),
        ("exited", replace(ENDED, run_directory=False), "keep"),
        ("removing", replace(ENDED, run_directory=False), "settle"),
    ],
)
def test_plan_follows_from_what_is_seen(state: State, seen: Seen, action: Action) -> None:
    """A started container is never undone, one that was not started never runs on, and a lost exit code is not made up."""
    asked = intent()
    assert plan(Record(asked, state, asked.epoch), seen) == action


def test_ended_container_with_auto_remove_is_settled_even_without_a_run_directory() -> None:
    """What was to be removed at its end is removed by the next agent."""
    asked = intent(spec={"auto_remove": True})
    assert plan(Record(asked, "exited", asked.epoch), replace(ENDED, run_directory=False)) == "settle"
