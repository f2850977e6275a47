"""What an operation of this service refers to before it asks what is there, and making that visible while it is held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hythe.holding import Held
from hythe.labels import GC
from hythe.ports.leases import Referred
from hythe_distribution.image_labels import Brought, publications
from hythe_distribution.publishing import Publisher
from hythe_distribution.records import Publication


def references(brought: Iterable[Brought]) -> tuple[Referred, ...]:
    """Return everything of these trees with the labels that collection will read of it.

    Every blob is named by itself as well as by the labels above it: what the namespace has known of a document until now
    may name fewer of its children.
    """
    return references_of(publications(brought, lambda digest: {}))


def references_of(blobs: Iterable[Publication]) -> tuple[Referred, ...]:
    """Return what is going to be published, with the labels that collection will read of it."""
    return tuple(
        Referred(blob.digest, {key: value for key, value in blob.labels.items() if key.startswith(GC)})
        for blob in blobs
    )


async def publish_held(publisher: Publisher, held: Held, namespace: str, brought: Sequence[Brought]) -> bool:
    """Make trees visible that were referred to; tell whether all of them is here and has been held all the time.

    If not, the caller refers to it, brings and publishes it again before it points to it.

    Raises:
        HytheError: see `Publisher.publish` and `Held.confirm`.
    """
    await held.confirm()  # before it is asked what is there
    return await publisher.publish(namespace, brought) and await held.confirm()
