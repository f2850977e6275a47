"""SQLite files that a service keeps: how one is made and recognized, and what SQLite's errors mean to those who ask."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hythe.durable import sync_directory
from hythe.errors import DataLoss, FailedPrecondition, HytheError, Internal, ResourceExhausted, Unavailable

BUSY_TIMEOUT_S = 1.0
_MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file, and the words of its errors.

    Attributes:
        name: what one is called, as in ``open metadata store``.
        application_id: tells files of this kind from other SQLite files.
        contents: what is damaged when a file is, as a whole clause.
        remedy: what helps then, once a copy of the file was kept.
        elsewhere: what helps when a file of another program is in its place.
        user: for whom the file has to be writable.
        restart: what to do after the disk was checked.
        details: of errors that the disk causes.
    """

    name: str
    application_id: int
    contents: str
    remedy: str
    elsewhere: str
    user: str
    restart: str
    details: Mapping[str, str] = field(default_factory=dict, hash=False)

    def damaged(self, message: str, path: Path, cause: str) -> DataLoss:
        """Return the error for a file whose bytes can't be trusted; it is left as it is."""
        return DataLoss(
            f"{message}: {self.contents}",
            cause=cause,
            outcome="unknown",
            next_step=f"nothing was overwritten: keep a copy of {path}*, {self.remedy}",
            details=dict(self.details),
        )

    def translate(self, error: sqlite3.Error, step: str, path: Path) -> HytheError:
        """Return the error of the closed set that `error`, met in `step` on the file at `path`, stands for."""
        step, cause, details = f"{step} {path}", str(error), dict(self.details)
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return Internal(f"{step}: SQLite was used wrongly", cause=cause)
        primary = code & 0xFF
        if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
            return ResourceExhausted(
                f"{step}: the disk is full; nothing was changed",
                cause=cause,
                next_step=f"make room on the file system of {path.parent}, then try again",
                details=details,
            )
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
            return Unavailable(
                f"{step}: another program holds it locked",
                cause=cause,
                next_step=f"end the program that has {path} open",
            )
        if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH):
            return FailedPrecondition(
                f"{step}: it can't be written",
                cause=cause,
                next_step=f"make {path.parent} and the files in it writable for {self.user}",
                details=details,
            )
        if primary == sqlite3.SQLITE_IOERR:
            return DataLoss(
                f"{step}: the disk failed",
                cause=cause,
                outcome="unknown",
                next_step=f"check the disk (`dmesg`) and its quotas, then {self.restart}",
                details=details,
            )
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self.damaged(step, path, cause)
        return Internal(f"{step}: SQLite failed", cause=cause)

    def translate_os(self, error: OSError, step: str, path: Path) -> HytheError:
        """As `translate`, for a file that is read or written without SQLite."""
        step, cause, details = f"{step} {path}", str(error), dict(self.details)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return ResourceExhausted(
                f"{step}: the disk is full; nothing was changed",
                cause=cause,
                next_step=f"make room on the file system of {path.parent}, then try again",
                details=details,
            )
        if error.errno == errno.EIO:
            return DataLoss(
                f"{step}: the disk failed", cause=cause, next_step="check the disk (`dmesg`)", details=details
            )
        return FailedPrecondition(
            f"{step}: a file can't be read or written",
            cause=cause,
            next_step=f"let {self.user} read and write {error.filename or path}",
            details=details,
        )

    @contextmanager
    def translated(self, step: str, path: Path, *, files: bool = False) -> Iterator[None]:
        """Raise errors of SQLite, and with `files` of reading and writing files, in the block as errors of the closed set."""
        try:
            yield
        except sqlite3.Error as error:
            raise self.translate(error, step, path) from error
        except OSError as error:
            if not files:
                raise
            raise self.translate_os(error, step, path) from error

    def create(self, path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
        """Make a file beside its place and rename it, so that a crash never leaves half of one there.

        Args:
            fill: makes the tables and what the file begins with.

        Raises:
            DataLoss: a log without its file says that there was one before.
            sqlite3.Error, OSError: the disk.
        """
        log = path.with_name(f"{path.name}-wal")
        if log.exists():
            cause = f"the file is missing, but its log {log} is there"
            raise self.damaged(f"open {self.name} {path}", path, cause)
        draft = path.with_name(f"{path.name}.new")
        for rest in path.parent.glob(f"{draft.name}*"):
            rest.unlink()
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            draft.chmod(0o600)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {self.application_id}")
            fill(connection)
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        draft.rename(path)
        sync_directory(path.parent)

    def connect(self, path: Path) -> sqlite3.Connection:
        """Return a connection to the file at `path`, which is of this kind; see `connect`.

        Raises:
            DataLoss: it isn't what was written.
            FailedPrecondition: it belongs to another program.
            sqlite3.Error, OSError: the disk, or who else uses it.
        """
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
        if magic != _MAGIC:
            cause = "it doesn't begin as a SQLite file" if magic else "it is empty"
            raise self.damaged(f"open {self.name} {path}", path, cause)
        connection = connect(path)
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if application != self.application_id:
                raise FailedPrecondition(
                    f"open {self.name} {path}: it is a SQLite file of another program",
                    next_step=f"move it away, or {self.elsewhere}",
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def newer(self, path: Path, version: int, known: int) -> FailedPrecondition:
        """Return the error for a file of a version that isn't known yet."""
        return FailedPrecondition(
            f"open {self.name} {path}: a newer Hythe made it (version {version}, this one knows {known})",
            next_step="use that newer version of Hythe",
        )


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the file that is at `path`, without implicit transactions, for one thread at a time."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
