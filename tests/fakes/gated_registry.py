"""A registry in memory whose downloads a test lets go on step by step, and break where it wants."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from hythe.digest import Digest, digest_of
from hythe.errors import DataLoss, HytheError, NotFound, Unavailable
from hythe.oci import Descriptor
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Source
from hythe_distribution.registry import Document, PushOutcome

CHUNK_BYTES = 1000


class GatedRegistry:
    """A body of `hythe_distribution.registry.Registry`; a download longer than one chunk waits after it until `gate` is set.

    Attributes:
        opened: the source and digest of each download that was begun, in order; a foreign one's source is its URL.
        asked: offset and length of each.
        running: downloads in progress now; `most_running` the most at any time.
        served_bytes: what was read of all downloads together.
        knows_ranges: answer with the range that was asked for, not with the whole.
        breaks: after how many bytes the next downloads break, one entry each.
        breaks_at: the same for the next downloads that begin at an offset; an error there refuses the download.
    """

    def __init__(self, *, open_gate: bool = True) -> None:
        self.gate = threading.Event()
        self.opened: list[tuple[str, Digest]] = []
        self.asked: list[tuple[int, int | None]] = []
        self.running = 0
        self.most_running = 0
        self.served_bytes = 0
        self.knows_ranges = True
        self.breaks: deque[int] = deque()
        self.breaks_at: dict[int, deque[int | HytheError]] = {}
        self._lock = threading.Lock()
        self._blobs: dict[tuple[str, Digest], bytes | HytheError] = {}
        self._tags: dict[tuple[str, str], tuple[str, bytes]] = {}
        if open_gate:
            self.gate.set()

    def serve(self, source: Source | str, data: bytes, *, instead: bytes | HytheError | None = None) -> Descriptor:
        """Serve a blob at a repository or URL, or `instead` under its digest: other bytes or an error; returns its descriptor."""
        self._blobs[str(source), digest_of(data)] = data if instead is None else instead
        return Descriptor("application/octet-stream", digest_of(data), len(data))

    def tag(self, source: Source, version: str, media_type: str, raw: bytes) -> None:
        """Serve a manifest by `version` and by its digest."""
        self._tags[str(source), version] = self._tags[str(source), str(digest_of(raw))] = (media_type, raw)

    def head(self, source: Source, version: str, cancellation: Cancellation) -> Descriptor | None:
        """See `hythe_distribution.registry.Registry.head`."""
        media_type, raw = self._tags.get((str(source), version), ("", b""))
        return Descriptor(media_type, digest_of(raw), len(raw)) if raw else None

    def manifest(self, source: Source, version: str, cancellation: Cancellation) -> Document:
        """See `hythe_distribution.registry.Registry.manifest`."""
        media_type, raw = self._tags.get((str(source), version), ("", b""))
        if not raw:
            raise NotFound(f"resolve {source}:{version}: not here", details={"kind": "image"})
        return Document(raw, media_type, digest_of(raw))

    def open(
        self,
        source: Source,
        descriptor: Descriptor,
        cancellation: Cancellation,
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> GatedBody:
        """See `hythe_distribution.registry.Registry.open`."""
        return self._open(str(source), descriptor, cancellation, offset, length)

    def open_foreign(self, descriptor: Descriptor, cancellation: Cancellation, *, offset: int = 0) -> GatedBody:
        """See `hythe_distribution.registry.Registry.open_foreign`."""
        for url in descriptor.urls:
            if (url, descriptor.digest) in self._blobs:
                return self._open(url, descriptor, cancellation, offset, None)
        raise NotFound(f"fetch {descriptor.digest}: at none of its URLs", details={"kind": "blob"})

    def _open(
        self, source: str, descriptor: Descriptor, cancellation: Cancellation, offset: int, length: int | None
    ) -> GatedBody:
        with self._lock:
            self.opened.append((source, descriptor.digest))
            self.asked.append((offset, length))
            at_offset = self.breaks_at.get(offset)
            trouble = at_offset.popleft() if at_offset else self.breaks.popleft() if self.breaks else None
        found = self._blobs.get((source, descriptor.digest))
        if found is None:
            raise NotFound(f"fetch {descriptor.digest}: not here", details={"kind": "blob"})
        if isinstance(trouble, HytheError):
            raise trouble
        ranged = self.knows_ranges and (offset > 0 or length is not None)
        if ranged and isinstance(found, bytes):
            found = found[offset:] if length is None else found[offset : offset + length]
        return GatedBody(self, found, cancellation, offset if ranged else 0, ranged, trouble)

    def push_blob(
        self,
        source: Source,
        descriptor: Descriptor,
        read: Callable[[int], Iterator[bytes]],
        mount_from: Sequence[str],
        cancellation: Cancellation,
        report: Callable[[int], None],
    ) -> PushOutcome:
        """See `hythe_distribution.registry.Registry.push_blob`."""
        if (str(source), descriptor.digest) in self._blobs:
            return "exists"
        data = b"".join(read(0))
        if digest_of(data) != descriptor.digest:
            raise DataLoss(f"push {descriptor.digest}: other bytes")
        self.serve(source, data)
        report(len(data))
        return "pushed"

    def push_manifest(
        self,
        source: Source,
        version: str,
        raw: bytes,
        media_type: str,
        subject: Digest | None,
        cancellation: Cancellation,
    ) -> None:
        """See `hythe_distribution.registry.Registry.push_manifest`."""
        self.tag(source, version, media_type, raw)

    def referrers(
        self, source: Source, digest: Digest, artifact_type: str, cancellation: Cancellation
    ) -> tuple[Descriptor, ...]:
        """See `hythe_distribution.registry.Registry.referrers`; here nothing is about anything."""
        return ()

    def login(self, host: str, plain_http: bool, username: str, password: str, cancellation: Cancellation) -> str:
        """See `hythe_distribution.registry.Registry.login`; everybody may log in."""
        return ""

    def forget(self, host: str) -> None:
        """See `hythe_distribution.registry.Registry.forget`; it has kept nothing."""

    def count(self, change: int) -> None:
        """Note that a download began or ended."""
        with self._lock:
            self.running += change
            self.most_running = max(self.most_running, self.running)

    def served(self, count: int) -> None:
        """Note that so many bytes were read."""
        with self._lock:
            self.served_bytes += count


class GatedBody:
    """A body of `hythe_distribution.registry.Body`."""

    def __init__(
        self,
        registry: GatedRegistry,
        data: bytes | HytheError,
        cancellation: Cancellation,
        offset: int,
        ranged: bool,
        breaks_after: int | None,
    ) -> None:
        self.offset = offset
        self.ranged = ranged
        self._registry = registry
        self._data = data
        self._breaks_after = breaks_after
        self._read = 0
        self._woken = threading.Event()
        cancellation.on_cancel(self._woken.set)

    def readinto(self, buffer: memoryview) -> int:
        """See `hythe_distribution.registry.Body.readinto`."""
        waits = isinstance(self._data, HytheError) or (len(self._data) > CHUNK_BYTES and self._read > 0)
        while waits and not self._registry.gate.wait(0.005):
            if self._woken.is_set():
                raise Unavailable("fetch: the connection broke")
        if isinstance(self._data, HytheError):
            raise self._data
        end = self._read + min(len(buffer), CHUNK_BYTES)
        if self._breaks_after is not None:
            if self._read >= self._breaks_after:
                raise Unavailable(f"fetch: broke off after {self._read} bytes")
            end = min(end, self._breaks_after)
        chunk = self._data[self._read : end]
        buffer[: len(chunk)] = chunk
        self._read += len(chunk)
        self._registry.served(len(chunk))
        return len(chunk)

    def __enter__(self) -> GatedBody:
        self._registry.count(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._registry.count(-1)
