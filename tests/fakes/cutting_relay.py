"""A relay before a server that cuts connections in the middle of what the client sends."""

from __future__ import annotations

import socket
import threading
from types import TracebackType

_PIECE_BYTES = 16384


class CuttingRelay:
    """Passes bytes on between clients and one server of 127.0.0.1, until told to cut; use it as a context manager.

    Attributes:
        address: ``127.0.0.1:<port>`` where it listens.
        cuts: how many connections it has cut.
    """

    def __init__(self, server: str) -> None:
        """Prepare a relay before `server`, ``host:port``."""
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0
        self._left: int | None = None
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def cut_after(self, size_bytes: int) -> None:
        """Pass `size_bytes` more from clients on, then cut the connection, once."""
        with self._lock:
            self._left = size_bytes

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._open += [client, server]
            for source, sink, counted in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._pass, args=(source, sink, counted), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(_PIECE_BYTES):
                whole = len(data)
                if counted:
                    data = data[: self._allowed(whole)]
                sink.sendall(data)
                if len(data) < whole:
                    break
        except OSError:
            pass
        for each in (source, sink):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _allowed(self, size_bytes: int) -> int:
        with self._lock:
            if self._left is None or size_bytes <= self._left:
                self._left = None if self._left is None else self._left - size_bytes
                return size_bytes
            allowed, self._left = self._left, None
            self.cuts += 1
            return allowed

    def __enter__(self) -> CuttingRelay:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()
        for each in self._open:
            each.close()
