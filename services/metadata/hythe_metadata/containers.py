"""What becomes of container records: each decision is a function of what is stored, and returns a plan."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from hythe.digest import parse_digest
from hythe.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound
from hythe.identifiers import check_container_name, check_id, check_namespace
from hythe.ports.metadata import ContainerRecord, ContainerWish, Desired, FinishOutcome, ImageRecord, Page
from hythe.reference import is_bundle
from hythe_metadata.changes import PAGE_BYTES, Happening, Moment

SHORT_ID_LENGTH = 12
AnswerT = TypeVar("AnswerT", bound=ContainerRecord | None, covariant=True)
_PREFIX = re.compile(r"[0-9a-f]{1,32}")


@dataclass(frozen=True, slots=True)
class StoredContainer:
    """A record as it is kept: with the hash of the wish that made it, and its lease in seconds (0: none)."""

    record: ContainerRecord
    wish_hash: str
    lease_s: float


@dataclass(frozen=True, slots=True)
class BeginFacts:
    """What is stored that matters to a wish.

    Attributes:
        existing: the record of the wish's id, in whatever namespace and phase.
        gone: a container of this id existed and its record was deleted.
        holder: the record that has the wish's name in its namespace.
        image: the image that the wish names; only looked for when the wish has no digest.
    """

    existing: StoredContainer | None
    gone: bool
    holder: ContainerRecord | None
    image: ImageRecord | None


@dataclass(frozen=True, slots=True)
class DesireWish:
    """A desired state to be set, as far as repetitions of the request must agree."""

    container_id: str
    desired: Desired


@dataclass(frozen=True, slots=True)
class ContainerPlan(Generic[AnswerT]):
    """What to answer and what to change: write `put`, or delete the record `forget` and remember its id as gone."""

    answer: AnswerT
    put: StoredContainer | None = None
    forget: str = ""
    happening: Happening | None = None


def check_wish(namespace: str, wish: ContainerWish) -> None:
    """Refuse a wish that is wrong whatever is stored.

    Raises:
        InvalidArgument: id, namespace, name or digest is malformed, or image or host is missing.
    """
    check_id(wish.id, "container id")
    check_namespace(namespace)
    check_container_name(wish.name)
    if wish.digest is not None:
        parse_digest(wish.digest)
    if not wish.reference or not wish.host:
        raise InvalidArgument(f"begin container {wish.name}: image and host must be named")


def plan_begin(
    namespace: str, wish: ContainerWish, wish_hash: str, facts: BeginFacts, moment: Moment
) -> ContainerPlan[ContainerRecord]:
    """Decide on a checked wish.

    Raises:
        AlreadyExists: another container has the name.
        Conflict: the id came before with another wish.
        NotFound: there is no such image.
        FailedPrecondition: a container of this id existed and is gone.
    """
    if facts.existing is not None:
        if facts.existing.wish_hash != wish_hash:
            raise Conflict(
                f"begin container {wish.name}: id {wish.id} was used with another request",
                next_step="use a new id for another container",
            )
        return ContainerPlan(facts.existing.record)
    if facts.gone:
        raise FailedPrecondition(
            f"begin container {wish.name}: a container of id {wish.id} existed and was removed",
            next_step="use a new id: ids are never used twice",
        )
    if facts.holder is not None:
        held_by = facts.holder.id[:SHORT_ID_LENGTH]
        raise AlreadyExists(
            f"begin container {wish.name}: the name is taken in namespace {namespace}",
            cause=f"container {held_by} has it",
            next_step=f"choose another --name, or `hythe rm {wish.name}`",
            details={"kind": "container", "id": facts.holder.id},
        )
    digest = wish.digest or (facts.image.digest if facts.image else "")
    if not digest and not is_bundle(wish.reference):
        raise NotFound(
            f"begin container {wish.name}: image {wish.reference} is not known in namespace {namespace}",
            next_step=f"`hythe pull {wish.reference}`",
            details={"kind": "image", "reference": wish.reference},
        )
    record = ContainerRecord(
        id=wish.id,
        namespace=namespace,
        name=wish.name,
        reference=wish.reference,
        digest=digest,
        host=wish.host,
        spec=wish.spec,
        desired="running",
        phase="creating",
        era=moment.era,
        epoch_revision=moment.revision,
        revision=moment.revision,
        created_at=moment.time,
    )
    attributes = {"id": wish.id, "name": wish.name, "image": wish.reference, "host": wish.host}
    return ContainerPlan(
        record,
        put=StoredContainer(record, wish_hash, wish.lease_s),
        happening=Happening("container", wish.id, "created", "/containers/create", attributes),
    )


def plan_finish(
    existing: StoredContainer | None, outcome: FinishOutcome, moment: Moment
) -> ContainerPlan[ContainerRecord | None]:
    """Decide what settling a record means: a record goes from creating over created to removing, and never back."""
    if existing is None:
        return ContainerPlan(None)
    record = existing.record
    if outcome == "absent":
        return ContainerPlan(None, forget=record.id, happening=_deleted(record))
    if outcome == "removing":
        if record.phase == "removing":
            return ContainerPlan(record)
        removed = _desired(record, "removed", moment) if record.desired != "removed" else record
        removed = replace(removed, phase="removing", revision=moment.revision, lease_expired=False)
        return ContainerPlan(removed, put=replace(existing, record=removed, lease_s=0.0), happening=_deleted(record))
    if record.phase != "creating":
        return ContainerPlan(record)
    created = replace(record, phase="created", revision=moment.revision, lease_expired=False)
    return ContainerPlan(created, put=replace(existing, record=created, lease_s=0.0))


def plan_desire(
    existing: StoredContainer | None, container_id: str, desired: Desired, moment: Moment
) -> ContainerPlan[ContainerRecord]:
    """Decide on a desired state; each decision raises the epoch, also one for the state desired already.

    Raises:
        NotFound: there is no such container.
        FailedPrecondition: it is being removed.
    """
    if existing is None:
        raise not_found(container_id)
    if existing.record.phase == "removing" and desired != "removed":
        raise FailedPrecondition(f"desire container {existing.record.name} {desired}: it is being removed")
    record = _desired(existing.record, desired, moment)
    return ContainerPlan(record, put=replace(existing, record=record))


def choose(namespace: str, key: str, candidates: list[ContainerRecord]) -> ContainerRecord:
    """Return the one container that `key` means, of those with that name, or else whose ids begin with it.

    Raises:
        NotFound: there is none.
        InvalidArgument: there are several.
    """
    if not candidates:
        raise not_found(key, namespace)
    if len(candidates) > 1:
        named = ", ".join(f"{c.id[:SHORT_ID_LENGTH]} ({c.name})" for c in candidates)
        raise InvalidArgument(
            f"find container {key!r}: it may mean {named}", next_step="give more digits of the id, or the name"
        )
    return candidates[0]


def may_be_prefix(key: str) -> bool:
    """Tell whether `key` can be the beginning of a container's id."""
    return bool(_PREFIX.fullmatch(key))


def page(records: Iterable[ContainerRecord], limit: int) -> Page[ContainerRecord]:
    """Return the first of `records`, which come by id: at most `limit`, and beyond one no more than `PAGE_BYTES` of specs."""
    taken: list[ContainerRecord] = []
    size = 0
    for record in records:
        size += len(record.spec)
        if len(taken) == limit or (taken and size > PAGE_BYTES):
            return Page(tuple(taken), taken[-1].id)
        taken.append(record)
    return Page(tuple(taken))


def not_found(key: str, namespace: str = "") -> NotFound:
    """Return the error for a container that is not there."""
    where = f" in namespace {namespace}" if namespace else ""
    return NotFound(
        f"find container {key!r}: no such container{where}",
        next_step="`hythe ps --all` lists them",
        details={"kind": "container"},
    )


def _desired(record: ContainerRecord, desired: Desired, moment: Moment) -> ContainerRecord:
    return replace(record, desired=desired, era=moment.era, epoch_revision=moment.revision, revision=moment.revision)


def _deleted(record: ContainerRecord) -> Happening | None:
    if record.phase == "removing":
        return None
    return Happening("container", record.id, "deleted", "/containers/delete", {"id": record.id, "name": record.name})
