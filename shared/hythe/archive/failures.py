"""Why a layer could not be applied, in the few kinds that the parent tells apart."""

from __future__ import annotations


class ArchiveError(Exception):
    """The archive is broken, hostile or of a form that Hythe refuses; the text names the entry and the reason."""

    kind = "archive"


class DamagedError(Exception):
    """The archive or its compressed stream ends too early, or does not decompress: bytes are missing or damaged."""

    kind = "damaged"


class LimitError(Exception):
    """The layer is larger than a limit allows: bytes, entries, path length or compression ratio."""

    kind = "limit"


class ReserveError(Exception):
    """Going on would leave less free space than the reserve."""

    kind = "space"
