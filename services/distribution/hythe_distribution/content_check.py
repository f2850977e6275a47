"""Whether the blobs of a store are what their digests say, and how one that isn't is made whole again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import DataLoss, HytheError, NotFound
from hythe.ports.content import Content
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Source
from hythe_distribution.image_labels import sources_in
from hythe_distribution.records import Records

REPORT_BYTES = 64 << 20

State = Literal["corrupt", "missing", "repaired", "lost"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One blob that is not whole, or was not.

    Attributes:
        state: ``corrupt`` or ``missing`` where nothing was done; ``repaired``; ``lost``: nobody has it, and what was left
            of it is removed, so that the next pull brings it.
        source: repository that it was fetched from again.
    """

    digest: Digest
    state: State
    cause: str = ""
    source: str = ""


class Refetch(Protocol):
    """Brings one blob back from where it came from."""

    def __call__(self, source: Source, digest: Digest, size_bytes: int, cancellation: Cancellation) -> None:
        """Return once the blob is in the store, whole and verified; blocks.

        Raises:
            HytheError: that source does not give it.
        """


class Checker:
    """Reads blobs and compares; every call blocks."""

    def __init__(self, content: Content, records: Records, refetch: Refetch) -> None:
        self._content = content
        self._records = records
        self._refetch = refetch

    def plan(self, namespace: str, digests: Sequence[Digest]) -> tuple[LabelledBlob, ...]:
        """Return the blobs of the namespace that a check will look at: those named, or all.

        Raises:
            NotFound: one that is named is not seen by the namespace.
        """
        if digests:
            return tuple(self._records.get(namespace, digest) for digest in digests)
        return tuple(self._records.walk(namespace))

    def check(
        self,
        blobs: Iterable[LabelledBlob],
        *,
        repair: bool,
        refer: Callable[[Digest], None],
        cancellation: Cancellation,
        report: Callable[[int, int], None],
    ) -> Iterator[Finding]:
        """Yield what is wrong with `blobs`, each after it was repaired where that was asked for.

        Args:
            refer: keeps a blob from being collected from before it is repaired.
            report: told how many blobs and bytes were looked at, at each blob and each 64 MiB.
        """
        done_blobs = done_bytes = 0
        for blob in blobs:
            cancellation.check()
            start_bytes = done_bytes

            def told(read_bytes: int, blobs_done: int = done_blobs, start: int = start_bytes) -> None:
                report(blobs_done, start + read_bytes)

            wrong = self._examine(blob, cancellation, told)
            done_blobs, done_bytes = done_blobs + 1, done_bytes + blob.size_bytes
            report(done_blobs, done_bytes)
            if wrong is not None:
                if repair:
                    refer(blob.digest)
                yield self._repair(blob, wrong, cancellation) if repair else wrong

    def _examine(self, blob: LabelledBlob, cancellation: Cancellation, told: Callable[[int], None]) -> Finding | None:
        hasher = hashlib.sha256()
        seen_bytes = reported_bytes = 0
        try:
            for chunk in self._content.read(blob.digest):
                cancellation.check()
                hasher.update(chunk)
                seen_bytes += len(chunk)
                if seen_bytes - reported_bytes >= REPORT_BYTES:
                    reported_bytes = seen_bytes
                    told(seen_bytes)
        except NotFound:
            return Finding(blob.digest, "missing", "it is recorded, but its bytes are not in the store")
        except DataLoss as error:
            return Finding(blob.digest, "corrupt", error.whole)
        if hasher.hexdigest() == blob.digest.hex:
            return None
        return Finding(blob.digest, "corrupt", f"its {seen_bytes} bytes have the digest sha256:{hasher.hexdigest()}")

    def _repair(self, blob: LabelledBlob, wrong: Finding, cancellation: Cancellation) -> Finding:
        with tracing.span("repair blob", oci__digest=str(blob.digest)) as span:
            if wrong.state == "corrupt":
                self._remove(blob.digest)
            causes = []
            for source in self._sources(blob.digest):
                try:
                    self._refetch(source, blob.digest, blob.size_bytes, cancellation)
                except HytheError as error:
                    causes.append(error.whole)
                    continue
                span.set("registry.repository", str(source))
                return Finding(blob.digest, "repaired", wrong.cause, str(source))
            span.fail("nobody has it")
            return Finding(
                blob.digest, "lost", "; ".join([wrong.cause, *(causes or ["it is not known where it came from"])])
            )

    def _remove(self, digest: Digest) -> None:
        """Take corrupt bytes away before good ones come: a missing blob is fetched by whoever wants it, this one was read."""
        try:
            self._content.delete(digest)
        except NotFound:
            pass  # somebody else took it away meanwhile

    def _sources(self, digest: Digest) -> list[Source]:
        found: dict[Source, None] = {}
        for namespace in sorted(self._records.namespaces_of(digest)):
            found.update(dict.fromkeys(sources_in(self._records.get(namespace, digest).labels)))
        return list(found)
