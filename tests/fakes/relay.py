"""A TCP relay before a server, for tests that cut the way to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType


class Relay:
    """Passes connections on to a server; `cut` ends them all, and each new one at once, until `mend`.

    Attributes:
        host: ``127.0.0.1:<port>`` where it listens.
    """

    def __init__(self, to: str) -> None:
        """Listen on a free port for connections to `to`, ``host:port``."""
        address, port = to.rsplit(":", 1)
        self._to = address, int(port)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_cut = False
        self._limits: dict[bool, tuple[int, Callable[[], None]]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """End all connections, and each new one."""
        with self._lock:
            self._is_cut = True
            for end in self._open:
                _shut(end)

    def mend(self) -> None:
        """Pass on again what comes from now on."""
        with self._lock:
            self._is_cut = False

    def after_sending(self, count_bytes: int, act: Callable[[], None]) -> None:
        """Call `act` once when that many bytes more have gone to the server."""
        with self._lock:
            self._limits[True] = count_bytes, act

    def after_receiving(self, count_bytes: int, act: Callable[[], None]) -> None:
        """Call `act` once when that many bytes more have come from the server."""
        with self._lock:
            self._limits[False] = count_bytes, act

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._to, 5)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
                if self._is_cut:
                    _shut(near)
                    _shut(far)
            back = threading.Thread(target=self._pump, args=(far, near, False))
            forth = threading.Thread(target=self._relay, args=(near, far, back))
            self._threads.append(forth)
            back.start()
            forth.start()

    def _relay(self, near: socket.socket, far: socket.socket, back: threading.Thread) -> None:
        self._pump(near, far, True)
        back.join()
        with self._lock:
            for end in (near, far):
                self._open.discard(end)
                end.close()  # a peer that is still sending notices only this

    def _pump(self, source: socket.socket, target: socket.socket, sending: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                act = self._count(sending, len(data))
                if act is not None:
                    act()
                target.sendall(data)
        except OSError:
            pass
        _shut(source)
        _shut(target)

    def _count(self, sending: bool, count_bytes: int) -> Callable[[], None] | None:
        with self._lock:
            if sending not in self._limits:
                return None
            left, act = self._limits.pop(sending)
            if left > count_bytes:
                self._limits[sending] = left - count_bytes, act
                return None
            return act

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _shut(self._listener)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
