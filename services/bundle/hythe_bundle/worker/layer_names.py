"""Names that mean something else in a layer: what takes a file away.

Spec: OCI image-spec, "Image Layer Filesystem Changeset", whiteouts.
"""

from __future__ import annotations

from hythe.archive.failures import ArchiveError
from hythe.archive.tar import show

WHITEOUT_PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"


def check_name(path: bytes) -> None:
    """Return if `path` can stand in a layer as it is.

    Raises:
        ArchiveError: its last part would mean that something is taken away.
    """
    if path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
        raise ArchiveError(f"{show(path)} cannot be in a layer: there a name with .wh. in front takes a file away")
