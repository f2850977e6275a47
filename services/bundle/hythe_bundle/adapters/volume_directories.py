"""Volumes on disk: ``volumes/<namespace>/<name>`` with ``_data`` and, beside it, the record ``volume.json``.

A directory whose name begins with a dot is being made or removed; the rename that takes the dot away, or gives it, is the
moment at which the volume is there, or gone.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path

from hythe.clock import now_rfc3339
from hythe.durable import count_sync, sync_directory, write_atomic
from hythe.errors import FailedPrecondition
from hythe.identifiers import check_namespace
from hythe.linux import mountinfo
from hythe.linux.files import sync_file_system
from hythe_bundle.adapters import disk_errors
from hythe_bundle.adapters.disk_usage import measure
from hythe_bundle.adapters.removal import remove_tree
from hythe_bundle.volume_names import Volume, check_name

log = logging.getLogger(__name__)

DATA = "_data"
_RECORD = "volume.json"
_TOP_MODE = 0o700
"""Nobody else passes: data of volumes is as open as its owner wants, and may have set-id programs (CVE-2021-41091)."""
_ABOVE_MODE = 0o711
_DATA_MODE = 0o755
_STAGE, _RETIRED = ".new-", ".removed-"


class VolumeDirectories:
    """Keeps the promises of `hythe_bundle.volume_ports.VolumeFiles`."""

    def __init__(self, root: Path) -> None:
        """Keep volumes below `root`/volumes."""
        self._root = root
        self._directory = root / "volumes"
        _make(self._directory, _TOP_MODE)

    def data(self, namespace: str, name: str) -> Path:
        """See `VolumeFiles.data`."""
        return self._directory / check_namespace(namespace) / check_name(name) / DATA

    def walk(self) -> tuple[list[Volume], list[Path]]:
        """See `VolumeFiles.walk`."""
        found, left = [], []
        with disk_errors.translated("read volumes", self._root):
            for path in sorted(self._directory.glob("*/*")):
                if path.name.startswith((_STAGE, _RETIRED)):
                    left.append(path)
                elif (path / DATA).is_dir():
                    found.append(self._read(path))
                else:
                    log.warning("left alone what is no volume", extra={"at": str(path)})
        return found, left

    def _read(self, path: Path) -> Volume:
        """Return the volume at `path`; one whose record can't be read stays, for its data may be wanted."""
        try:
            record = json.loads((path / _RECORD).read_bytes())
            labels = {str(key): str(value) for key, value in record["labels"].items()}
            return Volume(
                path.parent.name,
                path.name,
                path / DATA,
                str(record["created_at"]),
                labels,
                str(record["container"]),
                bool(record["anonymous"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("kept a volume whose record can't be read: %s", error, extra={"at": str(path)})
            return Volume(path.parent.name, path.name, path / DATA, now_rfc3339())

    def new_stage(self, namespace: str) -> Path:
        """See `VolumeFiles.new_stage`."""
        return self._directory / check_namespace(namespace) / f"{_STAGE}{os.urandom(8).hex()}"

    def make_stage(self, stage: Path, owner: tuple[int, int]) -> None:
        """See `VolumeFiles.make_stage`."""
        with disk_errors.translated("make volume", self._root):
            fresh = not stage.parent.exists()
            _make(stage.parent, _ABOVE_MODE)
            if fresh:
                sync_directory(self._directory)
            _make(stage, _ABOVE_MODE)
            _make(stage / DATA, _DATA_MODE)
            os.chown(stage / DATA, *owner)

    def commit(self, stage: Path, volume: Volume) -> None:
        """See `VolumeFiles.commit`."""
        with disk_errors.translated("make volume", self._root):
            self._write_record(stage, volume)
            _sync_data(stage)
            stage.rename(volume.data.parent)
            sync_directory(stage.parent)

    def fill(self, volume: Volume, stage: Path) -> bool:
        """See `VolumeFiles.fill`. An empty directory gives way to another by rename(2), one with files doesn't."""
        with disk_errors.translated("fill volume", self._root):
            _sync_data(stage)
            try:
                (stage / DATA).rename(volume.data)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                    return False
                raise
            sync_directory(volume.data.parent)
            return True

    def discard(self, stage: Path) -> None:
        """See `VolumeFiles.discard`."""
        remove_tree(stage)

    def is_empty(self, volume: Volume) -> bool:
        """See `VolumeFiles.is_empty`."""
        with disk_errors.translated("look into volume", self._root), os.scandir(volume.data) as items:
            return next(items, None) is None

    def keep(self, volume: Volume) -> None:
        """See `VolumeFiles.keep`."""
        with disk_errors.translated("keep volume", self._root):
            self._write_record(volume.data.parent, volume)

    def retire(self, volume: Volume, *, durable: bool) -> Path:
        """See `VolumeFiles.retire`."""
        path = volume.data.parent
        if point := mountinfo.mounted_below(path):
            raise FailedPrecondition(
                f"remove volume {volume.name}: {point} is mounted in it",
                details={"kind": "volume"},
                next_step=f"unmount {point} first",
            )
        place = path.parent / f"{_RETIRED}{os.urandom(8).hex()}"
        with disk_errors.translated("remove volume", self._root):
            path.rename(place)
            if durable:
                sync_directory(path.parent)
        return place

    def usage_bytes(self, volume: Volume) -> int:
        """See `VolumeFiles.usage_bytes`."""
        with disk_errors.translated("measure volume", self._root):
            return measure(volume.data).size_bytes - os.lstat(volume.data).st_blocks * 512

    def _write_record(self, path: Path, volume: Volume) -> None:
        record = {
            "namespace": volume.namespace,
            "name": volume.name,
            "created_at": volume.created_at,
            "labels": dict(volume.labels),
            "container": volume.container,
            "anonymous": volume.anonymous,
        }
        write_atomic(path / _RECORD, json.dumps(record).encode())


def _make(path: Path, mode: int) -> None:
    path.mkdir(exist_ok=True)
    path.chmod(mode)


def _sync_data(stage: Path) -> None:
    """Make what was copied into a stage durable; an empty directory is, with the record beside it."""
    if any((stage / DATA).iterdir()):
        sync_file_system(stage)
        count_sync()
    else:
        sync_directory(stage / DATA)
