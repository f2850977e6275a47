"""One HTTP request and its answer, over a kept connection where there is one."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hythe import tracing
from hythe_distribution.adapters.registry.connections import Connection, Pool, Route
from hythe_distribution.adapters.registry.paced import PacedAnswer
from hythe_distribution.adapters.registry.problems import connecting
from hythe_distribution.adapters.registry.response import Response
from hythe_distribution.cancellation import Cancellation


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it goes out.

    Attributes:
        step: what is being done, for error messages.
        target: path and query.
        headers: may have credentials in them.
        body: bytes can be sent again; an iterator only once, and then `headers` has its Content-Length.
        repeatable: sending it twice does no harm.
        resends: how often it was sent before.
        secrets: texts that no message may show.
    """

    step: str
    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | Iterator[bytes] | None = field(default=None, repr=False)
    repeatable: bool = True
    resends: int = 0
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def once(self) -> bool:
        """Whether it cannot be sent again: doing so would do harm, or its body is used up."""
        return not self.repeatable or isinstance(self.body, Iterator)


def exchange(pool: Pool, route: Route, request: Outgoing, cancellation: Cancellation) -> Response:
    """Send one request and return its answer, before its body.

    A kept connection that the server closed meanwhile is replaced by a new one, once, if the request can be repeated.
    The cancellation can wake this call, and the reading of the body until `Response.close`.

    Raises:
        Unavailable, FailedPrecondition, PermissionDenied: see `connecting` and `Connection.connect`.
        Cancelled: the cancellation came first.
    """
    endpoint = route.endpoint
    with tracing.span(
        f"registry {request.method}{_asked_for(request.target)}",
        kind="client",
        http__request__method=request.method,
        server__address=endpoint.host,
        server__port=endpoint.port,
    ) as span:
        if route.led_by == "user":  # elsewhere the path may be all that it takes to get the bytes
            span.set("url.path", request.target.partition("?")[0])
        if request.resends:
            span.set("http.request.resend_count", request.resends)
        with connecting(request.step, endpoint):
            response = None if (kept := pool.take(route)) is None else _send_kept(pool, kept, request, cancellation)
            if response is None:
                response = _send(pool, pool.new(route), request, cancellation)
        span.set("http.response.status_code", response.status)
        return response


def _send_kept(pool: Pool, kept: Connection, request: Outgoing, cancellation: Cancellation) -> Response | None:
    try:
        return _send(pool, kept, request, cancellation)
    except (ConnectionError, ssl.SSLEOFError):
        cancellation.check()
        if request.once:
            raise
        return None


def _send(pool: Pool, connection: Connection, request: Outgoing, cancellation: Cancellation) -> Response:
    forget = cancellation.on_cancel(connection.abort)
    try:
        raw = _raw_answer(connection, request)
        return Response(
            request.step,
            pool,
            connection,
            raw,
            is_head=request.method == "HEAD",
            on_close=forget,
            secrets=request.secrets,
        )
    except BaseException:
        forget()
        connection.close()
        raise


def _raw_answer(connection: Connection, request: Outgoing) -> PacedAnswer:
    try:
        connection.request(request.method, request.target, body=request.body, headers=dict(request.headers))
    except (BrokenPipeError, ConnectionResetError):
        if request.body is None:
            raise
        # a server that refuses a body answers before it has all of it, and closes
        try:
            early = connection.getresponse()
        except (OSError, http.client.HTTPException):
            early = None
        if early is None:
            raise
        early.will_close = True
        return early
    return connection.getresponse()


def _asked_for(target: str) -> str:
    """Return what a request's target asks for as a word of a span's name: manifest, blob, or nothing."""
    segment = target.partition("?")[0].rpartition("/")[0].rpartition("/")[2]
    return {"manifests": " manifest", "blobs": " blob"}.get(segment, "")
