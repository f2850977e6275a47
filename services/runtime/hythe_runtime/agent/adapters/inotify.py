"""One inotify descriptor for all logs: it wakes whoever follows a file that has grown."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from pathlib import Path

from hythe.linux import libc

_EVENT = struct.Struct("iIII")
_READ_BYTES = 64 << 10


class Watches:
    """Calls back when a watched file is written to; callbacks run in the event loop and must be quick."""

    def __init__(self) -> None:
        self._fd = libc.inotify_init()
        self._callbacks: dict[int, set[Callable[[], None]]] = {}
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def watch(self, path: Path, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each write to the file at `path` from now on; return what ends that.

        Raises:
            FileNotFoundError: there is no such file.
        """
        watch = libc.inotify_add(self._fd, str(path), libc.IN_MODIFY)
        self._callbacks.setdefault(watch, set()).add(callback)
        return lambda: self._end(watch, callback)

    def _end(self, watch: int, callback: Callable[[], None]) -> None:
        callbacks = self._callbacks.get(watch, set())
        callbacks.discard(callback)
        if not callbacks and self._callbacks.pop(watch, None) is not None and self._fd >= 0:
            libc.inotify_remove(self._fd, watch)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        position = 0
        while position < len(data):
            watch, mask, _, name_bytes = _EVENT.unpack_from(data, position)
            position += _EVENT.size + name_bytes
            if watch < 0:  # the kernel's queue ran over: anything may have grown
                for callbacks in tuple(self._callbacks.values()):
                    _call(callbacks)
            elif mask & libc.IN_MODIFY:
                _call(self._callbacks.get(watch, ()))

    def close(self) -> None:
        """End all watches."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1


def _call(callbacks: set[Callable[[], None]] | tuple[()]) -> None:
    for callback in tuple(callbacks):
        callback()
