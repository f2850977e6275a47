"""What the tests of sending have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hythe.digest import parse_digest
from hythe.oci import Descriptor
from hythe_distribution.adapters.hosts_files import HostsDirectories
from hythe_distribution.adapters.registry.asking import Asking
from hythe_distribution.adapters.registry.connections import Pool
from hythe_distribution.adapters.registry.logins import Logins
from hythe_distribution.adapters.registry.push import push_blob
from hythe_distribution.breaker import Breaker
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Source
from hythe_distribution.registry import PushOutcome
from scripts.lab.images import OCI_MANIFEST, Blob, encode

CHUNK_BYTES = 100_000
PAUSE_S = 0.005
READ_BYTES = 7_000

EMPTY = Blob(b"{}", "application/vnd.oci.empty.v1+json")


@contextmanager
def asking() -> Iterator[Asking]:
    """Run a block with what asks registries, with short limits."""
    pool = Pool(0.5, 1.0, None)
    yield Asking(pool, HostsDirectories([]), Logins(pool, None, {}), Breaker())
    pool.close()


def descriptor(blob: Blob) -> Descriptor:
    """Return the descriptor of a blob."""
    return Descriptor(blob.media_type, parse_digest(blob.digest), len(blob.data))


def reading(blob: Blob) -> Callable[[int], Iterator[bytes]]:
    """Return the function that reads a blob from an offset on, in pieces that fit no chunk."""

    def read(offset: int) -> Iterator[bytes]:
        for first in range(offset, len(blob.data), READ_BYTES):
            yield blob.data[first : first + READ_BYTES]

    return read


class Reports(list[int]):
    """What a push reported, one after the other; `watch` sees each as it comes."""

    def __init__(self, watch: Callable[[int], None] = lambda taken: None) -> None:
        super().__init__()
        self._watch = watch

    def __call__(self, taken: int) -> None:
        """Take a report."""
        self.append(taken)
        self._watch(taken)


def send(
    asking: Asking,
    source: Source,
    blob: Blob,
    *mount_from: str,
    reports: Reports | None = None,
    cancellation: Cancellation | None = None,
    read: Callable[[int], Iterator[bytes]] | None = None,
) -> PushOutcome:
    """Push a blob in chunks of 100 000 bytes."""
    return push_blob(
        asking,
        source,
        descriptor(blob),
        read or reading(blob),
        mount_from,
        cancellation or Cancellation(),
        Reports() if reports is None else reports,
        chunk_bytes=CHUNK_BYTES,
        pause_s=PAUSE_S,
    )


def artifact(subject: Blob, artifact_type: str, **annotations: str) -> Blob:
    """Return the manifest of an artifact about another manifest; its only blob is `EMPTY`."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": EMPTY.descriptor(),
        "layers": [EMPTY.descriptor()],
        "subject": subject.descriptor(),
        "annotations": annotations,
    }
    return Blob(encode(document), OCI_MANIFEST)
