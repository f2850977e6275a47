"""The HTTP server of the distribution process: a bounded number of threads, tickets, and one table of routes."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from hythe import __version__, tracing
from hythe.bus.replies import problem_of
from hythe.digest import parse_digest
from hythe.errors import HytheError, Internal, InvalidArgument, NotFound, PermissionDenied
from hythe_distribution.adapters.http.request import Request
from hythe_distribution.tickets import LIFETIME_S, Grant, Tickets
from hythe_distribution.watch import Watch

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
SILENT_CONNECTION_S = 30.0
POLL_S = 0.1
PREFIX = "/v1/"

Route = Callable[[Request], None]


class HttpServer:
    """Answers requests that carry a ticket of this process.

    Attributes:
        url: ``http://ADDRESS:PORT`` that tickets lead to.
    """

    def __init__(self, listen: str, tickets: Tickets, host: str, watch: Watch | None = None) -> None:
        """Bind to `listen` (``ADDRESS:PORT``, port 0 picks one) without answering yet; `host` is named in errors.

        Blobs that there is a ticket for, or that a request reads, are in use in `watch`.

        Raises:
            InvalidArgument: `listen` is no address, or cannot be bound.
        """
        address, _, port = listen.rpartition(":")
        address = address.strip("[]")
        self._tickets = tickets
        self._watch = watch or Watch()
        self._routes: dict[tuple[str, str], Route] = {}
        try:
            self._server = _Server((address, int(port)), self)
        except (OSError, ValueError, OverflowError) as error:
            raise InvalidArgument(
                f"serve content at {listen}: it cannot be listened at",
                cause=str(error),
                next_step="choose another HYTHE_CONTENT_LISTEN, e.g. 127.0.0.1:0",
            ) from error
        self.host = host
        shown = f"[{address}]" if ":" in address else address
        self.url = f"http://{shown}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="content-http", daemon=True
        )

    def route(self, method: str, kind: str, handler: Route) -> None:
        """Have ``METHOD /v1/<kind>/<name>`` answered by `handler`; before `start`."""
        self._routes[method, kind] = handler

    def address(
        self, method: str, kind: str, name: str, *, repeatable: bool = False, lifetime_s: float = LIFETIME_S
    ) -> str:
        """Return a URL with a ticket for one request, or with `repeatable` for any number within the lifetime."""
        resource = f"{kind}/{name}"
        if kind == "blobs":
            self._watch.promise(parse_digest(name), lifetime_s)
        return (
            f"{self.url}{PREFIX}{resource}?ticket={self._tickets.mint(Grant(method, resource, repeatable), lifetime_s)}"
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening and break off what is still being sent or received."""
        self._server.drop_connections()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.drop_connections()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request; whatever goes wrong becomes an answer, or breaks off one that has begun."""
        request = Request(handler)
        try:
            request.check_framing()
            route, kind = self._allowed(handler, request)
        except HytheError as error:
            self._refuse(handler, request, error)  # without a span: whoever has no ticket writes into nobody's trace
            return
        with self._server.busy(handler.connection):
            self._serve(handler, request, route, kind)

    def _serve(self, handler: BaseHTTPRequestHandler, request: Request, route: Route, kind: str) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with tracing.span(
            f"http {handler.command} {kind}",
            kind="server",
            parent=headers if "traceparent" in headers else None,
            http__request__method=handler.command,
        ) as span:
            try:
                with self._watch.request():
                    route(request)
            except HytheError as error:
                span.fail(error.whole)
                self._refuse(handler, request, error)
            except (ConnectionError, TimeoutError) as error:
                span.fail(f"the client went away: {error}")
                handler.close_connection = True
            except Exception as error:  # the endpoint: whatever a handler raises becomes an answer
                log.exception("a fault while answering %s over HTTP", handler.command)
                span.fail(f"{type(error).__name__}: {error}")
                cause = type(error).__name__
                self._refuse(
                    handler,
                    request,
                    Internal("serve content: a fault of hythe-distribution", cause=cause, outcome="unknown"),
                )

    def _allowed(self, handler: BaseHTTPRequestHandler, request: Request) -> tuple[Route, str]:
        """Return the route of a request that its ticket allows, and its kind; the request gets its name."""
        path, _, query = handler.path.partition("?")
        step = f"serve {handler.command} {path[:100]}"
        kind, _, name = path.removeprefix(PREFIX).partition("/")
        method = "GET" if handler.command == "HEAD" else handler.command
        route = self._routes.get((method, kind))
        if not path.startswith(PREFIX) or route is None:
            raise NotFound(f"{step}: there is nothing", details={"kind": "route"})
        try:
            ticket = parse_qs(query, max_num_fields=8).get("ticket", [""])[0]
        except ValueError:
            raise InvalidArgument(f"{step}: its query has more than 8 fields") from None
        if not ticket:
            raise PermissionDenied(f"{step}: the request has no ticket")
        self._tickets.check(ticket, method, f"{kind}/{name}")
        request.name = name
        return route, kind

    def _refuse(self, handler: BaseHTTPRequestHandler, request: Request, error: HytheError) -> None:
        if request.answered:
            log.info("broke off an answer", extra={"cause": error.whole})
            handler.close_connection = True
            return
        answer = problem_of(error, self.host)
        try:
            handler.close_connection = True  # its body may not have been read
            request.answer(error.number, answer.data)
        except OSError:
            pass  # the client has gone


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: HttpServer) -> None:
        self.owner = owner
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._idle: dict[socket.socket, None] = {}  # the one that has been for the longest time comes first
        self._closing = False
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Hand a connection to a thread of its own.

        Where there is none left, the connection that has been without a good request for the longest time is closed: who
        opens many and says nothing must not keep others out. Where all are busy it waits its turn in the listening queue.
        """
        if not self._places.acquire(blocking=False):
            self._drop_idle()
            while not self._places.acquire(timeout=POLL_S):
                self._drop_idle()
        with self._lock:
            self._connections.add(request)
            self._idle[request] = None
            closing = self._closing
        if closing:
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection that is done with."""
        with self._lock:
            known = request in self._connections
            self._connections.discard(request)
            self._idle.pop(request, None)
        super().shutdown_request(request)
        if known:
            self._places.release()

    @contextmanager
    def busy(self, connection: socket.socket) -> Iterator[None]:
        """Keep a connection from being closed for others while the block runs."""
        with self._lock:
            self._idle.pop(connection, None)
        try:
            yield
        finally:
            with self._lock:
                if connection in self._connections:
                    self._idle[connection] = None

    def _drop_idle(self) -> None:
        with self._lock:
            connection = next(iter(self._idle), None)
            if connection is not None:
                del self._idle[connection]
        if connection is not None:
            _wake(connection)

    def drop_connections(self) -> None:
        """Wake all threads that read or write; no connection is taken any more."""
        with self._lock:
            self._closing = True
            connections = list(self._connections)
        for connection in connections:
            _wake(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Note a fault of ours; a client that goes away never comes here."""
        log.exception("a fault while answering over HTTP")


def _wake(connection: socket.socket) -> None:
    """End what a thread waits for at a connection, which that thread then closes."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"hythe/{__version__}"
    sys_version = ""
    timeout = SILENT_CONNECTION_S
    wbufsize = 64 << 10
    server: _Server

    def do_GET(self) -> None:
        """Answer through the owner."""
        self.server.owner.handle(self)

    do_HEAD = do_POST = do_PATCH = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: each request is a span, and its path holds a ticket."""
