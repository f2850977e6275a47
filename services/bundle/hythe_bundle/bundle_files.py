"""The port of bundles' directories: files for the runtime and the agent, derived from the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hythe_bundle import id_maps


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle; a `shared` one can be read by every user of the container that it is bound into.

    Attributes:
        owner: user and group of the host.
    """

    text: str
    shared: bool
    owner: tuple[int, int] = id_maps.ROOT


class BundleFiles(Protocol):
    """The directories of bundles. All but `path` block: call them in a thread."""

    def path(self, namespace: str, container_id: str) -> Path:
        """Return where a bundle lies.

        Raises:
            InvalidArgument: namespace or id breaks its rule, so that it could be no name of a directory.
        """

    def write(self, path: Path, files: Mapping[str, BundleFile]) -> None:
        """Make the directory with ``rootfs`` and these files in it, or make again what is missing or other than this.

        Raises:
            ResourceExhausted: the disk is full; nothing is left behind.
        """

    def check_unmounted(self, path: Path) -> None:
        """Return if nothing is mounted in the directory.

        Raises:
            FailedPrecondition: something is.
        """

    def remove(self, path: Path) -> None:
        """Remove the directory; nothing happens if it isn't there. `check_unmounted` comes first."""

    def keep_only(self, paths: set[Path]) -> None:
        """Remove all other bundles, but for those in which something is mounted."""
