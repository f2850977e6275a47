"""Which manifests are about another one: asked of the registry's referrers API, else of the tag that stands in for it."""

from __future__ import annotations

import re
from urllib.parse import quote

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import PermissionDenied, ResourceExhausted
from hythe.oci import Descriptor, media_types, parse_descriptor
from hythe.oci.fields import MAX_DOCUMENT_BYTES, MAX_ITEMS
from hythe_distribution.adapters.registry.asking import Asking
from hythe_distribution.adapters.registry.bodies import media_type_of
from hythe_distribution.adapters.registry.conversation import require_status
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES
from hythe_distribution.adapters.registry.referrers_tag import read_index, referrers_tag
from hythe_distribution.adapters.registry.response import Response
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Endpoint, Source, redirected

MAX_PAGES = 50

_LINK = re.compile(r"<([^<>]*)>([^<>]*)")
_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"(?:[^\"]*\s)?next(?:\s[^\"]*)?\"|next\s*(?:[;,]|$))", re.IGNORECASE)
_NO_SUCH_API = (400, 404, 405, 406, 501)


def referrers(
    asking: Asking, source: Source, digest: Digest, artifact_type: str, cancellation: Cancellation
) -> tuple[Descriptor, ...]:
    """See `hythe_distribution.registry.Registry.referrers`; each manifest is named once.

    Raises:
        InvalidArgument: what the tag points to is no index, or an entry is no descriptor.
        PermissionDenied: the next page is on another server.
        ResourceExhausted: more than 50 pages, 10 000 manifests or 4 MiB in all.
    """
    with tracing.span("referrers", oci__manifest__digest=str(digest)) as span:
        search = _Search(asking, source, digest, artifact_type, cancellation)
        by_api = search.ask_api()
        if not by_api:
            search.ask_tag()
        span.set("hythe.referrers_tag", not by_api)
        span.set("hythe.referrers", len(search.found))
        return tuple(search.found.values())


class _Search:
    """What was found so far about one manifest."""

    def __init__(
        self, asking: Asking, source: Source, digest: Digest, artifact_type: str, cancellation: Cancellation
    ) -> None:
        self.found: dict[Digest, Descriptor] = {}
        self._asking = asking
        self._source = source
        self._digest = digest
        self._artifact_type = artifact_type
        self._cancellation = cancellation
        self._step = f"list what refers to {source}@{digest}"
        self._bytes = 0

    def ask_api(self) -> bool:
        """List by the referrers API; False when the registry has none.

        Spec: OCI distribution-spec, "Listing Referrers".
        """
        query = f"?artifactType={quote(self._artifact_type, safe='')}" if self._artifact_type else ""
        path = f"referrers/{self._digest}"
        response, target = self._get(f"{path}{query}"), f"/v2/{self._source.repository}/{path}"
        for page in range(1, MAX_PAGES + 1):
            with response:
                if page == 1 and not self._is_index(response):
                    return False
                require_status(self._step, response, (200,), "image")
                self._add(response)
                following = self._next_page(response, target)
            if following is None:
                return True
            if page < MAX_PAGES:
                endpoint, target = following
                response = self._asking.ask_at(
                    self._step,
                    "GET",
                    self._source,
                    endpoint,
                    f"{endpoint}{target}",
                    self._cancellation,
                    accept=media_types.OCI_INDEX,
                    capability="resolve",
                )
        raise ResourceExhausted(f"{self._step}: {self._source.host} lists them on more than {MAX_PAGES} pages")

    def ask_tag(self) -> None:
        """List by the tag; nothing where there is no such tag.

        Spec: OCI distribution-spec, "Unavailable Referrers API".
        """
        with self._get(f"manifests/{referrers_tag(self._digest)}") as response:
            if response.status == 404:
                response.read_front(MAX_PROBLEM_BYTES)
                return
            require_status(self._step, response, (200,), "image")
            self._add(response)

    def _get(self, path: str) -> Response:
        return self._asking.ask(
            self._step,
            "GET",
            self._source,
            path,
            self._cancellation,
            accept=media_types.OCI_INDEX,
            capability="resolve",
        )

    def _is_index(self, response: Response) -> bool:
        if response.status in _NO_SUCH_API:
            response.read_front(MAX_PROBLEM_BYTES)
            return False
        require_status(self._step, response, (200,), "image")
        return media_type_of(response) == media_types.OCI_INDEX

    def _add(self, response: Response) -> None:
        """Take in what is of the type asked for; a registry that says that it has filtered is believed."""
        raw = response.read_all(MAX_DOCUMENT_BYTES)
        self._bytes += len(raw)
        filtered = "artifacttype" in re.split(r"[\s,]+", response.header("OCI-Filters-Applied").lower())
        for fields in read_index(self._step, raw):
            one = parse_descriptor(fields)
            if filtered or self._artifact_type in ("", one.artifact_type):
                self.found.setdefault(one.digest, one)
        if self._bytes > MAX_DOCUMENT_BYTES or len(self.found) > MAX_ITEMS:
            limits = f"{MAX_DOCUMENT_BYTES} bytes or {MAX_ITEMS} manifests"
            raise ResourceExhausted(f"{self._step}: {response.endpoint} lists more than {limits}")

    def _next_page(self, response: Response, target: str) -> tuple[Endpoint, str] | None:
        """Return where the next page is by the ``Link`` header; None on the last.

        Raises:
            PermissionDenied: it is on another server.

        Spec: RFC 8288, 3; OCI distribution-spec, "Listing Referrers".
        """
        for url, parameters in _LINK.findall(response.header("Link")):
            if _NEXT.search(parameters):
                endpoint, following = redirected(self._step, response.endpoint, target, url)
                if endpoint != response.endpoint:
                    message = f"{self._step}: {response.endpoint} has its next page on another server"
                    raise PermissionDenied(message, cause=str(endpoint))
                return endpoint, following
        return None
