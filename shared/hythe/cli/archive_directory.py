"""Directories in place of archives: an image layout as a tar stream, and a tar stream as an image layout.

Links are followed in neither direction, and nothing is written outside the directory that the user named.

Spec: OCI image-spec, "Image Layout"; skopeo's ``dir:`` transport.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
from pathlib import Path

from hythe.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK_BYTES = 256 << 10
MAX_DEPTH = 3
MAX_FILES = 100_000
FIRST = ("oci-layout", "index.json", "version", "manifest.json")
_BLOCK = 512
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,254}", re.ASCII)


def pack(path: str) -> Iterator[bytes]:
    """Return the files of an image layout as a tar stream, descriptions before blobs.

    Raises:
        InvalidArgument: the directory is no OCI layout and none that skopeo wrote, or has something in it that is neither
            file nor directory, also while the stream is read.
        DataLoss: a file changed while it was read.
    """
    names = {found.name for found in Path(path).iterdir()}
    if "oci-layout" not in names and not {"version", "manifest.json"} <= names:
        raise InvalidArgument(
            f"read {path}: no image layout",
            next_step="name a directory with oci-layout and index.json in it, or one that `skopeo copy … dir:` wrote",
        )
    return _pack(path)


def _pack(path: str) -> Iterator[bytes]:
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        files = list(_files(root, path, "", MAX_DEPTH))
        for name in sorted(files, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)):
            yield from _member(root, path, name)
    finally:
        os.close(root)
    yield bytes(2 * _BLOCK)


def _files(directory: int, path: str, above: str, levels: int) -> Iterator[str]:
    """Yield the names of all regular files below, relative to the layout."""
    for count, name in enumerate(sorted(os.listdir(directory))):
        if count >= MAX_FILES:
            raise InvalidArgument(f"read {path}: more than {MAX_FILES} files in {above or 'it'}")
        kind = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if stat.S_ISREG(kind):
            yield f"{above}{name}"
        elif stat.S_ISDIR(kind) and levels > 1:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                yield from _files(inner, path, f"{above}{name}/", levels - 1)
            finally:
                os.close(inner)
        else:
            raise _strange(path, f"{above}{name}")


def _strange(path: str, name: str) -> InvalidArgument:
    return InvalidArgument(
        f"read {path}: {name} is neither a file nor a directory of an image layout; links are not followed"
    )


def _member(root: int, path: str, name: str) -> Iterator[bytes]:
    try:
        file = _open_below(root, name)
    except OSError as error:
        raise _strange(path, name) from error
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise _strange(path, name)
        entry = tarfile.TarInfo(name)
        entry.size = status.st_size
        entry.mode = 0o644
        yield entry.tobuf(tarfile.PAX_FORMAT)
        left = status.st_size
        while left:
            data = os.read(file, min(left, CHUNK_BYTES))
            if not data:
                raise DataLoss(f"read {path}/{name}: it became shorter while it was read")
            left -= len(data)
            yield data
        yield bytes(-status.st_size % _BLOCK)
    finally:
        os.close(file)


def _open_below(root: int, name: str) -> int:
    """Open a file of the layout without following a link at any step."""
    *above, last = name.split("/")
    directory = os.dup(root)
    try:
        for part in above:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory = inner
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)


def unpack(chunks: Iterable[bytes], path: str) -> None:
    """Write a tar stream of an image layout into a new or empty directory; it is all there, or nothing of it.

    Raises:
        FailedPrecondition: the directory has something in it.
        DataLoss: the stream is no tar, or has something in it that does not belong into a layout.
        HytheError: whatever `chunks` raises.
    """
    directory = Path(path)
    made = not directory.is_dir()
    if made:
        _make(directory)
    elif any(directory.iterdir()):
        raise FailedPrecondition(
            f"write the images into {path}: the directory is not empty", next_step="name a new or an empty directory"
        )
    partial = directory / f".partial-{os.urandom(4).hex()}"
    moved: list[Path] = []
    try:
        partial.mkdir()
        stream = _Stream(chunks)
        _unpack(stream, partial)
        stream.drain()
        for found in sorted(partial.iterdir(), key=lambda found: found.name in FIRST):  # descriptions come last
            moved.append(found.rename(directory / found.name))
    except BaseException:
        for left in (partial, *moved):
            _remove(left)
        if made:
            directory.rmdir()
        raise
    partial.rmdir()


def _make(directory: Path) -> None:
    try:
        directory.mkdir()
    except FileNotFoundError:
        raise NotFound(f"make {directory}: what it shall be in does not exist", next_step="make it first") from None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class _Stream:
    """The chunks as a file that `tarfile` reads."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes; fewer only at the end."""
        parts: list[bytes] = []
        while count > 0:
            if not self._rest:
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    break
            parts.append(self._rest[:count])
            self._rest = self._rest[count:]
            count -= len(parts[-1])
        return b"".join(parts)

    def drain(self) -> None:
        """Read to the end, where it shows whether the stream is whole."""
        for _ in self._chunks:
            pass


def _unpack(stream: _Stream, partial: Path) -> None:
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                parts = member.name.removesuffix("/").split("/")
                if len(parts) > MAX_DEPTH or not all(map(_NAME.fullmatch, parts)):
                    raise DataLoss(f"write the images: the archive has a strange name {member.name[:200]!r} in it")
                if member.isdir():
                    continue
                if not member.isreg():
                    raise DataLoss(f"write the images: {member.name[:200]!r} in the archive is no file")
                _write(archive, member, partial, parts)
    except tarfile.TarError as error:
        raise DataLoss("write the images: what came is no tar archive", cause=str(error)) from error


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, partial: Path, parts: list[str]) -> None:
    content = archive.extractfile(member)
    assert content is not None
    target = partial.joinpath(*parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            shutil.copyfileobj(content, file, CHUNK_BYTES)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataLoss(f"write the images: {member.name[:200]!r} is in the archive twice") from error
