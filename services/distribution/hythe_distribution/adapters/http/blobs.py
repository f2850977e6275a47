"""``GET blobs/<digest>`` and ``PATCH ingests/<session>``: bytes of single blobs out and in."""

from __future__ import annotations

import json

from hythe.digest import parse_digest
from hythe.ports.content import Content
from hythe_distribution.adapters.http.request import Request
from hythe_distribution.adapters.http.server import HttpServer
from hythe_distribution.blob_source import InFlight, open_blob
from hythe_distribution.ingest_sessions import IngestSessions


class BlobRoutes:
    """The routes of single blobs."""

    def __init__(self, content: Content, flights: InFlight, sessions: IngestSessions) -> None:
        self._content = content
        self._flights = flights
        self._sessions = sessions

    def register(self, server: HttpServer) -> None:
        """Add the routes to `server`."""
        server.route("GET", "blobs", self.read)
        server.route("PATCH", "ingests", self.write)

    def read(self, request: Request) -> None:
        """Send a blob or a range of it, from the store or following its download.

        Raises:
            NotFound, OutOfRange: there is no such blob or range.

        Spec: RFC 9110, section 14.
        """
        digest = parse_digest(request.name)
        with open_blob(self._content, self._flights, digest) as blob:
            offset, end, partial = request.range(blob.size_bytes)
            headers = {
                "Content-Type": "application/octet-stream",
                "Accept-Ranges": "bytes",
                "ETag": f'"{digest}"',
                "Docker-Content-Digest": str(digest),
            }
            if partial:
                headers["Content-Range"] = f"bytes {offset}-{end - 1}/{blob.size_bytes}"
            if blob.fd >= 0:
                request.send_file(blob.fd, offset, end, headers, partial=partial)
            else:
                request.send_chunks(blob.read(offset, end), headers, size_bytes=end - offset, partial=partial)

    def write(self, request: Request) -> None:
        """Append the body to an open ingest at the offset that ``Content-Range`` names; answers the new offset.

        Raises:
            HytheError: see `IngestSessions.write`.
        """
        offset = self._sessions.write(request.name, request.content_offset(), request.body.chunks())
        request.answer(200, json.dumps({"offset": offset}).encode())
