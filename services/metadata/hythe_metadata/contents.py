"""What metadata knows of content: which owner holds which blob, and what its labels refer to.

The owners, distribution of each host or of a shared store, decide on labels and who sees what; here are hints of it, each with
the sequence number that the owner gave it. `refer` is the exception: it says what a blob will refer to before any owner has it.
A record goes when nobody holds it and a collection finds that nothing refers to it, never before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hythe.digest import parse_digest
from hythe.identifiers import check_namespace
from hythe.labels import check_labels
from hythe.ports.metadata import Origin
from hythe_metadata import leases, namespaces
from hythe_metadata.generations import generation
from hythe_metadata.lease_records import KIND as LEASE
from hythe_metadata.lease_records import LeaseRecord, Resource, key_of
from hythe_metadata.lease_records import read as read_lease
from hythe_metadata.records import NO_NAMESPACE, Key, Read, Stored, Transaction, View, Work
from hythe_metadata.references import edges_of_labels

KIND = "content"
_NOBODY = Origin("")
_NO_LABELS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Held:
    """That an owner has a blob: the owner's sequence number of its last change there, and its labels then."""

    sequence: int
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContentHint:
    """What is known of a blob in a namespace.

    Attributes:
        size_bytes: 0 while nobody is known to have it.
        holders: by owner, which is a host, or ``shared:<id>`` for a store that several hosts share.
        referred: labels that it was said to get, while a lease names it or nobody has it.
    """

    namespace: str
    digest: str
    size_bytes: int = 0
    holders: Mapping[str, Held] = field(default_factory=dict)
    referred: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reference:
    """A blob that is about to be brought, and the labels that it will have."""

    digest: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """What an owner tells of a blob: as it has it now, or that the namespace doesn't see it there any more."""

    sequence: int
    namespace: str
    digest: str
    size_bytes: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Reached:
    """The lease as it is now, and how far the store is: its revision, and the generation of the last collection."""

    lease: LeaseRecord
    revision: int
    generation: int


def refer(origin: Origin, lease_id: str, duration_s: float, references: Sequence[Reference]) -> Work[Reached]:
    """Let a lease keep blobs that are about to be brought, with all that they refer to: reference before presence.

    The lease is made if there is none, else its duration starts anew. Repeating it does no more than that.

    Raises:
        InvalidArgument: the namespace, the lease's id, a digest or a label breaks its rule.
    """
    key_of(origin.namespace, lease_id)
    for reference in references:
        parse_digest(reference.digest)
        check_labels(reference.labels)

    def work(transaction: Transaction) -> Reached:
        resources = [Resource("content", reference.digest) for reference in references]
        lease = leases.hold(transaction, origin, lease_id, duration_s, resources)
        for reference in references:
            before = _hint(transaction, origin.namespace, reference.digest)
            labels = {**(before.referred if before else _NO_LABELS), **reference.labels}
            hint = before or ContentHint(origin.namespace, reference.digest)
            _put(transaction, before, replace(hint, referred=labels))
        return Reached(lease, transaction.moment.revision, generation(transaction))

    return work


def known(owner: str) -> Read[int]:
    """Return the sequence number up to which is known what an owner holds; 0 if nothing is."""

    def read_known(view: View) -> int:
        stored = view.get(_known_key(owner))
        return int(stored.body) if stored else 0

    return read_known


def owners(view: View) -> list[str]:
    """Return all of whom is known what they hold."""
    beginning = _known_key("").name
    return [stored.key.name.removeprefix(beginning) for stored in view.scan("gc", NO_NAMESPACE, prefix=beginning)]


def forget_owner(owner: str) -> Work[None]:
    """Forget up to where is known what an owner holds, once nothing is known of it that it holds (`unhold`)."""
    return lambda transaction: transaction.delete(_known_key(owner))


