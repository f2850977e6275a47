"""Everything that can be asked about the names of images, put together."""

from __future__ import annotations

from dataclasses import dataclass

from hythe.ports.content import Content
from hythe_distribution.checking import Checker
from hythe_distribution.history import Historian
from hythe_distribution.inspection import Inspector
from hythe_distribution.listing import Listing
from hythe_distribution.lookup import Lookup
from hythe_distribution.names import Naming
from hythe_distribution.parsed import Documents
from hythe_distribution.pruning import Pruner
from hythe_distribution.reader import ImageReader
from hythe_distribution.removal import Remover
from hythe_distribution.usage import Accountant
from hythe_distribution.workers import Workers


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The parts, which share one lookup and what is remembered of documents. Made by `catalogue`."""

    lookup: Lookup
    listing: Listing
    remover: Remover
    inspector: Inspector
    historian: Historian
    checker: Checker
    accountant: Accountant
    pruner: Pruner


def catalogue(naming: Naming, content: Content, workers: Workers) -> Catalogue:
    """Return the catalogue of the images that `naming` knows, as far as they are in `content`; it blocks in `workers` alone."""
    reader = ImageReader(content, Documents(content), workers)
    lookup = Lookup(naming, reader)
    accountant = Accountant(naming, reader, content, workers)
    return Catalogue(
        lookup,
        Listing(naming, lookup, reader),
        Remover(naming, lookup),
        Inspector(naming, lookup, reader),
        Historian(lookup, reader),
        Checker(naming, lookup, reader, content, workers),
        accountant,
        Pruner(naming, accountant),
    )
