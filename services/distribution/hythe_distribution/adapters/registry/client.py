"""Registries over HTTP: which requests are made, which redirects followed, and what is believed of the answers."""

from __future__ import annotations

import ssl
from types import TracebackType

from hythe import __version__
from hythe.digest import Digest, digest_of, parse_digest
from hythe.errors import DataLoss, InvalidArgument, Unavailable
from hythe.oci import Descriptor, media_types
from hythe.oci.fields import MAX_DOCUMENT_BYTES
from hythe_distribution.adapters.registry.bearer import BearerTokens
from hythe_distribution.adapters.registry.connections import Pool
from hythe_distribution.adapters.registry.exchange import Response, exchange
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES, Kind, refusal
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Source, endpoint_of, redirected
from hythe_distribution.registry import Document

CONNECT_TIMEOUT_S = 3.0
STALL_TIMEOUT_S = 20.0
MAX_REDIRECTS = 5

_DOCUMENTS = media_types.MANIFEST_TYPES | media_types.INDEX_TYPES
_REDIRECTS = (301, 302, 303, 307, 308)
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
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            connect_timeout_s: seconds after which a host that does not answer counts as unreachable.
            stall_timeout_s: seconds of silence after which an answer counts as broken; not its total time.
            tls: whom to trust; by default this host's certificates.
        """
        self._pool = Pool(connect_timeout_s, stall_timeout_s, tls)
        self._tokens = BearerTokens(self._pool)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def head(self, source: Source, version: str, cancellation: Cancellation) -> Descriptor | None:
        """See `hythe_distribution.registry.Registry.head`; any answer but a good one is left to the GET to explain."""
        step = f"resolve {_name(source, version)}"
        with self._ask(step, "HEAD", source, f"manifests/{version}", _ACCEPT_DOCUMENTS, cancellation) as response:
            media_type = response.header("Content-Type").partition(";")[0].strip().lower()
            digest = _stated_digest(step, response)
            size_bytes = response.size_bytes
            if response.status != 200 or digest is None or not size_bytes or media_type not in _DOCUMENTS:
                return None
            return Descriptor(media_type, digest, size_bytes)

    def manifest(self, source: Source, version: str, cancellation: Cancellation) -> Document:
        """See `hythe_distribution.registry.Registry.manifest`."""
        step = f"resolve {_name(source, version)}"
        with self._ask(step, "GET", source, f"manifests/{version}", _ACCEPT_DOCUMENTS, cancellation) as response:
            _require_success(step, response, "image")
            raw = response.read_all(MAX_DOCUMENT_BYTES)
            digest, stated = digest_of(raw), _stated_digest(step, response)
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
        """See `hythe_distribution.registry.Registry.open`."""
        step = f"fetch {descriptor.digest} from {source}"
        is_document = descriptor.media_type in _DOCUMENTS
        kind = "manifests" if is_document else "blobs"
        accept = descriptor.media_type if is_document else "*/*"
        end = descriptor.size_bytes if length is None else offset + length
        wanted = f"bytes={offset}-{end - 1}" if offset or length is not None else ""
        response = self._ask(step, "GET", source, f"{kind}/{descriptor.digest}", accept, cancellation, wanted)
        try:
            if wanted and response.status == 206:
                if not response.header("Content-Range").startswith(f"bytes {offset}-{end - 1}/"):
                    raise DataLoss(f"{step}: {response.endpoint} sends another range than was asked for")
                return Blob(response, offset, True)
            _require_success(step, response, "blob")
            _require_match(step, response, descriptor, is_document)
        except BaseException:
            response.close()
            raise
        return Blob(response, 0, False)

    def _ask(
        self,
        step: str,
        method: str,
        source: Source,
        path: str,
        accept: str,
        cancellation: Cancellation,
        wanted: str = "",
    ) -> Response:
        """Ask the registry of `source`, with a token if it wants one."""
        registry = endpoint_of(source)
        response = self._follow(step, method, source, path, accept, cancellation, wanted)
        if response.status != 401 or response.endpoint != registry:
            return response
        with response:
            header = response.header("WWW-Authenticate")
            response.read_front(MAX_PROBLEM_BYTES)
        self._tokens.renew(step, source, registry, header, cancellation)
        return self._follow(step, method, source, path, accept, cancellation, wanted)

    def _follow(
        self,
        step: str,
        method: str,
        source: Source,
        path: str,
        accept: str,
        cancellation: Cancellation,
        wanted: str,
    ) -> Response:
        """Send one request and follow its redirects; the token goes to the registry's own endpoint and nowhere else."""
        registry = endpoint = endpoint_of(source)
        target = f"/v2/{source.repository}/{path}"
        for _ in range(MAX_REDIRECTS + 1):
            headers = {"Accept": accept, "Accept-Encoding": "identity", "User-Agent": f"hythe/{__version__}"}
            if wanted:
                headers["Range"] = wanted
            token = self._tokens.token(registry, source.repository) if endpoint == registry else ""
            if token:
                headers["Authorization"] = f"Bearer {token}"
            response = exchange(step, self._pool, registry, endpoint, method, target, headers, cancellation)
            location = response.header("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            with response:
                response.read_front(MAX_PROBLEM_BYTES)
            endpoint, target = redirected(step, endpoint, target, location)
        raise Unavailable(f"{step}: {registry} redirects more than {MAX_REDIRECTS} times")


class Blob:
    """A body of `hythe_distribution.registry.Body`."""

    def __init__(self, response: Response, offset: int, ranged: bool) -> None:
        self.offset = offset
        self.ranged = ranged
        self._response = response

    def readinto(self, buffer: memoryview) -> int:
        """See `hythe_distribution.registry.Body.readinto`."""
        return self._response.readinto(buffer)

    def __enter__(self) -> Blob:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()


def _require_success(step: str, response: Response, kind: Kind) -> None:
    if response.status != 200:
        body = response.read_front(MAX_PROBLEM_BYTES)
        raise refusal(step, response.endpoint, response.status, body, kind)
    encoding = response.header("Content-Encoding").strip().lower()
    if encoding not in ("", "identity"):
        raise Unavailable(f"{step}: {response.endpoint} sends the bytes encoded as {encoding[:50]!r}, unasked")


def _require_match(step: str, response: Response, descriptor: Descriptor, is_document: bool) -> None:
    size_bytes, stated = response.size_bytes, _stated_digest(step, response)
    if size_bytes is not None and size_bytes != descriptor.size_bytes:
        raise DataLoss(f"{step}: expected {descriptor.size_bytes} bytes, {response.endpoint} offers {size_bytes}")
    if stated is not None and stated != descriptor.digest:
        raise DataLoss(f"{step}: {response.endpoint} offers {stated}")
    media_type = response.header("Content-Type").partition(";")[0].strip().lower()
    if is_document and media_type != descriptor.media_type:
        raise InvalidArgument(
            f"{step}: its descriptor says {descriptor.media_type}, {response.endpoint} says {media_type!r}"
        )


def _stated_digest(step: str, response: Response) -> Digest | None:
    """Return the digest that a registry states; one in another algorithm than sha256 is as good as none."""
    stated = response.header("Docker-Content-Digest").strip()
    if not stated.startswith("sha256:"):
        return None
    try:
        return parse_digest(stated)
    except InvalidArgument as error:
        raise DataLoss(f"{step}: {response.endpoint} states a digest that is none", cause=error.message) from None


def _name(source: Source, version: str) -> str:
    return f"{source}@{version}" if ":" in version else f"{source}:{version}"
