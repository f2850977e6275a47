"""Carry out one order (`hythe_runtime.agent.worker.order`): archive on stdin or stdout, the last word on stderr."""

from __future__ import annotations

import os

from hythe.archive import tar
from hythe.archive.ending import end_with
from hythe.archive.extract import Extraction
from hythe.archive.failures import ArchiveError, DamagedError, LimitError
from hythe.archive.pack import Form, Packer
from hythe.archive.placing import begin
from hythe.archive.refusals import of_archive, of_os
from hythe.archive.stream import Source
from hythe.errors import DataLoss, FailedPrecondition, HytheError, InvalidArgument, ResourceExhausted
from hythe.linux.files import open_beneath
from hythe_runtime.agent.worker import order as words
from hythe_runtime.agent.worker.root import Ids, Through, destination, enter, source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from hythe.archive.tar import Entry

READ_BYTES = 1 << 20


def run(arguments: list[str]) -> NoReturn:
    """Do `main` and end at once; see `end_with`."""
    end_with(main, arguments)


def main(arguments: list[str]) -> int:
    """Carry out the order and return the exit code: 0 when the last line says ``done``, 1 when it says ``failed``."""
    order = words.Order(arguments[0])
    ids = Ids(order.uids, order.gids)
    path = os.fsencode(order.path)
    step = f"copy {'to' if order.inward else 'from'} {order.path}"
    try:
        packer = None if order.inward else Packer(_Inside(ids))
        enter(order, ids)
        line = _inward(order, ids, path) if packer is None else _outward(order, packer, path)
        code = 0
    except BrokenPipeError:
        return 1  # the agent is gone
    except HytheError as error:
        line, code = words.failed(error.code, error.message, error.cause, error.next_step), 1
    except (ArchiveError, DamagedError, LimitError) as error:
        line, code = _failed(of_archive(error, step)), 1
    except OSError as error:
        line, code = _failed(of_os(error, step)), 1
    except MemoryError:
        line, code = _failed(ResourceExhausted(f"{step}: the worker's memory is used up")), 1
    _write(2, line)
    return code


def _failed(error: HytheError) -> bytes:
    return words.failed(error.code, error.message, error.cause, error.next_step)


class _Inside(Form):
    """Files are of those whom the container knows as their owners."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def owner(self, uid: int, gid: int) -> tuple[int, int]:
        return self._ids.inside(uid, gid)


def _outward(order: words.Order, packer: Packer, path: bytes) -> bytes:
    directory, base, name = source(path, follow_link=order.follow_link)
    root = _open_root()
    above = open_beneath(root, directory.strip(b"/") or b".", os.O_PATH | os.O_DIRECTORY)
    for chunk in packer.chunks(above, base, name):
        _write(1, chunk)
    if not packer.entries:
        raise InvalidArgument(f"copy from {order.path}: a socket cannot be copied")
    os.close(1)
    return words.done(packer.entries, packer.file_bytes, packer.warnings)


def _inward(order: words.Order, ids: Ids, path: bytes) -> bytes:
    to = destination(path)
    stream = Source(_chunks())
    entries = tar.entries(stream)
    old: list[bytes] | None = None
    new: list[bytes] = []
    if order.as_is:
        if not to.is_directory:
            raise InvalidArgument(f"copy to {order.path}: an archive needs a directory that exists")
        directory = to.path
    else:
        first = next(entries, None)
        if first is None:
            raise DataLoss(f"copy to {order.path}: nothing came")
        directory, old, new = begin(first.name, is_directory=first.kind == tar.DIRECTORY, to=to)
        entries = _again(first, entries)
    root = _open_root()
    directory = directory.strip(b"/")
    top = open_beneath(root, directory or b".", os.O_PATH | os.O_DIRECTORY)
    if os.fstatvfs(top).f_flag & os.ST_RDONLY:
        raise FailedPrecondition(
            f"copy to {order.path}: the file system there is read-only", next_step="copy to a writable volume"
        )
    os.close(top)

    def owner(uid: int, gid: int) -> tuple[int, int, bool]:
        inside = (uid, gid) if order.keep_owner else (0, 0)
        return *ids.outside(*inside), inside == (uid, gid)

    through = Through(root, directory)
    extraction = Extraction(through, stream, owner=owner, devices=not ids.mapped, old=old, new=new, foreign=ids.foreign)
    extraction.run(entries)
    return words.done(extraction.entries, extraction.file_bytes, extraction.warnings)


def _again(first: Entry, entries: Iterator[Entry]) -> Iterator[Entry]:
    yield first
    yield from entries


def _open_root() -> int:
    return os.open(b"/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _chunks() -> Iterator[bytes]:
    while data := os.read(0, READ_BYTES):
        yield data


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
