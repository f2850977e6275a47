"""Connections to registries: dialled with a short limit, guarded, kept alive, and woken up when work is cancelled."""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable

from hythe.errors import PermissionDenied
from hythe_distribution.hosts import Endpoint, may_be_led_to

MAX_IDLE_PER_ENDPOINT = 8
MAX_IDLE_S = 30.0


class Connection(http.client.HTTPConnection):
    """One connection to one endpoint; used by one thread at a time."""

    def __init__(
        self,
        endpoint: Endpoint,
        tls: ssl.SSLContext | None,
        allowed: Callable[[str], bool],
        connect_timeout_s: float,
        stall_timeout_s: float,
    ) -> None:
        super().__init__(endpoint.host, endpoint.port)
        self.endpoint = endpoint
        self.default_port = 443 if tls else 80
        self.idle_since = 0.0
        self._tls = tls
        self._allowed = allowed
        self._connect_timeout_s = connect_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._open_socket: socket.socket | None = None
        self._aborted = False

    def connect(self) -> None:
        """Dial, within the connect timeout for all addresses together.

        Raises:
            OSError: no address answered; the last one's error.
            PermissionDenied: the name leads to an address that it may not lead to.
        """
        sock = self._dial()
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(self._stall_timeout_s)
            self.sock = self._tls.wrap_socket(sock, server_hostname=self.endpoint.host) if self._tls else sock
        except BaseException:
            sock.close()
            raise
        self._open_socket = self.sock
        if self._aborted:
            self.abort()

    def _dial(self) -> socket.socket:
        addresses = socket.getaddrinfo(self.endpoint.host, self.endpoint.port, type=socket.SOCK_STREAM)
        give_up = time.monotonic() + self._connect_timeout_s
        failure: OSError = TimeoutError("timed out")
        for i, (family, kind, protocol, _, address) in enumerate(addresses):
            if not self._allowed(str(address[0])):
                raise PermissionDenied(
                    f"connect to {self.endpoint}: its address may not be led to", cause=str(address[0])
                )
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(max(0.1, (give_up - time.monotonic()) / (len(addresses) - i)))
            try:
                sock.connect(address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
        raise failure

    def abort(self) -> None:
        """Wake a thread that waits on this connection; called from another thread, never raises."""
        self._aborted = True
        sock = self._open_socket
        if sock is not None:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's: it would pull the TLS state away
            except OSError:
                pass

    @property
    def fresh(self) -> bool:
        """Whether an idle connection can be used again: not closed by the server, nothing unasked in it."""
        if self.sock is None:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)


class Pool:
    """Idle connections by endpoint; safe to use from several threads."""

    def __init__(self, connect_timeout_s: float, stall_timeout_s: float, tls: ssl.SSLContext | None) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._tls = tls
        self._lock = threading.Lock()
        self._idle: dict[Endpoint, list[Connection]] = {}

    def take(self, endpoint: Endpoint) -> Connection | None:
        """Return an idle connection to `endpoint` that still works, or None."""
        while True:
            with self._lock:
                idle = self._idle.get(endpoint)
                if not idle:
                    return None
                connection = idle.pop()
            if connection.fresh and time.monotonic() - connection.idle_since <= MAX_IDLE_S:
                return connection
            connection.close()

    def new(self, endpoint: Endpoint, origin: Endpoint) -> Connection:
        """Return a new connection, not dialled yet; `origin` is the registry that leads to `endpoint`, often itself."""
        if endpoint.host == origin.host:
            return self._connection(endpoint, lambda _: True)
        return self._connection(endpoint, lambda address: may_be_led_to(address, from_loopback=origin.loopback))

    def _connection(self, endpoint: Endpoint, allowed: Callable[[str], bool]) -> Connection:
        tls = self._context() if endpoint.scheme == "https" else None
        return Connection(endpoint, tls, allowed, self._connect_timeout_s, self._stall_timeout_s)

    def give(self, connection: Connection) -> None:
        """Take back a connection whose last answer was read to its end; close those that have been idle for too long."""
        now = connection.idle_since = time.monotonic()
        with self._lock:
            self._idle.setdefault(connection.endpoint, []).append(connection)
            surplus = []
            for endpoint, idle in list(self._idle.items()):
                keep = [each for each in idle if now - each.idle_since <= MAX_IDLE_S][-MAX_IDLE_PER_ENDPOINT:]
                surplus += [each for each in idle if each not in keep]
                self._idle[endpoint] = keep
                if not keep:
                    del self._idle[endpoint]
        for each in surplus:
            each.close()

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return self._tls
