"""Which concrete classes make up the distribution service; the only module that names them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hythe.bus.service import Service
from hythe.process_runner import Process
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.metadata_names import MetadataNames
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.catalogue import catalogue
from hythe_distribution.catalogue_handlers import CatalogueHandlers
from hythe_distribution.documents import drop_unfinished_documents
from hythe_distribution.ensure import Ensurer
from hythe_distribution.fetcher import Fetcher
from hythe_distribution.figures import PrometheusFigures
from hythe_distribution.handlers import Handlers
from hythe_distribution.names import Naming
from hythe_distribution.pull import Puller
from hythe_distribution.resolver import Resolver
from hythe_distribution.workers import Workers

PARALLEL_DOWNLOADS = 4
PARALLEL_QUESTIONS = 16
PARALLEL_LOOKS = 4


@asynccontextmanager
async def build(process: Process) -> AsyncIterator[None]:
    """Run the service while the block runs; leaving it stops all downloads and keeps what they have brought."""
    content = DirectoryContent(process.settings.root / "content", process.settings.disk_reserve_bytes)
    drop_unfinished_documents(content)
    registry = HttpRegistry()
    downloads = Workers("download", PARALLEL_DOWNLOADS)
    questions = Workers("question", PARALLEL_QUESTIONS)
    looks = Workers("look", PARALLEL_LOOKS)  # of its own, so that hashing a large store holds no pull up
    naming = Naming(MetadataNames(process.bus))
    fetcher = Fetcher(registry, content, downloads, questions, PrometheusFigures(process.metrics.registry))
    resolver = Resolver(registry, content)
    puller = Puller(resolver, fetcher, content, naming, questions)
    ensurer = Ensurer(fetcher, resolver, content, questions)
    service = Service(process, "distribution")
    Handlers(puller, ensurer).register(service)
    CatalogueHandlers(catalogue(naming, content, looks)).register(service)
    await service.start()
    try:
        yield
    finally:
        await service.stop()
        await fetcher.close()
        downloads.close()
        questions.close()
        looks.close()
        registry.close()
