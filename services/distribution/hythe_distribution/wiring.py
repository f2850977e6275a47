"""Which concrete classes make up the distribution service; the only module that names them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hythe.bus.service import Service
from hythe.process_runner import Process
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.docker_config import DockerConfig
from hythe_distribution.adapters.http.blobs import BlobRoutes
from hythe_distribution.adapters.http.server import HttpServer
from hythe_distribution.adapters.metadata_names import MetadataNames
from hythe_distribution.adapters.records_sqlite import SqliteRecords
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.adapters.verifier_programs import VerifierPrograms
from hythe_distribution.bringing import Bringer
from hythe_distribution.content_check import Checker
from hythe_distribution.content_handlers import ContentHandlers
from hythe_distribution.copying import Copier
from hythe_distribution.documents import drop_unfinished_documents
from hythe_distribution.ensure import Ensurer
from hythe_distribution.fetcher import Fetcher
from hythe_distribution.figures import PrometheusFigures
from hythe_distribution.handlers import Handlers
from hythe_distribution.ingest_sessions import IngestSessions
from hythe_distribution.login import Logins
from hythe_distribution.namespace_store import Library
from hythe_distribution.publishing import Publisher
from hythe_distribution.pull import Puller
from hythe_distribution.push import Pusher
from hythe_distribution.referrers import Referrers
from hythe_distribution.refetch import Refetcher
from hythe_distribution.resolver import Resolver
from hythe_distribution.sending import Sender
from hythe_distribution.tickets import Tickets
from hythe_distribution.transfer_handlers import TransferHandlers
from hythe_distribution.workers import Workers

PARALLEL_DOWNLOADS = 4
PARALLEL_UPLOADS = 4
PARALLEL_QUESTIONS = 16
PARALLEL_CHECKS = 2


@asynccontextmanager
async def build(process: Process) -> AsyncIterator[None]:
    """Run the service while the block runs; leaving it stops all downloads and keeps what they have brought."""
    content = DirectoryContent(process.settings.root / "content", process.settings.disk_reserve_bytes)
    drop_unfinished_documents(content)
    logins = DockerConfig(Path(process.settings.docker_config_text))
    registry = HttpRegistry(
        credentials=logins,
        hosts_dirs=process.settings.hosts_dirs,
        token_servers=process.settings.token_servers,
    )
    uploads = Workers("upload", PARALLEL_UPLOADS)
    downloads = Workers("download", PARALLEL_DOWNLOADS)
    questions = Workers("question", PARALLEL_QUESTIONS)
    names = MetadataNames(process.bus)
    fetcher = Fetcher(registry, content, downloads, questions, PrometheusFigures(process.metrics.registry))
    records = SqliteRecords(process.settings.root / "content" / "records.db")
    library = Library(content, records)
    resolver = Resolver(registry, content, questions)
    bringer = Bringer(fetcher, resolver, questions)
    publisher = Publisher(content, records, questions, library.publish)
    referrers = Referrers(registry, resolver, questions)
    verifiers = process.settings.verifier_dir_text
    verifier = VerifierPrograms(Path(verifiers)) if verifiers else None
    puller = Puller(resolver, bringer, referrers, content, publisher, names, verifier, questions)
    sender = Sender(registry, uploads)
    pusher = Pusher(names, content, publisher, sender, questions)
    copier = Copier(resolver, bringer, referrers, content, publisher, sender, verifier, questions)
    ensurer = Ensurer(fetcher, resolver, content, questions)
    sessions = IngestSessions()
    server = HttpServer(process.settings.content_listen, Tickets(), process.settings.host)
    BlobRoutes(content, fetcher, sessions).register(server)
    checks = Workers("check", PARALLEL_CHECKS)
    checker = Checker(content, records, Refetcher(fetcher, resolver, asyncio.get_running_loop()))
    service = Service(process, "distribution")
    Handlers(puller, ensurer).register(service)
    TransferHandlers(pusher, copier, referrers, Logins(registry, logins, questions)).register(service)
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
        for workers in (uploads, downloads, questions, checks):
            workers.close()
        registry.close()
        records.close()
