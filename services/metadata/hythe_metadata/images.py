"""What becomes of image names: where they point, under which labels, and who may change that."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hythe.digest import parse_digest
from hythe.errors import Conflict, InvalidArgument, NotFound
from hythe.filters import Field
from hythe.identifiers import check_namespace
from hythe.labels import check_labels, merged
from hythe.ports.metadata import ALL_NAMESPACES, ImageRecord, ImageWish, Origin, Page
from hythe_metadata.changes import Happening, Past, body_hash
from hythe_metadata.labelled import answer_of, nothing, pages, record_of
from hythe_metadata.masks import TARGET, changed_labels, check_fields
from hythe_metadata.namespaces import ensure
from hythe_metadata.records import Edge, Key, Read, Stored, Transaction, View, Work
from hythe_metadata.references import edges_of_labels
from hythe_metadata.repeats import once

KIND = "image"
LEASE = "lease"
_REFERENCE = re.compile(r"[\x21-\x7e]{1,1024}")


@dataclass(frozen=True, slots=True)
class UpdateWish:
    """Labels of a name to be changed, or where it points.

    Attributes:
        fields: ``labels`` for all, ``labels.<key>`` for one, ``target`` for digest, media type and size together; others
            are left as they are.
        if_revision: only if nobody changed the name since.
    """

    reference: str
    labels: Mapping[str, str]
    fields: tuple[str, ...] = ("labels",)
    if_revision: int | None = None
    digest: str = ""
    media_type: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RemoveWish:
    """A name to be forgotten, as far as repetitions of the request must agree."""

    reference: str
    if_revision: int | None = None


def check_reference(reference: str) -> str:
    """Return `reference` if it can be a normalised image reference: 1 to 1024 printable ASCII characters without space.

    Raises:
        InvalidArgument: it can't.
    """
    if not _REFERENCE.fullmatch(reference):
        raise InvalidArgument(f"check image reference {reference[:100]!r}: not a normalised reference")
    return reference


def put(origin: Origin, wish: ImageWish) -> Work[ImageRecord]:
    """Point a name at a digest, once per request id; pointing it where it points already changes nothing.

    Raises:
        InvalidArgument: namespace, reference, digest, size or a label is malformed.
        Conflict: (of the work) the name was changed since `if_revision` (details ``revision`` and ``digest``).
    """
    key = _key(origin.namespace, wish.reference)
    _check_target(f"put image {wish.reference}", wish.digest, wish.size_bytes)
    check_labels(wish.labels or {})

    def work(transaction: Transaction) -> ImageRecord:
        existing = find(transaction, key)
        _check_revision(f"put image {wish.reference}", wish.if_revision, existing)
        moment = transaction.moment
        record = ImageRecord(
            namespace=origin.namespace,
            reference=wish.reference,
            digest=wish.digest,
            media_type=wish.media_type,
            size_bytes=wish.size_bytes,
            revision=moment.revision,
            created_at=existing.created_at if existing else moment.time,
            updated_at=moment.time,
            labels=_labels_of(existing) if wish.labels is None else dict(wish.labels),
        )
        if existing is None or _says(existing) != _says(record):
            _store(transaction, origin, record, "updated" if existing else "created")
        else:
            record = existing
        if wish.lease:
            transaction.delete(Key(LEASE, origin.namespace, wish.lease))
        return record

    return once(origin, "image.put", body_hash(origin.namespace, wish), answer_of, _from_answer, work)


def update(origin: Origin, wish: UpdateWish) -> Work[ImageRecord]:
    """Change labels and target by a field mask, once per request id.

    Raises:
        InvalidArgument: a label, the target or the mask breaks its rule.
        NotFound: (of the work) there is no such name.
        Conflict: (of the work) it was changed since `if_revision`.
    """
    key = _key(origin.namespace, wish.reference)
    check_labels(wish.labels)
    check_fields(wish.fields, TARGET)
    if TARGET in wish.fields:
        _check_target(f"update image {wish.reference}", wish.digest, wish.size_bytes)

    def work(transaction: Transaction) -> ImageRecord:
        existing = find(transaction, key)
        if existing is None:
            raise not_found(wish.reference)
        _check_revision(f"update image {wish.reference}", wish.if_revision, existing)
        wanted = replace(existing, labels=changed_labels(existing.labels, wish.labels, wish.fields))
        if TARGET in wish.fields:
            wanted = replace(wanted, digest=wish.digest, media_type=wish.media_type, size_bytes=wish.size_bytes)
        if _says(wanted) == _says(existing):
            return existing
        moment = transaction.moment
        record = replace(wanted, revision=moment.revision, updated_at=moment.time)
        _store(transaction, origin, record, "updated")
        return record

    return once(origin, "image.update", body_hash(origin.namespace, wish), answer_of, _from_answer, work)


def remove(origin: Origin, wish: RemoveWish) -> Work[None]:
    """Forget a name, once per request id; what it pointed to stays until it is collected.

    Raises:
        InvalidArgument: it can't be a name.
        NotFound: (of the work) there is no such name (details ``kind=image``).
        Conflict: (of the work) it was changed since `if_revision` (details ``revision`` and ``digest``).
    """
    key = _key(origin.namespace, wish.reference)

    def work(transaction: Transaction) -> None:
        existing = find(transaction, key)
        if existing is None:
            raise not_found(wish.reference)
        _check_revision(f"remove image {wish.reference}", wish.if_revision, existing)
        transaction.delete(key)
        transaction.emit(origin, Happening(KIND, wish.reference, "deleted", "/images/delete", {"name": wish.reference}))

    return once(origin, "image.remove", body_hash(origin.namespace, wish), nothing, lambda _: None, work)


def get(namespace: str, reference: str) -> Read[ImageRecord]:
    """Return one image.

    Raises:
        NotFound: (of the question) there is no such name (details ``kind=image``).
    """

    def read(view: View) -> ImageRecord:
        found = find(view, Key(KIND, namespace, reference))
        if found is None:
            raise not_found(reference)
        return found

    return read


def list_all(namespace: str, after: str, limit: int, filters: Sequence[str] = ()) -> Read[Page[ImageRecord]]:
    """List the images of a namespace by reference, or of all by namespace and reference; see `hythe_metadata.labelled.pages`."""
    space = None if namespace == ALL_NAMESPACES else namespace
    return pages(KIND, space, after, limit, filters, lambda _, stored: _read(stored), _fields)


def find(view: View, key: Key) -> ImageRecord | None:
    """Return the image of that key, if there is one."""
    stored = view.get(key)
    return _read(stored) if stored else None


def not_found(reference: str) -> NotFound:
    """Return the error for an image that is not there."""
    return NotFound(
        f"find image {reference}: no such image",
        next_step=f"`hythe pull {reference}`, or `hythe images`",
        details={"kind": "image", "reference": reference},
    )


def _check_target(step: str, digest: str, size_bytes: int) -> None:
    parse_digest(digest)
    if size_bytes < 0:
        raise InvalidArgument(f"{step}: a size of {size_bytes} bytes")


def _key(namespace: str, reference: str) -> Key:
    return Key(KIND, check_namespace(namespace), check_reference(reference))


def _store(transaction: Transaction, origin: Origin, record: ImageRecord, past: Past) -> None:
    ensure(transaction, origin, origin.namespace)
    edges = (Edge("content", record.digest, "target"), *edges_of_labels(record.labels))
    transaction.put(Key(KIND, record.namespace, record.reference), _body(record), edges=edges)
    labels = {f"labels.{key}": value for key, value in sorted(record.labels.items())}
    attributes = {"name": record.reference, "digest": record.digest, **labels}
    transaction.emit(origin, Happening(KIND, record.reference, past, f"/images/{past.removesuffix('d')}", attributes))


def _body(record: ImageRecord) -> str:
    values = {
        "digest": record.digest,
        "media_type": record.media_type,
        "size_bytes": record.size_bytes,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "labels": dict(record.labels),
    }
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _read(stored: Stored) -> ImageRecord:
    key = stored.key
    kept = {"namespace": key.namespace, "reference": key.name, "revision": stored.revision}
    return record_of(ImageRecord, stored.body, **kept)


def _from_answer(text: str) -> ImageRecord:
    return record_of(ImageRecord, text)


def _labels_of(existing: ImageRecord | None) -> Mapping[str, str]:
    return existing.labels if existing else merged({}, {})


def _says(record: ImageRecord) -> tuple[object, ...]:
    return record.digest, record.media_type, record.size_bytes, record.labels


def _check_revision(step: str, wanted: int | None, existing: ImageRecord | None) -> None:
    present = existing.revision if existing else 0
    if wanted is not None and wanted != present:
        raise Conflict(
            f"{step}: expected revision {wanted}, it is at {present}",
            next_step="look where the name points now, and decide again",
            details={"revision": str(present), "digest": existing.digest if existing else ""},
        )


def _fields(record: ImageRecord) -> Field:
    values = {
        ("name",): record.reference,
        ("target", "digest"): record.digest,
        ("target", "mediatype"): record.media_type,
    }

    def field(path: tuple[str, ...]) -> tuple[str, bool]:
        label = path[0] == "labels" and len(path) > 1
        found = record.labels.get(".".join(path[1:])) if label else values.get(path)
        return found or "", found is not None

    return field
