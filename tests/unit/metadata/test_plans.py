"""What metadata decides, as pure functions of what is stored."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.errors import Conflict, HytheError
from hythe.identifiers import new_id
from hythe.ports.metadata import ContainerRecord, ContainerWish, Desired, FinishOutcome, ImageRecord, ImageWish
from hythe_metadata import containers, images
from hythe_metadata.changes import PAGE_BYTES, Answered, Moment, body_hash, repeated
from hythe_metadata.containers import BeginFacts, StoredContainer

DIGEST = "sha256:" + "a" * 64
WISH = ContainerWish("1" * 32, "web", "localhost/a:1", DIGEST, "h1", "{}")
NOW = Moment("2026-11-23T20:15:00.000000Z", 7, 1)
LATER = Moment("2026-11-23T20:16:00.000000Z", 8, 2)
PHASES = {"creating": 0, "created": 1, "removing": 2}


def begun() -> StoredContainer:
    """Return what is stored after `WISH` was begun."""
    plan = containers.plan_begin("default", WISH, "hash", BeginFacts(None, False, None, None), NOW)
    assert plan.put is not None
    return plan.put


def test_begin_plans_record_lease_and_event_together() -> None:
    """What is written and told of a new container is one plan."""
    plan = containers.plan_begin("default", WISH, "hash", BeginFacts(None, False, None, None), NOW)
    assert plan.put == StoredContainer(plan.answer, "hash", WISH.lease_s)
    assert (plan.answer.revision, plan.answer.epoch_revision, plan.answer.era) == (7, 7, 1)
    assert plan.happening is not None
    assert plan.happening.topic == "/containers/create"


def test_repeated_begin_plans_nothing() -> None:
    """A repetition only answers."""
    stored = begun()
    plan = containers.plan_begin("default", WISH, "hash", BeginFacts(stored, False, None, None), LATER)
    assert (plan.answer, plan.put, plan.forget, plan.happening) == (stored.record, None, "", None)


def test_finish_removing_raises_the_epoch_once() -> None:
    """Removal is a desired state of its own: commands derived before are older than it."""
    first = containers.plan_finish(begun(), "removing", LATER)
    assert first.answer is not None
    assert (first.answer.desired, first.answer.epoch_revision, first.answer.era) == ("removed", 8, 2)
    assert first.put is not None
    again = containers.plan_finish(first.put, "removing", Moment("", 9, 2))
    assert (again.answer, again.put, again.happening) == (first.answer, None, None)


def test_container_is_told_to_be_deleted_once() -> None:
    """The event of deletion comes when the container begins to go, not again when its record goes."""
    removing = containers.plan_finish(begun(), "removing", LATER)
    assert removing.happening is not None
    assert containers.plan_finish(removing.put, "absent", LATER).happening is None
    assert containers.plan_finish(begun(), "absent", LATER).happening is not None


steps = st.lists(
    st.one_of(
        st.sampled_from(["created", "removing", "absent"]).map(lambda outcome: ("finish", outcome)),
        st.sampled_from(["running", "stopped", "removed"]).map(lambda desired: ("desire", desired)),
    ),
    max_size=10,
)


@given(steps)
def test_any_sequence_of_requests_keeps_the_order_of_a_life(requests: list[tuple[str, str]]) -> None:
    """Phases never go back, revisions and epochs never fall, the deletion is told at most once, no lease outlives creating."""
    stored: StoredContainer | None = begun()
    deletions = 0
    for number, (kind, value) in enumerate(requests):
        moment = Moment("", 8 + number, 1)
        before = stored
        try:
            if kind == "finish":
                plan = containers.plan_finish(stored, _outcome(value), moment)
                put, forget, happening = plan.put, plan.forget, plan.happening
            else:
                desired_plan = containers.plan_desire(stored, WISH.id, _desired(value), moment)
                put, forget, happening = desired_plan.put, desired_plan.forget, desired_plan.happening
        except HytheError:
            continue
        deletions += happening is not None and happening.past == "deleted"
        stored = None if forget else (put or stored)
        if before is not None and stored is not None:
            assert PHASES[stored.record.phase] >= PHASES[before.record.phase]
            assert stored.record.revision >= before.record.revision
            assert stored.record.epoch_revision >= before.record.epoch_revision
            assert stored.record.phase == "creating" or stored.lease_s == 0
        assert before is not None or stored is None
    assert deletions == (stored is None or stored.record.phase == "removing")


def _outcome(value: str) -> FinishOutcome:
    assert value in ("created", "removing", "absent")
    return value  # type: ignore[return-value]


def _desired(value: str) -> Desired:
    assert value in ("running", "stopped", "removed")
    return value  # type: ignore[return-value]


def records(sizes: list[int]) -> list[ContainerRecord]:
    """Return records with specs of these sizes."""
    return [replace(begun().record, id=f"{number:032x}", spec="x" * size) for number, size in enumerate(sizes)]


@given(st.lists(st.integers(0, PAGE_BYTES + 10), max_size=8), st.integers(1, 9))
def test_pages_bring_every_record_once_and_stay_small(sizes: list[int], limit: int) -> None:
    """However large the specs, following the pages shows all, in order, each page within its limits."""
    wanted = records(sizes)
    seen: list[ContainerRecord] = []
    after = ""
    while True:
        page = containers.page((record for record in wanted if record.id > after or not after), limit)
        assert len(page.records) <= limit
        assert len(page.records) <= 1 or sum(len(record.spec) for record in page.records) <= PAGE_BYTES
        seen += page.records
        if not page.next:
            break
        after = page.next
    assert seen == wanted


def test_image_put_keeps_when_the_name_was_made() -> None:
    """A name that is pointed elsewhere keeps its age."""
    wish = ImageWish("localhost/a:1", DIGEST, "type", 5)
    made = images.plan_put("default", wish, None, NOW).answer
    moved = images.plan_put("default", replace(wish, digest="sha256:" + "b" * 64), made, LATER).answer
    assert (moved.created_at, moved.updated_at, moved.revision) == (NOW.time, LATER.time, 8)


@given(st.none() | st.integers(0, 3), st.integers(0, 3))
def test_compare_and_set_compares(if_revision: int | None, present: int) -> None:
    """A put with a revision succeeds exactly when that is the present one, 0 meaning none."""
    wish = ImageWish("localhost/a:1", DIGEST, "type", 5, if_revision)
    existing = (
        ImageRecord("default", wish.reference, "sha256:" + "b" * 64, "type", 5, present, "", "") if present else None
    )
    try:
        images.plan_put("default", wish, existing, NOW)
        succeeded = True
    except Conflict:
        succeeded = False
    assert succeeded == (if_revision is None or if_revision == present)


def test_request_id_answers_only_its_own_request() -> None:
    """What was answered is repeated for the same request only."""
    answered = Answered("image.put", "hash", "result")
    assert repeated(None, "image.put", "hash") is None
    assert repeated(answered, "image.put", "hash") == "result"
    for kind, hashed in (("image.remove", "hash"), ("image.put", "other")):
        with pytest.raises(Conflict):
            repeated(answered, kind, hashed)


@given(st.text(), st.text(), st.sampled_from(["name", "reference", "host", "spec"]), st.text())
def test_body_hash_tells_different_requests_apart(one: str, other: str, field: str, value: str) -> None:
    """Requests with another namespace or content have another hash, and equal ones the same."""
    assert (body_hash(one, WISH) == body_hash(other, WISH)) == (one == other)
    changed = replace(WISH, **{field: value})  # type: ignore[arg-type]
    assert (body_hash(one, WISH) == body_hash(one, changed)) == (changed == WISH)


def test_ids_in_messages_are_short() -> None:
    """People see the twelve digits that they can use."""
    many = [replace(begun().record, id=new_id(), name=f"c{number}") for number in range(2)]
    with pytest.raises(HytheError) as caught:
        containers.choose("default", "a", many)
    assert all(record.id[:12] in caught.value.message and record.id not in caught.value.message for record in many)
