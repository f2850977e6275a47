"""Backups of the SQLite store: made while it is at work, checked, and put in its place when it isn't."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path

from hythe import failpoints
from hythe.durable import sync_directory
from hythe.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound
from hythe_metadata.adapters import sqlite_check
from hythe_metadata.adapters.sqlite_kind import STORE
from hythe_metadata.adapters.sqlite_schema import connect, prepare

BUSY_S = 30.0
LOG = "-wal"
"""Ending of a store's log of what isn't in its file yet."""


def backup(path: Path, target: Path) -> int:
    """Write all that the store at `path` holds now into the new file `target`, durably; return its size in bytes.

    It is one state of the store. Nobody who writes has to wait, and nothing but a whole backup ever has the name `target`.

    Raises:
        InvalidArgument: `target` isn't absolute, or its directory doesn't exist.
        AlreadyExists: there is something of that name.
        FailedPrecondition: a file can't be read or written.
        ResourceExhausted: no room.
    """
    _check_target(target)
    draft = target.with_name(f".{target.name}.{os.getpid()}.new")
    with STORE.translated("back up metadata store to", target, files=True):
        try:
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            connection = connect(path, read_only=True)
            try:
                connection.execute("PRAGMA query_only = 0")  # else it can't make the other file
                connection.execute("VACUUM INTO ?", (str(draft),))
            finally:
                connection.close()
            _sync(draft)
            os.link(draft, target)  # unlike a rename it never takes the place of another file
        except FileExistsError:
            raise _there(target) from None
        finally:
            draft.unlink(missing_ok=True)
    sync_directory(target.parent)
    return target.stat().st_size


def restore(source: Path, path: Path) -> Path | None:
    """Put the backup `source` in the place of the store at `path`, which nobody uses; return where the one before is now.

    The restored store has a higher era than both: what was commanded since the backup is older than anything commanded from
    now on, and owners of content and snapshots delete nothing for it until that is confirmed.

    Raises:
        NotFound: there is no such file.
        DataLoss: the backup is damaged; nothing was changed.
        FailedPrecondition: it is no metadata store, or one of a newer version, or a file can't be read or written; nothing was
            changed.
        ResourceExhausted: no room; nothing was changed.
    """
    draft = path.with_name(f"{path.name}.restored")
    with STORE.translated("restore metadata store from", source, files=True):
        if not source.is_file():
            raise NotFound(f"restore metadata store: there is no file {source}")
        _remove(draft)
        try:
            _copy(source, draft)
            connection = _prepare(source, draft)
            try:
                found = sqlite_check.findings(connection)
                if found:
                    raise _unfit(source, "; ".join(found[:5]))
                era = max(_era(draft), _era(path) if path.exists() else 0) + 1
                connection.execute("UPDATE store SET era = ?, moved_to = ''", (era,))
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.close()
            _sync(draft)
        except BaseException:
            _remove(draft)
            raise
        before = _keep(path)
        failpoints.reach("metadata.restore")
        draft.rename(path)  # at once: a store that is missing would be made anew, empty
        sync_directory(path.parent)
    return before


def _prepare(source: Path, draft: Path) -> sqlite3.Connection:
    try:
        return prepare(draft)
    except DataLoss as error:
        raise _unfit(source, error.cause) from error
    except FailedPrecondition as error:
        raise FailedPrecondition(
            f"restore metadata store from {source}: it is no backup that this Hythe can take",
            cause=error.message.replace(str(draft), str(source)),
            next_step="take another backup, or the Hythe that made this one; nothing was changed",
        ) from error
    except sqlite3.DatabaseError as error:
        translated_error = STORE.translate(error, "restore metadata store from", source)
        raise (_unfit(source, str(error)) if isinstance(translated_error, DataLoss) else translated_error) from error


def _unfit(source: Path, cause: str) -> DataLoss:
    return DataLoss(
        f"restore metadata store from {source}: it is damaged, or no backup",
        cause=cause,
        outcome="not started",
        next_step="take another backup; nothing was changed",
    )


def _copy(source: Path, draft: Path) -> None:
    """Copy a store; one that was replaced by a restore may have its last changes in a log beside it."""
    for ending in ("", LOG):
        part = source.with_name(f"{source.name}{ending}")
        if not ending or part.is_file():
            copied = draft.with_name(f"{draft.name}{ending}")
            shutil.copyfile(part, copied)
            copied.chmod(0o600)


def _remove(draft: Path) -> None:
    for rest in draft.parent.glob(f"{draft.name}*"):
        rest.unlink()


def _check_target(target: Path) -> None:
    if not target.is_absolute() or not target.parent.is_dir():
        raise InvalidArgument(
            f"back up metadata store to {target}: not an absolute path in a directory that exists",
            next_step="name a new file by its whole path on the host of hythe-metadata",
        )
    if target.exists() or target.is_symlink():
        raise _there(target)


def _there(target: Path) -> AlreadyExists:
    return AlreadyExists(
        f"back up metadata store to {target}: there is something of that name", next_step="name a new file"
    )


def _era(path: Path) -> int:
    """Return the era of the store at `path`; where it can't be read one that is higher than any that was counted up."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S)
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (era,) = connection.execute("SELECT era FROM store").fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        return int(time.time())
    return int(era) if application == STORE.application_id else int(time.time())


def _keep(path: Path) -> Path | None:
    """Give the store at `path` a second name that says when it was replaced; its log, if it has one, only that name.

    A store that could be read has no log any more, for `_era` was the last to close it.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    before = path.with_name(f"{path.name}.before-{stamp}")
    number = 1
    while before.exists():
        number += 1
        before = path.with_name(f"{path.name}.before-{stamp}-{number}")
    kept = None
    if path.exists():
        os.link(path, before)
        kept = before
    for ending in (LOG, "-shm"):
        part = path.with_name(f"{path.name}{ending}")
        if part.exists():
            part.rename(before.with_name(f"{before.name}{ending}"))
            kept = before
    return kept


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
