"""Requests about single blobs and ingests: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

import asyncio
from itertools import islice

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.clock import rfc3339_of
from hythe.digest import Digest, parse_digest
from hythe.holding import Holder
from hythe.ports.content import Content, IngestStatus
from hythe.ports.leases import Referred
from hythe.ports.namespace_content import LabelledBlob
from hythe.wire import content as wire
from hythe.wire.base import Empty
from hythe_distribution.adapters.http.server import HttpServer
from hythe_distribution.blob_source import InFlight, open_blob
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.content_check import Checker, Finding
from hythe_distribution.ingest_sessions import IngestSessions
from hythe_distribution.namespace_store import Library
from hythe_distribution.tickets import LIFETIME_S
from hythe_distribution.workers import Workers

SESSION_LIFETIME_S = 86_400.0


class ContentHandlers:
    """The endpoints of blobs and ingests."""

    def __init__(
        self,
        library: Library,
        content: Content,
        flights: InFlight,
        sessions: IngestSessions,
        checker: Checker,
        server: HttpServer,
        workers: Workers,
        checks: Workers,
        holder: Holder,
    ) -> None:
        """Answer questions in threads of `workers`; what reads whole stores has `checks` for itself."""
        self._library = library
        self._content = content
        self._flights = flights
        self._sessions = sessions
        self._checker = checker
        self._server = server
        self._workers = workers
        self._checks = checks
        self._holder = holder

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("content", "info", wire.ContentInfoGet, self.content_info, scope="host")
        service.unary("content", "list", wire.ContentList, self.content_list, scope="host")
        service.unary("content", "open", wire.ContentOpen, self.content_open, scope="host")
        service.unary("content", "label", wire.ContentLabel, self.content_label, scope="host")
        service.unary("content", "remove", wire.ContentRemove, self.content_remove, scope="host")
        service.operation("content", "check", wire.ContentCheck, self.content_check, scope="host", abandoned="cancel")
        service.unary("ingest", "open", wire.IngestOpen, self.ingest_open, scope="host")
        service.unary("ingest", "commit", wire.IngestCommit, self.ingest_commit, scope="host")
        service.unary("ingest", "close", wire.IngestClose, self.ingest_close, scope="host")
        service.unary("ingest", "get", wire.IngestGet, self.ingest_get, scope="host")
        service.unary("ingest", "list", wire.IngestList, self.ingest_list, scope="host")
        service.unary("ingest", "abort", wire.IngestAbort, self.ingest_abort, scope="host")

    async def content_info(self, context: Context, request: wire.ContentInfoGet) -> wire.ContentInfo:
        """Answer ``content.info``."""
        content = self._library.of(context.namespace)
        return _info(await self._workers.run(None, content.info, parse_digest(request.digest)))

    async def content_list(self, context: Context, request: wire.ContentList) -> wire.ContentPage:
        """Answer ``content.list``."""
        content = self._library.of(context.namespace)

        def page() -> list[LabelledBlob]:
            blobs = content.walk(request.filters, after=request.after)
            return list(islice(blobs, request.limit + 1))

        found = await self._workers.run(None, page)
        shown = found[: request.limit]
        more = str(shown[-1].digest) if len(found) > len(shown) else ""
        return wire.ContentPage(blobs=[_info(blob) for blob in shown], next=more)

    async def content_open(self, context: Context, request: wire.ContentOpen) -> wire.ContentAddress:
        """Answer ``content.open``: the store's own address where it serves readers itself, else this process's."""
        digest = parse_digest(request.digest)
        content = self._library.of(context.namespace)

        def address() -> wire.ContentAddress:
            if request.in_flight:
                with open_blob(self._content, self._flights, digest) as blob:
                    size_bytes = blob.size_bytes
            else:
                size_bytes = content.info(digest).size_bytes
            url = "" if request.in_flight else self._content.presign(digest, LIFETIME_S)
            url = url or self._server.address("GET", "blobs", str(digest))
            return wire.ContentAddress(url=url, size_bytes=size_bytes, lifetime_s=LIFETIME_S)

        return await self._workers.run(None, address)

    async def address(self, digest: Digest) -> str:
        """Return a URL for one GET of a whole blob: the store's own where it serves readers itself, else this process's.

        Raises:
            NotFound: it isn't here.
        """
        url = await self._workers.run(None, self._content.presign, digest, LIFETIME_S)
        return url or self._server.address("GET", "blobs", str(digest))

    async def content_label(self, context: Context, request: wire.ContentLabel) -> wire.ContentInfo:
        """Answer ``content.label``."""
        content = self._library.of(context.namespace)
        return _info(await self._workers.run(None, content.label, parse_digest(request.digest), request.labels))

    async def content_remove(self, context: Context, request: wire.ContentRemove) -> Empty:
        """Answer ``content.remove``."""
        await self._workers.run(None, self._library.of(context.namespace).delete, parse_digest(request.digest))
        return Empty()

    async def content_check(
        self, context: Context, request: wire.ContentCheck, progress: Progress
    ) -> wire.ContentChecked:
        """Answer ``content.check``."""
        digests = [parse_digest(digest) for digest in request.digests]
        blobs = await self._workers.run(None, self._checker.plan, context.namespace, digests)
        total_bytes = sum(blob.size_bytes for blob in blobs)
        loop = asyncio.get_running_loop()
        cancellation = Cancellation()

        def report(done_blobs: int, done_bytes: int) -> None:
            news = wire.ContentCheckProgress(
                done_blobs=done_blobs, total_blobs=len(blobs), done_bytes=done_bytes, total_bytes=total_bytes
            )
            loop.call_soon_threadsafe(progress, news)

        async with self._holder.hold(context.namespace, context.request_id) as held:

            def refer(digest: Digest) -> None:
                asyncio.run_coroutine_threadsafe(held.refer([Referred(digest)]), loop).result()

            def work() -> list[Finding]:
                return list(
                    self._checker.check(
                        blobs, repair=request.repair, refer=refer, cancellation=cancellation, report=report
                    )
                )

            findings = await self._checks.run(cancellation, work)
        return wire.ContentChecked(
            blobs=len(blobs), size_bytes=total_bytes, findings=[_finding(finding) for finding in findings]
        )

    async def ingest_open(self, context: Context, request: wire.IngestOpen) -> wire.IngestOpened:
        """Answer ``ingest.open``."""
        session, offset = await self._workers.run(
            None,
            self._sessions.open,
            self._library.of(context.namespace),
            context.namespace,
            request.reference,
            total_bytes=request.total_bytes,
            expected=_optional(request.expected),
            resume=request.resume,
        )
        url = self._server.address("PATCH", "ingests", session, repeatable=True, lifetime_s=SESSION_LIFETIME_S)
        return wire.IngestOpened(session=session, url=url, offset=offset)

    async def ingest_commit(self, context: Context, request: wire.IngestCommit) -> wire.ContentInfo:
        """Answer ``ingest.commit``."""
        expected = _optional(request.expected)
        blob = await self._workers.run(
            None,
            self._sessions.commit,
            context.namespace,
            request.session,
            expected,
            request.size_bytes,
            request.labels,
        )
        return _info(blob)

    async def ingest_close(self, context: Context, request: wire.IngestClose) -> Empty:
        """Answer ``ingest.close``."""
        await self._workers.run(None, self._sessions.close, context.namespace, request.session, abort=request.abort)
        return Empty()

    async def ingest_get(self, context: Context, request: wire.IngestGet) -> wire.IngestState:
        """Answer ``ingest.get``."""
        return _state(await self._workers.run(None, self._library.of(context.namespace).status, request.reference))

    async def ingest_list(self, context: Context, request: wire.IngestList) -> wire.IngestPage:
        """Answer ``ingest.list``."""
        content = self._library.of(context.namespace)
        every = await self._workers.run(None, lambda: list(content.ingests()))
        rest = [status for status in every if status.reference > request.after]
        shown = rest[: request.limit]
        more = shown[-1].reference if len(rest) > len(shown) else ""
        return wire.IngestPage(ingests=[_state(status) for status in shown], next=more)

    async def ingest_abort(self, context: Context, request: wire.IngestAbort) -> Empty:
        """Answer ``ingest.abort``."""
        content = self._library.of(context.namespace)
        await self._workers.run(None, self._sessions.abort, content, request.reference)
        return Empty()


def _optional(digest: str | None) -> Digest | None:
    return parse_digest(digest) if digest else None


def _info(blob: LabelledBlob) -> wire.ContentInfo:
    return wire.ContentInfo(
        digest=str(blob.digest),
        size_bytes=blob.size_bytes,
        created_at=rfc3339_of(blob.created_ns),
        updated_at=rfc3339_of(blob.updated_ns),
        labels=dict(blob.labels),
    )


def _state(status: IngestStatus) -> wire.IngestState:
    return wire.IngestState(
        reference=status.reference,
        offset=status.offset,
        total_bytes=status.total_bytes,
        started_at=rfc3339_of(status.started_ns),
        updated_at=rfc3339_of(status.updated_ns),
    )


def _finding(finding: Finding) -> wire.ContentFinding:
    return wire.ContentFinding(
        digest=str(finding.digest), state=finding.state, cause=finding.cause, source=finding.source
    )
