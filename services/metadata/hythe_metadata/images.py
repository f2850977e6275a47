"""What becomes of image names: each decision is a function of what is stored, and returns a plan."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from hythe.digest import parse_digest
from hythe.errors import Conflict, InvalidArgument, NotFound
from hythe.identifiers import check_namespace
from hythe.ports.metadata import ALL_NAMESPACES, ImageRecord, ImageWish, Page
from hythe_metadata.changes import Happening, Moment

AnswerT = TypeVar("AnswerT", bound=ImageRecord | None, covariant=True)
_REFERENCE = re.compile(r"[\x21-\x7e]{1,1024}")


@dataclass(frozen=True, slots=True)
class RemoveWish:
    """A name to be forgotten, as far as repetitions of the request must agree."""

    reference: str
    if_revision: int | None = None


@dataclass(frozen=True, slots=True)
class ImagePlan(Generic[AnswerT]):
    """What to answer and what to change: write `put`, or delete the name `forget`."""

    answer: AnswerT
    put: ImageRecord | None = None
    forget: str = ""
    happening: Happening | None = None


def check_reference(reference: str) -> str:
    """Return `reference` if it can be a normalised image reference: 1 to 1024 printable ASCII characters without space.

    Raises:
        InvalidArgument: it can't.
    """
    if not _REFERENCE.fullmatch(reference):
        raise InvalidArgument(f"check image reference {reference[:100]!r}: not a normalised reference")
    return reference


def check_image(namespace: str, wish: ImageWish) -> None:
    """Refuse a wish that is wrong whatever is stored.

    Raises:
        InvalidArgument: namespace, reference, digest or size is malformed.
    """
    check_namespace(namespace)
    check_reference(wish.reference)
    parse_digest(wish.digest)
    if wish.size_bytes < 0:
        raise InvalidArgument(f"put image {wish.reference}: a size of {wish.size_bytes} bytes")


def plan_put(namespace: str, wish: ImageWish, existing: ImageRecord | None, moment: Moment) -> ImagePlan[ImageRecord]:
    """Decide on a checked wish.

    Raises:
        Conflict: the name was changed since `if_revision`.
    """
    _check_revision(f"put image {wish.reference}", wish.if_revision, existing)
    if existing is not None and _points(existing) == (wish.digest, wish.media_type, wish.size_bytes):
        return ImagePlan(existing)
    record = ImageRecord(
        namespace=namespace,
        reference=wish.reference,
        digest=wish.digest,
        media_type=wish.media_type,
        size_bytes=wish.size_bytes,
        revision=moment.revision,
        created_at=existing.created_at if existing else moment.time,
        updated_at=moment.time,
    )
    attributes = {"name": wish.reference, "digest": wish.digest}
    if existing is None:
        return ImagePlan(
            record, put=record, happening=Happening("image", wish.reference, "created", "/images/create", attributes)
        )
    return ImagePlan(
        record, put=record, happening=Happening("image", wish.reference, "updated", "/images/update", attributes)
    )


def plan_remove(wish: RemoveWish, existing: ImageRecord | None) -> ImagePlan[None]:
    """Decide on forgetting a name.

    Raises:
        NotFound: there is no such name.
        Conflict: the name was changed since `if_revision`.
    """
    if existing is None:
        raise not_found(wish.reference)
    _check_revision(f"remove image {wish.reference}", wish.if_revision, existing)
    happening = Happening("image", wish.reference, "deleted", "/images/delete", {"name": wish.reference})
    return ImagePlan(None, forget=wish.reference, happening=happening)


def page(namespace: str, records: Iterable[ImageRecord], limit: int) -> Page[ImageRecord]:
    """Return the first of `records`, which come in the order of a list of `namespace`: at most `limit`."""
    taken: list[ImageRecord] = []
    for record in records:
        if len(taken) == limit:
            last = taken[-1]
            return Page(tuple(taken), last.reference if namespace != ALL_NAMESPACES else _place(last))
        taken.append(record)
    return Page(tuple(taken))


def place_of(after: str) -> tuple[str, str]:
    """Return the namespace and reference behind which a list of all namespaces goes on.

    Raises:
        InvalidArgument: `after` is not what a page of such a list gave.
    """
    namespace, space, reference = after.partition(" ")
    if after and not space:
        raise InvalidArgument(f"list images of all namespaces: {after[:100]!r} is not the `next` of a page")
    return namespace, reference


def not_found(reference: str) -> NotFound:
    """Return the error for an image that is not there."""
    return NotFound(
        f"find image {reference}: no such image",
        next_step=f"`hythe pull {reference}`, or `hythe images`",
        details={"kind": "image", "reference": reference},
    )


def _place(record: ImageRecord) -> str:
    """Neither a namespace nor a reference can have a space in it."""
    return f"{record.namespace} {record.reference}"


def _check_revision(step: str, wanted: int | None, existing: ImageRecord | None) -> None:
    present = existing.revision if existing else 0
    if wanted is not None and wanted != present:
        raise Conflict(
            f"{step}: expected revision {wanted}, it is at {present}",
            next_step="look where the name points now, and decide again",
            details={"revision": str(present), "digest": existing.digest if existing else ""},
        )


def _points(record: ImageRecord) -> tuple[str, str, int]:
    return record.digest, record.media_type, record.size_bytes
