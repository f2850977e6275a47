"""Connections to registries: dialled with a short limit, guarded, kept alive, and woken up when work is cancelled."""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from hythe.errors import PermissionDenied
from hythe_distribution.adapters.registry.paced import PacedAnswer
from hythe_distribution.adapters.registry.trust import Contexts
from hythe_distribution.hosts import Endpoint, may_be_led_to
from hythe_distribution.mirrors import SYSTEM_TRUST, Trust

MAX_IDLE_PER_ROUTE = 8
MAX_IDLE_S = 30.0
MIN_STALL_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Route:
    """How an endpoint is reached; a connection is used again only for the very same route.

    Attributes:
        led_by: on whose word: the user's own, or a stranger's: one on this host or elsewhere. It limits the addresses.
        dial_timeout_s: seconds; None for the default.
    """

    endpoint: Endpoint
    led_by: Literal["user", "stranger on loopback", "stranger"] = "user"
    trust: Trust = SYSTEM_TRUST
    dial_timeout_s: float | None = None

    def to(self, endpoint: Endpoint) -> Route:
        """Return the route to where the server at the end of this one leads: back to itself, or further as a stranger may.

        What was said for this server about certificates is not said to another.
        """
        if endpoint == self.endpoint:
            return self
        if self.led_by != "user":
            return Route(endpoint, self.led_by)
        if endpoint.host == self.endpoint.host:
            return Route(endpoint)
        return Route(endpoint, "stranger on loopback" if self.endpoint.loopback else "stranger")

    def allows(self, address: str) -> bool:
        """Tell whether it may end at a numeric address."""
        return self.led_by == "user" or may_be_led_to(address, from_loopback=self.led_by == "stranger on loopback")


class Connection(http.client.HTTPConnection):
    """One connection along one route; used by one thread at a time."""

    response_class = PacedAnswer

    def __init__(
        self,
        route: Route,
        context: Callable[[], ssl.SSLContext] | None,
        connect_timeout_s: float,
        stall_timeout_s: float,
    ) -> None:
        super().__init__(route.endpoint.host, route.endpoint.port)
        self.route = route
        self.endpoint = route.endpoint
        self.default_port = 443 if context else 80
        self.idle_since = 0.0
        self._context = context
        self._connect_timeout_s = connect_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._open_socket: socket.socket | None = None
        self._aborted = False

    def connect(self) -> None:
        """Dial, within the connect timeout for all addresses together; TLS may take as long again.

        Raises:
            OSError: no address answered; the last one's error.
            PermissionDenied: the name leads to an address that it may not lead to.
            FailedPrecondition: the certificates that the route names cannot be used.
        """
        context = self._context() if self._context else None
        sock = self._dial()
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(self._connect_timeout_s)
            self.sock = context.wrap_socket(sock, server_hostname=self.endpoint.host) if context else sock
            self.sock.settimeout(self._stall_timeout_s)
        except BaseException:
            sock.close()
            raise
        self._watch(self.sock)

    def _dial(self) -> socket.socket:
        try:
            addresses = socket.getaddrinfo(self.endpoint.host, self.endpoint.port, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # a name that a stranger gave may break every rule of names
            raise socket.gaierror(socket.EAI_NONAME, "no such host") from error
        give_up = time.monotonic() + self._connect_timeout_s
        failure: OSError = TimeoutError("timed out")
        for i, (family, kind, protocol, _, address) in enumerate(addresses):
            if not self.route.allows(str(address[0])):
                raise PermissionDenied(
                    f"connect to {self.endpoint}: its address may not be led to", cause=str(address[0])
                )
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(max(0.1, (give_up - time.monotonic()) / (len(addresses) - i)))
            self._watch(sock)
            try:
                sock.connect(address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
        raise failure

    def getresponse(self) -> PacedAnswer:
        """Return the answer, before its body; its headers come within the stall timeout.

        Raises:
            OSError, http.client.HTTPException: they don't, or are no HTTP.
        """
        return cast(PacedAnswer, super().getresponse())

    def _watch(self, sock: socket.socket) -> None:
        """Have `abort` wake whoever waits on `sock`."""
        self._open_socket = sock
        if self._aborted:
            self.abort()

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
    """Idle connections by route, and the limits of all; safe to use from several threads.

    Attributes:
        stall_timeout_s: seconds in which a body must bring `stall_bytes`, or it counts as stalled.
    """

    def __init__(
        self,
        connect_timeout_s: float,
        stall_timeout_s: float,
        tls: ssl.SSLContext | None,
        stall_bytes: int = MIN_STALL_BYTES,
    ) -> None:
        self.stall_timeout_s = stall_timeout_s
        self.stall_bytes = stall_bytes
        self._connect_timeout_s = connect_timeout_s
        self._contexts = Contexts(tls)
        self._lock = threading.Lock()
        self._idle: dict[Route, list[Connection]] = {}

    def check(self, route: Route) -> None:
        """Return if what a route says about certificates can be done.

        Raises:
            FailedPrecondition: it names files that cannot be used.
        """
        if route.endpoint.scheme == "https":
            self._contexts.context(route.trust)

    def take(self, route: Route) -> Connection | None:
        """Return an idle connection along `route` that still works, or None."""
        while True:
            with self._lock:
                idle = self._idle.get(route)
                if not idle:
                    return None
                connection = idle.pop()
            if connection.fresh and time.monotonic() - connection.idle_since <= MAX_IDLE_S:
                return connection
            connection.close()

    def new(self, route: Route) -> Connection:
        """Return a new connection along `route`, not dialled yet."""
        secure = route.endpoint.scheme == "https"
        return Connection(
            route,
            (lambda: self._contexts.context(route.trust)) if secure else None,
            self._connect_timeout_s if route.dial_timeout_s is None else route.dial_timeout_s,
            self.stall_timeout_s,
        )

    def give(self, connection: Connection) -> None:
        """Take back a connection whose last answer was read to its end; close those that have been idle for too long."""
        now = connection.idle_since = time.monotonic()
        with self._lock:
            self._idle.setdefault(connection.route, []).append(connection)
            surplus = []
            for route, idle in list(self._idle.items()):
                keep = [each for each in idle if now - each.idle_since <= MAX_IDLE_S][-MAX_IDLE_PER_ROUTE:]
                surplus += [each for each in idle if each not in keep]
                self._idle[route] = keep
                if not keep:
                    del self._idle[route]
        for each in surplus:
            each.close()

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()
