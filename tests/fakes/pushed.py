"""The half of a `FakeRegistry` that takes blobs and manifests in, keeps count of its uploads, and lists referrers."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from scripts.lab.images import OCI_INDEX, Blob, digest_text, encode
from tests.fakes.answers import Answer

_UPLOADS = re.compile(r"/v2/(.+)/blobs/uploads/([^/]*)")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")
_REFERRERS = re.compile(r"/v2/(.+)/referrers/(sha256:[0-9a-f]{64})")
_CONTENT_RANGE = re.compile(r"(\d+)-(\d+)")


class Pushed:
    """What was pushed to a registry, and how it answers those who push.

    Attributes:
        blobs: bytes by repository and digest.
        manifests: documents by repository and tag or digest.
        uploads: bytes so far by the id of each upload that is open.
        referrers_api: list referrers and say so; else clients keep the referrers tag.
        filters: apply ``artifactType``, and say so.
        page_size: referrers on a page.
        etags: give an ETag with manifests, and heed If-Match.
        least_chunk_bytes: asked of those who upload in chunks; 0 asks nothing.
    """

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], Blob] = {}
        self.uploads: dict[str, bytearray] = {}
        self.referrers_api = False
        self.filters = False
        self.page_size = 1000
        self.etags = False
        self.least_chunk_bytes = 0
        self._cuts: list[int] = []
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)

    def cut_after(self, *sizes_bytes: int) -> None:
        """Break the connection of each of the next uploads in the middle: keep so many bytes of its body, then hang up."""
        with self._lock:
            self._cuts += sizes_bytes

    def open_upload(self) -> str:
        """Begin an upload and return its id."""
        with self._lock:
            upload = f"upload-{next(self._numbers)}"
            self.uploads[upload] = bytearray()
            return upload

    def bytes_to_keep(self, target: str, length: int) -> int | None:
        """Return after how many bytes of this request's body to hang up; None to take it as it is."""
        with self._lock:
            if length and _UPLOADS.fullmatch(urlsplit(target).path) and self._cuts:
                return self._cuts.pop(0)
            return None

    def keep(self, target: str, body: bytes) -> None:
        """Keep the front of a body whose rest never came."""
        found = _UPLOADS.fullmatch(urlsplit(target).path)
        with self._lock:
            if found and found[2] in self.uploads:
                self.uploads[found[2]] += body

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """Return what a good registry would say; None to a request that isn't about pushing or referrers."""
        parts = urlsplit(target)
        with self._lock:
            if found := _UPLOADS.fullmatch(parts.path):
                return self._upload(method, found[1], found[2], parts, headers, body)
            if method == "PUT" and (found := _MANIFEST.fullmatch(parts.path)):
                return self._put_manifest(found[1], found[2], headers, body)
            if method == "GET" and self.referrers_api and (found := _REFERRERS.fullmatch(parts.path)):
                return self._list_referrers(found[1], found[2], parse_qs(parts.query))
            return None

    def _upload(
        self, method: str, repository: str, upload: str, parts: SplitResult, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if method == "POST":
            mounted = self.blobs.get((query.get("from", ""), query.get("mount", "")))
            if mounted is not None:
                self.blobs[repository, query["mount"]] = mounted
                return Answer(201, b"", {"Docker-Content-Digest": query["mount"]})
            return self._state(202, repository, self.open_upload())
        held = self.uploads.get(upload)
        if held is None:
            return problem(404, "BLOB_UPLOAD_UNKNOWN")
        if method == "DELETE":
            del self.uploads[upload]
            return Answer(204)
        if method == "GET":
            return self._state(204, repository, upload)
        content_range = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        if method == "PATCH" and (content_range is None or int(content_range[1]) != len(held)):
            return self._state(416, repository, upload)
        held += body
        if method == "PATCH":
            return self._state(202, repository, upload)
        if digest_text(bytes(held)) != query.get("digest"):
            return problem(400, "DIGEST_INVALID")
        self.blobs[repository, query["digest"]] = bytes(self.uploads.pop(upload))
        return Answer(201, b"", {"Docker-Content-Digest": query["digest"]})

    def _state(self, status: int, repository: str, upload: str) -> Answer:
        held = len(self.uploads[upload])
        headers = {
            "Location": f"/v2/{repository}/blobs/uploads/{upload}?held={held}",
            "Range": f"0-{max(0, held - 1)}",
        }
        if self.least_chunk_bytes:
            headers["OCI-Chunk-Min-Length"] = str(self.least_chunk_bytes)
        return Answer(status, b"", headers)

    def _put_manifest(self, repository: str, reference: str, headers: Mapping[str, str], body: bytes) -> Answer:
        old = self.manifests.get((repository, reference))
        if self.etags and "if-match" in headers and (old is None or headers["if-match"] != f'"{old.digest}"'):
            return problem(412, "PRECONDITION_FAILED")
        try:
            document: dict[str, Any] = json.loads(body)
        except ValueError:
            return problem(400, "MANIFEST_INVALID")
        blob = Blob(body, headers.get("content-type", ""))
        self.manifests[repository, reference] = self.manifests[repository, blob.digest] = blob
        stored = {"Docker-Content-Digest": blob.digest}
        if self.referrers_api and "subject" in document:
            stored["OCI-Subject"] = document["subject"]["digest"]
        return Answer(201, b"", stored)

    def _list_referrers(self, repository: str, subject: str, query: Mapping[str, list[str]]) -> Answer:
        entries = []
        for (owner, reference), blob in self.manifests.items():
            document = json.loads(blob.data)
            if (
                owner == repository
                and reference == blob.digest
                and document.get("subject", {}).get("digest") == subject
            ):
                artifact_type = document.get("artifactType", "")
                entries.append(blob.descriptor(artifactType=artifact_type, annotations=document.get("annotations", {})))
        wanted = query.get("artifactType", [""])[0]
        headers = {"Content-Type": OCI_INDEX}
        if self.filters and wanted:
            entries = [entry for entry in entries if entry["artifactType"] == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        first = int(query.get("first", ["0"])[0])
        following = first + self.page_size
        if following < len(entries):
            extra = f"&artifactType={quote(wanted, safe='')}" if wanted else ""
            headers["Link"] = f'</v2/{repository}/referrers/{subject}?first={following}{extra}>; rel="next"'
        page = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries[first:following]}
        return Answer(200, encode(page), headers)


def problem(status: int, code: str) -> Answer:
    """Return a registry's error document."""
    body = encode({"errors": [{"code": code, "message": "not so"}]})
    return Answer(status, body, {"Content-Type": "application/json"})
