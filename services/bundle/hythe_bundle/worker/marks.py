"""Marks that take a file away: names that mean it in a layer's archive, and what overlayfs has for it on a disk.

Spec: OCI image-spec, "Image Layer Filesystem Changeset", whiteouts; Linux, Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import stat

from hythe.archive.failures import ArchiveError
from hythe.archive.tar import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

WHITEOUT_PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"


def is_whiteout(found: os.stat_result) -> bool:
    """Tell whether this is overlayfs's mark for: nothing is here, whatever lies below."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def check_name(path: bytes) -> None:
    """Return if `path` can stand in a layer as it is.

    Raises:
        ArchiveError: its last part would mean that something is taken away.
    """
    if path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
        raise ArchiveError(f"{show(path)} cannot be in a layer: there a name with .wh. in front takes a file away")
