"""Images of which is recorded what containerd makes of them: their layers' archives, lowest first, by a name.

The same on every machine and day; `digest` tells a recording which images it belongs to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from scripts.lab.unpack_cases import breakouts, entries, forms, layers

Case = tuple[bytes, ...]


def all_cases() -> Mapping[str, Case]:
    """Return every case by its name."""
    found: dict[str, Case] = {}
    for module in (layers, entries, forms, breakouts):
        for name, archives in module.cases().items():
            assert name not in found
            found[name] = archives
    return found


def digest(case: Case) -> str:
    """Return sha256 over the archives of a case."""
    whole = hashlib.sha256()
    for archive in case:
        whole.update(hashlib.sha256(archive).digest())
    return whole.hexdigest()
