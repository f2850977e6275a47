"""This command's own side of a copy: what a local path means as a source or a destination, by `docker cp`'s rules."""

# Names of files are bytes here, as in archives, which pathlib does not take.
# ruff: noqa: PTH100, PTH112, PTH115, PTH116, PTH118, PTH120

from __future__ import annotations

import errno
import os
import stat

from hythe.archive.failures import ArchiveError, DamagedError, LimitError
from hythe.archive.placing import Destination, asserts_directory, top_name, wants_contents
from hythe.cli import output
from hythe.errors import InvalidArgument, NotFound, PermissionDenied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_LINKS = 40


class Source:
    """A file or directory to be read: `base` in `directory`, called `name` in the archive."""

    __slots__ = ("base", "directory", "name")

    def __init__(self, directory: bytes, base: bytes, name: bytes) -> None:
        self.directory = directory
        self.base = base
        self.name = name


def source(text: str, *, follow_link: bool) -> Source:
    """Return what the local path `text` means as a source.

    A link at its end stays one, unless `follow_link`, or a ``/`` or ``/.`` after it, says no; links before are followed.

    Raises:
        OSError: it is not there, or no directory although it says so.
    """
    path = os.fsencode(text)
    absolute = os.path.abspath(path)
    name = top_name(absolute + (b"/." if wants_contents(path) else b""))
    if follow_link or asserts_directory(path):
        real = os.path.realpath(absolute, strict=True)
        if asserts_directory(path) and not os.path.isdir(real):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), text)
        if wants_contents(path) or real == b"/":
            return Source(real, b".", name)
    else:
        above, base = os.path.split(absolute)
        if not base:
            return Source(b"/", b".", b".")
        real = os.path.join(os.path.realpath(above, strict=True), base)
        os.stat(real, follow_symlinks=False)
    above, base = os.path.split(real)
    return Source(above, base, name)


def destination(text: str) -> Destination:
    """Return what the local path `text` means as a destination: links are followed, also one that leads nowhere yet.

    Raises:
        PermissionDenied: a link leads there that somebody else put where everybody may, such as in /tmp.
        NotFound: the directory above it is not there.
        InvalidArgument: something is there that is neither a directory nor a regular file.
        OSError: it cannot be looked at.
    """
    path = os.fsencode(text)
    _check_links(path, text)
    real = os.path.realpath(path)
    end = b"/" if asserts_directory(path) and real != b"/" else b""
    try:
        found = os.stat(real)
    except FileNotFoundError:
        above = os.path.dirname(real)
        if not os.path.isdir(above):
            raise NotFound(
                f"copy to {text}: there is no directory {os.fsdecode(above)}",
                next_step="make it first",
                details={"kind": "path"},
            ) from None
        return Destination(real + end, exists=False, is_directory=False)
    is_directory = stat.S_ISDIR(found.st_mode)
    if not is_directory and not stat.S_ISREG(found.st_mode):
        raise InvalidArgument(f"copy to {text}: it must be a directory or a regular file")
    return Destination(real if is_directory else real + end, exists=True, is_directory=is_directory)


def _check_links(path: bytes, text: str) -> None:
    """Refuse what the kernel refuses with ``fs.protected_symlinks``; links are resolved as text here, so it isn't asked.

    Spec: proc(5), "/proc/sys/fs/protected_symlinks".
    """
    for _ in range(_MAX_LINKS):
        while path.endswith((b"/", b"/.")) and path != b"/":
            path = path[: path.rindex(b"/")] or b"/"
        above = os.path.dirname(path) or b"."
        try:
            link, holder = os.stat(path, follow_symlinks=False), os.stat(above)
            if not stat.S_ISLNK(link.st_mode):
                return
            target = os.readlink(path)
        except OSError:
            return  # whoever resolves the path says so
        everybody = holder.st_mode & (stat.S_ISVTX | stat.S_IWOTH) == stat.S_ISVTX | stat.S_IWOTH
        if everybody and link.st_uid not in (os.geteuid(), holder.st_uid):
            raise PermissionDenied(
                f"copy to {text}: user {link.st_uid} has put a link there, and everybody may",
                next_step="remove the link, or name the place that you mean",
            )
        path = os.path.join(above, target)


class refusals:
    """Within the block refusals of the system and of an archive become errors that say what was done, `step`."""

    def __init__(self, step: str) -> None:
        self._step = step

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from hythe.archive.refusals import of_archive, of_os

        if isinstance(error, ArchiveError | DamagedError | LimitError):
            raise of_archive(error, self._step) from error
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise of_os(error, self._step) from error


def warn(result: dict[str, Any] | None) -> None:
    """Print the warnings of a copy that is done."""
    for text in (result or {}).get("warnings", ()):
        output.warn(str(text))
