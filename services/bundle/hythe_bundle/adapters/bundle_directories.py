"""Bundles on disk: ``bundles/<namespace>/<id>`` with the runtime's and the agent's files and the mount point ``rootfs``."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from hythe.errors import FailedPrecondition
from hythe.identifiers import check_id, check_namespace
from hythe.linux import mountinfo
from hythe_bundle.adapters import disk_errors
from hythe_bundle.adapters.removal import remove_tree
from hythe_bundle.bundle_files import BundleFile

log = logging.getLogger(__name__)

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class BundleDirectories:
    """Keeps the promises of `hythe_bundle.bundle_files.BundleFiles`. All directories are for root alone (CVE-2021-41103)."""

    def __init__(self, root: Path) -> None:
        """Keep bundles below `root`/bundles."""
        self._root = root
        self._directory = root / "bundles"
        self._directory.mkdir(mode=0o700, exist_ok=True)

    def path(self, namespace: str, container_id: str) -> Path:
        """See `BundleFiles.path`."""
        return self._directory / check_namespace(namespace) / check_id(container_id, "container id")

    def write(self, path: Path, files: Mapping[str, BundleFile]) -> None:
        """See `BundleFiles.write`."""
        fresh = not path.exists()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (path / "rootfs").mkdir(mode=0o700, exist_ok=True)
            for name, file in files.items():
                if fresh or not _is_written(path / name, file):
                    _write(path / name, file)
        except OSError as error:
            if fresh:
                remove_tree(path)
            raise disk_errors.of_os(error, "write bundle", self._root) from error

    def check_unmounted(self, path: Path) -> None:
        """See `BundleFiles.check_unmounted`."""
        if point := mountinfo.mounted_below(path):
            raise FailedPrecondition(
                f"remove bundle {path.name}: {point} is mounted", next_step=f"stop the container, then unmount {point}"
            )

    def remove(self, path: Path) -> None:
        """See `BundleFiles.remove`."""
        with disk_errors.translated("remove bundle", self._root):
            remove_tree(path)

    def keep_only(self, paths: set[Path]) -> None:
        """See `BundleFiles.keep_only`."""
        for path in self._directory.glob("*/*"):
            if path in paths:
                continue
            try:
                self.check_unmounted(path)
                self.remove(path)
                log.info("removed a bundle without a record", extra={"bundle": str(path)})
            except FailedPrecondition as error:
                log.warning("kept a bundle without a record: %s", error.message)


def _is_written(path: Path, file: BundleFile) -> bool:
    """Tell whether a file is there with its text; a shared one is the container's to change once it is there."""
    try:
        if file.shared:
            return path.exists()
        return path.read_bytes() == file.text.encode()
    except FileNotFoundError:
        return False


def _write(path: Path, file: BundleFile) -> None:
    fd = os.open(path, _WRITE, 0o600)
    with open(fd, "wb") as output:
        os.fchown(fd, *file.owner)
        os.fchmod(fd, 0o644 if file.shared else 0o600)
        output.write(file.text.encode())
