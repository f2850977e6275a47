"""Registries over HTTP: the registry port's body, made of what asking, reading and sending are."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hythe.digest import Digest, digest_of, parse_digest
from hythe.errors import DataLoss, InvalidArgument
from hythe.oci import Descriptor, media_types
from hythe.oci.fields import MAX_DOCUMENT_BYTES
from hythe.reference import parse_reference
from hythe_distribution.adapters.hosts_files import HostsDirectories
from hythe_distribution.adapters.registry import push, referrers
from hythe_distribution.adapters.registry.asking import Asking
from hythe_distribution.adapters.registry.bodies import (
    Blob,
    body_of,
    media_type_of,
    range_header,
    require_success,
    require_type,
    stated_digest,
)
from hythe_distribution.adapters.registry.connections import MIN_STALL_BYTES, Pool
from hythe_distribution.adapters.registry.foreign import open_foreign
from hythe_distribution.adapters.registry.logins import Logins
from hythe_distribution.adapters.registry.sign_in import sign_in
from hythe_distribution.authorizer import parse_token_servers
from hythe_distribution.breaker import Breaker
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.credentials import Credentials, CredentialStore
from hythe_distribution.hosts import Source
from hythe_distribution.mirrors import Capability
from hythe_distribution.registry import Document, PushOutcome

CONNECT_TIMEOUT_S = 3.0
STALL_TIMEOUT_S = 20.0

_ACCEPT_DOCUMENTS = ", ".join(
    (media_types.OCI_INDEX, media_types.OCI_MANIFEST, media_types.DOCKER_INDEX, media_types.DOCKER_MANIFEST)
)


class HttpRegistry:
    """A body of `hythe_distribution.registry.Registry`; safe to use from several threads."""

    def __init__(
        self,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        stall_bytes: int = MIN_STALL_BYTES,
        tls: ssl.SSLContext | None = None,
        credentials: CredentialStore | None = None,
        hosts_dirs: Sequence[str | Path] = (),
        token_servers: str = "",
        foreign_on_loopback: bool = False,
    ) -> None:
        """Connect to nothing yet.

        Args:
            connect_timeout_s: seconds after which a host that does not answer counts as unreachable, unless its
                ``hosts.toml`` says otherwise.
            stall_timeout_s: seconds of silence after which an answer counts as broken; not its total time.
            stall_bytes: a body that brings fewer in that time counts as broken as well.
            tls: whom to trust; by default this host's certificates.
            credentials: where logins are kept; without it all is asked for anonymously.
            hosts_dirs: directories of ``hosts.toml`` files; the first that has a registry's counts.
            token_servers: see `parse_token_servers`.
            foreign_on_loopback: let foreign layers come from this host, and without TLS there.

        Raises:
            InvalidArgument: `token_servers` is not of its form.
        """
        self._pool = Pool(connect_timeout_s, stall_timeout_s, tls, stall_bytes)
        self._logins = Logins(self._pool, credentials, parse_token_servers(token_servers))
        self._asking = Asking(
            self._pool, HostsDirectories([Path(each) for each in hosts_dirs]), self._logins, Breaker()
        )
        self._foreign_on_loopback = foreign_on_loopback

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def head(self, source: Source, version: str, cancellation: Cancellation) -> Descriptor | None:
        """See `hythe_distribution.registry.Registry.head`; any answer but a good one is left to the GET to explain."""
        step = f"resolve {_name(source, version)}"
        with self._asking.ask(
            step,
            "HEAD",
            source,
            f"manifests/{version}",
            cancellation,
            accept=_ACCEPT_DOCUMENTS,
            capability=_capability(version),
            retry_statuses=False,
        ) as response:
            media_type, digest, size_bytes = media_type_of(response), stated_digest(step, response), response.size_bytes
            if (
                response.status != 200
                or digest is None
                or not size_bytes
                or media_type not in media_types.DOCUMENT_TYPES
            ):
                return None
            return Descriptor(media_type, digest, size_bytes)

    def manifest(self, source: Source, version: str, cancellation: Cancellation) -> Document:
        """See `hythe_distribution.registry.Registry.manifest`."""
        step = f"resolve {_name(source, version)}"
        with self._asking.ask(
            step,
            "GET",
            source,
            f"manifests/{version}",
            cancellation,
            accept=_ACCEPT_DOCUMENTS,
            capability=_capability(version),
        ) as response:
            require_success(step, response, "image")
            raw = response.read_all(MAX_DOCUMENT_BYTES)
            digest, stated = digest_of(raw), stated_digest(step, response)
            asked = parse_digest(version) if ":" in version else None
            for promised in (asked, stated):
                if promised is not None and promised != digest:
                    raise DataLoss(f"{step}: {response.endpoint} promised {promised}, but sent {digest}")
            return Document(raw, response.header("Content-Type"), digest)

    def open(
        self,
        source: Source,
        descriptor: Descriptor,
        cancellation: Cancellation,
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> Blob:
        """See `hythe_distribution.registry.Registry.open`.

        Raises:
            OutOfRange: the blob has no such part.
        """
        step = f"fetch {descriptor.digest} from {source}"
        is_document = descriptor.media_type in media_types.DOCUMENT_TYPES
        path = f"{'manifests' if is_document else 'blobs'}/{descriptor.digest}"
        accept = descriptor.media_type if is_document else "*/*"
        wanted = range_header(step, descriptor, offset, length)
        response = self._asking.ask(step, "GET", source, path, cancellation, accept=accept, headers=wanted)
        try:
            body = body_of(step, response, descriptor, wanted, "blob")
            if is_document:
                require_type(step, response, descriptor)
            return body
        except BaseException:
            response.close()
            raise

    def open_foreign(self, descriptor: Descriptor, cancellation: Cancellation, *, offset: int = 0) -> Blob:
        """See `hythe_distribution.registry.Registry.open_foreign`."""
        return open_foreign(self._asking, descriptor, cancellation, offset, self._foreign_on_loopback)

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
        return push.push_blob(self._asking, source, descriptor, read, mount_from, cancellation, report)

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
        push.push_manifest(self._asking, source, version, raw, media_type, subject, cancellation)

    def referrers(
        self, source: Source, digest: Digest, artifact_type: str, cancellation: Cancellation
    ) -> tuple[Descriptor, ...]:
        """See `hythe_distribution.registry.Registry.referrers`."""
        return referrers.referrers(self._asking, source, digest, artifact_type, cancellation)

    def login(self, host: str, plain_http: bool, username: str, password: str, cancellation: Cancellation) -> str:
        """See `hythe_distribution.registry.Registry.login`.

        Raises:
            InvalidArgument: `host` is no registry's name, or the user name cannot be sent.
        """
        source = Source(_checked_host(host), "", plain_http)
        refresh = sign_in(self._asking, self._logins, source, Credentials(username, password), cancellation)
        self.forget(host)
        return refresh

    def forget(self, host: str) -> None:
        """Look the login for a registry up anew with the next request; to be called when it was changed or removed."""
        self._logins.forget(host)


def _checked_host(host: str) -> str:
    if parse_reference(f"{host}/x").host != host:
        raise InvalidArgument(f"log in to {host[:100]!r}: it is no registry's name", next_step="give host[:port]")
    return host


def _capability(version: str) -> Capability:
    """A digest vouches for itself wherever it comes from; what a tag means must be asked where that is known."""
    return "pull" if ":" in version else "resolve"


def _name(source: Source, version: str) -> str:
    return f"{source}@{version}" if ":" in version else f"{source}:{version}"
