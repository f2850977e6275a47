"""A registry in memory whose downloads a test lets go on step by step."""

from __future__ import annotations

import threading
from types import TracebackType

from hythe.digest import Digest, digest_of
from hythe.errors import HytheError, NotFound, Unavailable
from hythe.oci import Descriptor
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Source
from hythe_distribution.registry import Document

CHUNK_BYTES = 1000


class GatedRegistry:
    """A body of `hythe_distribution.registry.Registry`; a download longer than one chunk waits after it until `gate` is set.

    Attributes:
        opened: the source and digest of each download that was begun, in order.
        running: downloads in progress now; `most_running` the most at any time.
    """

    def __init__(self, *, open_gate: bool = True) -> None:
        self.gate = threading.Event()
        self.opened: list[tuple[str, Digest]] = []
        self.running = 0
        self.most_running = 0
        self._lock = threading.Lock()
        self._blobs: dict[tuple[str, Digest], bytes | HytheError] = {}
        self._tags: dict[tuple[str, str], tuple[str, bytes]] = {}
        if open_gate:
            self.gate.set()

    def serve(self, source: Source, data: bytes, *, instead: bytes | HytheError | None = None) -> Descriptor:
        """Serve a blob, or `instead` under its digest: other bytes or an error; returns its descriptor."""
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

    def open(self, source: Source, descriptor: Descriptor, cancellation: Cancellation) -> GatedBody:
        """See `hythe_distribution.registry.Registry.open`."""
        with self._lock:
            self.opened.append((str(source), descriptor.digest))
        found = self._blobs.get((str(source), descriptor.digest))
        if found is None:
            raise NotFound(f"fetch {descriptor.digest}: not here", details={"kind": "blob"})
        return GatedBody(self, found, cancellation)

    def count(self, change: int) -> None:
        """Note that a download began or ended."""
        with self._lock:
            self.running += change
            self.most_running = max(self.most_running, self.running)


class GatedBody:
    """A body of `hythe_distribution.registry.Body`."""

    def __init__(self, registry: GatedRegistry, data: bytes | HytheError, cancellation: Cancellation) -> None:
        self._registry = registry
        self._data = data
        self._offset = 0
        self._woken = threading.Event()
        cancellation.on_cancel(self._woken.set)

    def readinto(self, buffer: memoryview) -> int:
        """See `hythe_distribution.registry.Body.readinto`."""
        waits = isinstance(self._data, HytheError) or (len(self._data) > CHUNK_BYTES and self._offset > 0)
        while waits and not self._registry.gate.wait(0.005):
            if self._woken.is_set():
                raise Unavailable("fetch: the connection broke")
        if isinstance(self._data, HytheError):
            raise self._data
        chunk = self._data[self._offset : self._offset + min(len(buffer), CHUNK_BYTES)]
        buffer[: len(chunk)] = chunk
        self._offset += len(chunk)
        return len(chunk)

    def __enter__(self) -> GatedBody:
        self._registry.count(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._registry.count(-1)
