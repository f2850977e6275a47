"""Which concrete classes make up the distribution service; the only module that names them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from hythe.bus.event_stream import sending
from hythe.bus.leases import BusLeases
from hythe.bus.service import Service
from hythe.holding import Holder
from hythe.process_runner import Process
from hythe_distribution.adapters.content_url import open_content
from hythe_distribution.adapters.docker_config import DockerConfig
from hythe_distribution.adapters.http.blobs import BlobRoutes
from hythe_distribution.adapters.http.server import HttpServer
from hythe_distribution.adapters.metadata_names import MetadataNames
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.adapters.verifier_programs import VerifierPrograms
from hythe_distribution.adapters.zstd import load_zstd
from hythe_distribution.archive.storing import INGEST_PREFIX as ARCHIVE_PREFIX
from hythe_distribution.archive_handlers import ArchiveHandlers
from hythe_distribution.artifact_handlers import ArtifactHandlers
from hythe_distribution.artifacts import ArtifactFetcher
from hythe_distribution.bringing import Bringer
from hythe_distribution.catalogue import catalogue
from hythe_distribution.catalogue_handlers import CatalogueHandlers
from hythe_distribution.collecting import Collector
from hythe_distribution.content_check import Checker
from hythe_distribution.content_handlers import ContentHandlers
from hythe_distribution.copying import Copier
from hythe_distribution.documents import drop_unfinished
from hythe_distribution.ensure import Ensurer
from hythe_distribution.fetcher import Fetcher
from hythe_distribution.figures import PrometheusFigures
from hythe_distribution.gc_handlers import GcHandlers
from hythe_distribution.handlers import Handlers
from hythe_distribution.ingest_sessions import IngestSessions
from hythe_distribution.leftovers import Leftovers
from hythe_distribution.login import Logins
from hythe_distribution.names import Naming
from hythe_distribution.namespace_store import Library
from hythe_distribution.publishing import Publisher
from hythe_distribution.pull import Puller
from hythe_distribution.push import Pusher
from hythe_distribution.referrers import Referrers
from hythe_distribution.refetch import Refetcher
from hythe_distribution.register_handlers import RegisterHandlers
from hythe_distribution.registering import Registrar
from hythe_distribution.resolver import Resolver
from hythe_distribution.sending import Sender
from hythe_distribution.tickets import Tickets
from hythe_distribution.transfer_handlers import TransferHandlers
from hythe_distribution.trusting import Hearing, Trustee
from hythe_distribution.watch import Watch
from hythe_distribution.watched import WatchedContent, WatchedRecords
from hythe_distribution.workers import Workers

PARALLEL_UPLOADS = 4
PARALLEL_DOWNLOADS = 4
PARALLEL_QUESTIONS = 16
PARALLEL_LOOKS = 4
PARALLEL_CHECKS = 2
PARALLEL_COLLECTIONS = 2


@asynccontextmanager
async def build(process: Process) -> AsyncIterator[None]:
    """Run the service while the block runs; leaving it stops all transfers and keeps what they have brought."""
    settings = process.settings
    with ExitStack() as at_end:
        stored, owned, trust = open_content(
            settings.content_url,
            settings.root,
            settings.disk_reserve_bytes,
            settings.s3_access_key,
            settings.s3_secret_key,
        )
        at_end.callback(owned.close)
        drop_unfinished(stored, ARCHIVE_PREFIX)
        watch = Watch()
        content, records = WatchedContent(stored, watch), WatchedRecords(owned, watch)
        logins = DockerConfig(Path(settings.docker_config_text))
        registry = HttpRegistry(
            credentials=logins, hosts_dirs=settings.hosts_dirs, token_servers=settings.token_servers
        )
        at_end.callback(registry.close)
        uploads = Workers("upload", PARALLEL_UPLOADS)
        downloads = Workers("download", PARALLEL_DOWNLOADS)
        questions = Workers("question", PARALLEL_QUESTIONS)
        looks = Workers("look", PARALLEL_LOOKS)  # of its own, so that listing a large store holds no pull up
        checks = Workers("check", PARALLEL_CHECKS)
        collections = Workers("collect", PARALLEL_COLLECTIONS)
        for workers in (uploads, downloads, questions, looks, checks, collections):
            at_end.callback(workers.close)
        naming = Naming(MetadataNames(process.bus))
        images = catalogue(naming, content, looks)
        library = Library(stored, owned, watch, settings.snapshotter)
        trustee = Trustee(trust)
        hearing = Hearing(trustee, questions)
        holder = Holder(BusLeases(process.bus, hearing.hear))
        fetcher = Fetcher(registry, content, downloads, questions, PrometheusFigures(process.metrics.registry))
        resolver = Resolver(registry, content, questions)
        bringer = Bringer(fetcher, resolver, questions)
        publisher = Publisher(content, records, questions, library.publish)
        referrers = Referrers(registry, resolver, questions)
        verifiers = settings.verifier_dir_text
        verifier = VerifierPrograms(Path(verifiers)) if verifiers else None
        puller = Puller(resolver, bringer, referrers, content, publisher, naming, verifier, questions)
        sender = Sender(registry, uploads)
        pusher = Pusher(images.lookup, content, publisher, sender, questions)
        copier = Copier(resolver, bringer, referrers, content, publisher, sender, verifier, questions)
        sessions = IngestSessions()
        at_end.callback(sessions.shut_down)
        server = HttpServer(settings.content_listen, Tickets(), settings.host, watch)
        BlobRoutes(content, fetcher, sessions).register(server)
        checker = Checker(content, records, Refetcher(fetcher, resolver, asyncio.get_running_loop()))
        service = Service(process, "distribution", watch.request)
        blobs = ContentHandlers(library, content, fetcher, sessions, checker, server, questions, checks, holder)
        blobs.register(service)
        Handlers(puller, Ensurer(fetcher, resolver, content, questions), blobs.address, holder).register(service)
        TransferHandlers(pusher, copier, referrers, Logins(registry, logins, questions), holder).register(service)
        CatalogueHandlers(images, holder).register(service)
        artifacts = ArtifactFetcher(resolver, bringer, content, publisher, naming, verifier, questions)
        ArtifactHandlers(artifacts, holder).register(service)
        registrar = Registrar(library, content, publisher, images.listing, questions)
        RegisterHandlers(registrar, holder).register(service)
        ArchiveHandlers(library, content, images, server, questions, load_zstd(), holder).register(service)
        leftovers = Leftovers(library, stored, owned, watch, sessions.sweep)
        collector = Collector(library, owned, watch, trustee, leftovers, process.instance)
        GcHandlers(collector, collections).register(service)
        ledger = owned.ledger
        server.start()
        try:
            async with sending(ledger, ledger.on_change, process.bus, ledger.id, settings.host):
                try:
                    await service.start()
                    yield
                finally:
                    await service.stop()
                    await holder.close()
        finally:
            await fetcher.close()
            await asyncio.to_thread(server.close)
