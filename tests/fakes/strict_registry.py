"""A registry in memory that takes pushes as strictly as real ones do: no document before what it points to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from hythe.digest import Digest, digest_of
from hythe.errors import DataLoss, HytheError, InvalidArgument, NotFound, Unauthenticated
from hythe.oci import Descriptor, Index, parse_document
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Source
from hythe_distribution.registry import PushOutcome
from hythe_distribution.tree import lies_elsewhere
from tests.fakes.gated_registry import GatedRegistry


class StrictRegistry(GatedRegistry):
    """A body of `hythe_distribution.registry.Registry`.

    Attributes:
        put: version of each document that was put, in order.
        sent: digest of each blob that was sent, in order.
        pushing: uploads in progress now; `most_pushing` the most at any time.
        sparse: take indexes whose manifests are not here.
        refuses: raised in place of taking a blob.
        token: what a login gives.
        forgotten: registries whose login was to be asked for anew, in order.
    """

    def __init__(self, *, open_gate: bool = True) -> None:
        super().__init__(open_gate=open_gate)
        self.put: list[str] = []
        self.sent: list[Digest] = []
        self.pushing = 0
        self.most_pushing = 0
        self.sparse = False
        self.refuses: HytheError | None = None
        self.token = ""
        self.forgotten: list[str] = []
        self._pushes = threading.Lock()
        self._about: dict[tuple[str, Digest], list[Descriptor]] = {}

    def has(self, source: Source, digest: Digest) -> bool:
        """Tell whether a repository has a blob or document."""
        return (str(source), digest) in self._blobs or (str(source), str(digest)) in self._tags

    def points_to(self, source: Source, version: str) -> Digest | None:
        """Return what a version means."""
        found = self._tags.get((str(source), version))
        return digest_of(found[1]) if found else None

    def add_referrer(self, source: Source, subject: Digest, entry: Descriptor) -> None:
        """List `entry` as one about `subject`, whether that is so or not."""
        self._about.setdefault((str(source), subject), []).append(entry)

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
        if self.has(source, descriptor.digest):
            return "exists"
        for repository in mount_from:
            data = self._blobs.get((f"{source.host}/{repository}", descriptor.digest))
            if isinstance(data, bytes):
                self.serve(source, data)
                return "mounted"
        if self.refuses is not None:
            raise self.refuses
        self._count_push(1)
        try:
            taken = bytearray()
            for chunk in read(0):
                while not self.gate.wait(0.005):
                    cancellation.check()
                taken += chunk
                report(len(taken))
        finally:
            self._count_push(-1)
        if digest_of(bytes(taken)) != descriptor.digest:
            raise DataLoss(f"push {descriptor.digest}: other bytes arrived")
        self.serve(source, bytes(taken))
        with self._pushes:
            self.sent.append(descriptor.digest)
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
        for child in _children(raw, media_type):
            if not self.has(source, child.digest) and not lies_elsewhere(child) and not self.sparse:
                raise InvalidArgument(f"push {source}:{version}: the registry refuses it", cause="manifest unknown")
        self.put.append(version)
        self.tag(source, version, media_type, raw)
        if subject is not None:
            self.add_referrer(source, subject, Descriptor(media_type, digest_of(raw), len(raw)))

    def referrers(
        self, source: Source, digest: Digest, artifact_type: str, cancellation: Cancellation
    ) -> tuple[Descriptor, ...]:
        """See `hythe_distribution.registry.Registry.referrers`."""
        found = self._about.get((str(source), digest), [])
        return tuple(entry for entry in found if artifact_type in ("", entry.artifact_type))

    def login(self, host: str, plain_http: bool, username: str, password: str, cancellation: Cancellation) -> str:
        """See `hythe_distribution.registry.Registry.login`."""
        if password != "right":
            raise Unauthenticated(f"log in to {host}: the registry does not take this login")
        return self.token

    def forget(self, host: str) -> None:
        """See `hythe_distribution.registry.Registry.forget`."""
        self.forgotten.append(host)

    def _count_push(self, change: int) -> None:
        with self._pushes:
            self.pushing += change
            self.most_pushing = max(self.most_pushing, self.pushing)


def _children(raw: bytes, media_type: str) -> Sequence[Descriptor]:
    try:
        document = parse_document(raw, media_type)
    except InvalidArgument:
        return ()  # a type that this registry keeps without looking into it
    return document.manifests if isinstance(document, Index) else (document.config, *document.layers)


class KeptLogins:
    """A body of `hythe_distribution.credentials.CredentialStore` in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, object] = {}

    def find(self, host: str) -> None:
        """See `hythe_distribution.credentials.CredentialStore.find`."""
        raise NotFound(f"find the login for {host}: nobody asks this one")

    def keep(self, host: str, credentials: object) -> str:
        """See `hythe_distribution.credentials.CredentialStore.keep`."""
        self.kept[host] = credentials
        return "memory"

    def forget(self, host: str) -> bool:
        """See `hythe_distribution.credentials.CredentialStore.forget`."""
        return self.kept.pop(host, None) is not None
