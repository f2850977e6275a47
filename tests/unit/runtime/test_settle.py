"""Which records are settled, and above all which are left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hythe_runtime.controller.settle import Intent, plan

IDS = st.sampled_from(["a", "b", "c", "d", "e"])
INTENTS = st.lists(
    st.builds(Intent, namespace=st.just("ns"), id=IDS, creating=st.booleans(), lease_expired=st.booleans()),
    unique_by=lambda intent: intent.id,
)


@given(INTENTS, st.sets(IDS), st.sets(IDS))
def test_record_is_only_removed_for_a_tombstone_or_an_expired_lease(
    intents: list[Intent], present: set[str], gone: set[str]
) -> None:
    """The mere absence of a container on its host removes nothing."""
    decided = {container_id: outcome for _, container_id, outcome in plan(intents, present, gone)}
    for intent in intents:
        outcome = decided.get(intent.id)
        if intent.id in gone:
            assert outcome == "absent"
        elif intent.creating and intent.lease_expired:
            assert outcome == ("created" if intent.id in present else "absent")
        else:
            assert outcome is None


def test_container_made_by_a_runtime_that_died_is_adopted() -> None:
    """Its lease ran out and its host has it."""
    assert plan([Intent("ns", "a", creating=True, lease_expired=True)], {"a"}, ()) == [("ns", "a", "created")]


def test_record_whose_container_never_came_to_be_is_removed() -> None:
    """Its lease ran out and its host has never heard of it."""
    assert plan([Intent("ns", "a", creating=True, lease_expired=True)], (), ()) == [("ns", "a", "absent")]


def test_record_in_the_making_is_left_alone() -> None:
    """As long as its lease lasts somebody is at work."""
    assert plan([Intent("ns", "a", creating=True, lease_expired=False)], (), ()) == []


def test_created_record_without_a_container_is_left_alone() -> None:
    """A host that lost its list does not delete what its user asked for."""
    assert plan([Intent("ns", "a", creating=False, lease_expired=False)], (), ()) == []