def learn(owner: str, told: Sequence[Told], upto: int, *, anew: bool = False) -> Work[None]:
    """Take what an owner tells of its blobs, and note that all its changes up to sequence `upto` are known.

    What is older than what is known of a blob changes nothing, but where the owner begins `anew`: in a list of all it has,
    because its numbers may have begun anew too. What it held and that list doesn't have is for `held_by` and `unhold`.

    Raises:
        InvalidArgument: a namespace, a digest or a label breaks its rule.
    """
    for one in told:
        check_namespace(one.namespace)
        parse_digest(one.digest)
        check_labels(one.labels)

    def work(transaction: Transaction) -> None:
        leased = _Leased(transaction)
        for one in told:
            before = _hint(transaction, one.namespace, one.digest)
            held = before.holders.get(owner) if before else None
            if held is not None and held.sequence >= one.sequence and not anew:
                continue
            if one.gone:
                if before is not None and held is not None:
                    _put(transaction, before, _without(before, owner))
                continue
            namespaces.ensure(transaction, replace(_NOBODY, namespace=one.namespace), one.namespace)
            hint = before or ContentHint(one.namespace, one.digest)
            hint = replace(
                hint,
                size_bytes=one.size_bytes,
                holders={**hint.holders, owner: Held(one.sequence, one.labels)},
                referred=hint.referred if hint.referred and leased.names(one.namespace, one.digest) else _NO_LABELS,
            )
            _put(transaction, before, hint)
        if anew or known(owner)(transaction) < upto:
            transaction.put(_known_key(owner), str(upto))

    return work


def held_by(owner: str, upto: int) -> Read[list[Key]]:
    """Return the keys of all blobs that an owner is known to hold by sequences up to `upto`."""

    def read_held(view: View) -> list[Key]:
        return [
            stored.key
            for stored in view.scan(KIND)
            if (held := read(stored).holders.get(owner)) is not None and held.sequence <= upto
        ]

    return read_held


def unhold(owner: str, keys: Sequence[Key], upto: int) -> Work[None]:
    """Note that an owner doesn't hold these any more: a sweep took them, or they are missing in a list of all it has.

    What the owner told of with a sequence beyond `upto` stays: it was brought again since. `upto` is therefore what was known
    (`known`) before the sweep, or before the list was asked for, began.
    """

    def work(transaction: Transaction) -> None:
        for key in keys:
            before = _hint(transaction, key.namespace, key.name)
            held = before.holders.get(owner) if before else None
            if before is not None and held is not None and held.sequence <= upto:
                _put(transaction, before, _without(before, owner))

    return work


def forget(keys: Sequence[Key], revision: int) -> Work[int]:
    """Delete records that a collection found nothing to refer to when the store was at `revision`; return how many.

    Those that somebody holds, that a lease names, or that were changed since, stay.
    """

    def work(transaction: Transaction) -> int:
        leased, gone = _Leased(transaction), 0
        for key in keys:
            stored = transaction.get(key)
            if stored is None or stored.revision > revision or read(stored).holders:
                continue
            if not leased.names(key.namespace, key.name):
                transaction.delete(key)
                gone += 1
        return gone

    return work


def read(stored: Stored) -> ContentHint:
    """Return the hint that is stored."""
    body = json.loads(stored.body)
    labels = body["labels"]
    return ContentHint(
        stored.key.namespace,
        stored.key.name,
        body["size_bytes"],
        {owner: Held(sequence, labels[which]) for owner, (sequence, which) in body["holders"].items()},
        labels[body["referred"]],
    )


class _Leased:
    """Which blobs the leases of a namespace name, read when it is first asked for."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._named: dict[str, frozenset[str]] = {}

    def names(self, namespace: str, digest: str) -> bool:
        if namespace not in self._named:
            self._named[namespace] = frozenset(
                resource.name
                for stored in self._view.scan(LEASE, namespace)
                for resource in read_lease(stored).resources
                if resource.kind == "content"
            )
        return digest in self._named[namespace]


def _hint(view: View, namespace: str, digest: str) -> ContentHint | None:
    stored = view.get(Key(KIND, namespace, digest))
    return read(stored) if stored else None


def _without(hint: ContentHint, owner: str) -> ContentHint:
    return replace(hint, holders={name: held for name, held in hint.holders.items() if name != owner})


def _put(transaction: Transaction, before: ContentHint | None, hint: ContentHint) -> None:
    if hint == before:
        return
    sets = [dict(hint.referred), *(dict(held.labels) for held in hint.holders.values())]
    distinct = [labels for at, labels in enumerate(sets) if labels not in sets[:at]]
    body = {
        "size_bytes": hint.size_bytes,
        "labels": distinct,  # each once, however many owners have it so
        "holders": {owner: [held.sequence, distinct.index(dict(held.labels))] for owner, held in hint.holders.items()},
        "referred": distinct.index(sets[0]),
    }
    edges = [edge for labels in distinct for edge in edges_of_labels(labels)]
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    transaction.put(Key(KIND, hint.namespace, hint.digest), text, edges=edges)


def _known_key(owner: str) -> Key:
    return Key("gc", NO_NAMESPACE, f"owner {owner}")
