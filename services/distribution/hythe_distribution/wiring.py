"""Which concrete classes make up the distribution service; the only module that names them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hythe.bus.service import Service
from hythe.process_runner import Process
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.http.blobs import BlobRoutes
from hythe_distribution.adapters.http.server import HttpServer
from hythe_distribution.adapters.metadata_names import MetadataNames
from hythe_distribution.adapters.records_sqlite import SqliteRecords
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.content_check import Checker
from hythe_distribution.content_handlers import ContentHandlers
from hythe_distribution.documents import drop_unfinished_documents
from hythe_distribution.ensure import Ensurer
from hythe_distribution.fetcher import Fetcher
from hythe_distribution.figures import PrometheusFigures
from hythe_distribution.handlers import Handlers
from hythe_distribution.ingest_sessions import IngestSessions
from hythe_distribution.namespace_store import Library
from hythe_distribution.pull import Puller
from hythe_distribution.refetch import Refetcher
from hythe_distribution.resolver import Resolver
from hythe_distribution.tickets import Tickets
from hythe_distribution.workers import Workers

PARALLEL_DOWNLOADS = 4
PARALLEL_QUESTIONS = 16
PARALLEL_CHECKS = 2


@asynccontextmanager
async def build(process: Process) -> AsyncIterator[None]:
    """Run the service while the block runs; leaving it stops all downloads and keeps what they have brought."""
    content = DirectoryContent(process.settings.root / "content", process.settings.disk_reserve_bytes)
    drop_unfinished_documents(content)
    registry = HttpRegistry()
    downloads = Workers("download", PARALLEL_DOWNLOADS)
    questions = Workers("question", PARALLEL_QUESTIONS)
    names = MetadataNames(process.bus)
    fetcher = Fetcher(registry, content, downloads, questions, PrometheusFigures(process.metrics.registry))
    resolver = Resolver(registry, content)
    puller = Puller(resolver, fetcher, content, names, questions)
    ensurer = Ensurer(fetcher, resolver, content, questions)
    records = SqliteRecords(process.settings.root / "content" / "records.db")
    library = Library(content, records)
    sessions = IngestSessions()
    server = HttpServer(process.settings.content_listen, Tickets(), process.settings.host)
    BlobRoutes(content, fetcher, sessions).register(server)
    checks = Workers("check", PARALLEL_CHECKS)
    checker = Checker(content, records, Refetcher(fetcher, resolver, asyncio.get_running_loop()))
    service = Service(process, "distribution")
    Handlers(puller, ensurer, content, names, questions).register(service)
    ContentHandlers(library, content, fetcher, sessions, checker, server, questions, checks).register(service)
    server.start()
    await service.start()
    try:
        yield
    finally:
        await service.stop()
        await fetcher.close()
        await asyncio.to_thread(server.close)
        sessions.shut_down()
        for workers in (downloads, questions, checks):
            workers.close()
        registry.close()
        records.close()
