"""One HTTP request and its answer, over a kept connection where there is one."""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable, Mapping
from types import TracebackType

from hythe import tracing
from hythe.errors import InvalidArgument
from hythe_distribution.adapters.registry.connections import Connection, Pool
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES, broken, connecting
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Endpoint


class Response:
    """An answer whose body is still to be read; closing it keeps its connection only if the body was read to its end.

    Attributes:
        status: HTTP status.
        size_bytes: what Content-Length says; None if it says nothing.
    """

    def __init__(
        self,
        step: str,
        pool: Pool,
        connection: Connection,
        raw: http.client.HTTPResponse,
        *,
        is_head: bool,
        on_close: Callable[[], None],
    ) -> None:
        self.status = raw.status
        self.endpoint = connection.endpoint
        self.size_bytes = _content_length(raw)
        self._step = step
        self._pool = pool
        self._connection = connection
        self._raw = raw
        self._on_close = on_close
        self._received = 0
        self._remaining = 0 if is_head else raw.length
        self._ended = self._remaining == 0
        self._open = True

    def header(self, name: str) -> str:
        """Return a header's value, several joined by a comma; empty if it isn't there."""
        return self._raw.getheader(name, "")

    def readinto(self, buffer: memoryview) -> int:
        """Read what has come into `buffer`; see `hythe_distribution.registry.Body.readinto`."""
        if self._ended:
            return 0
        try:
            count = self._read_some(buffer)
        except (OSError, http.client.HTTPException) as error:
            raise broken(self._step, self.endpoint, self._received, error) from error
        if count == 0:
            if self._remaining is not None:
                raise broken(
                    self._step, self.endpoint, self._received, EOFError(f"{self._remaining} bytes are missing")
                )
            self._ended = True
            return 0
        self._received += count
        if self._remaining is not None:
            self._remaining -= count
            self._ended = self._remaining == 0
        return count

    def _read_some(self, buffer: memoryview) -> int:
        if self._remaining is None:
            return self._raw.readinto(buffer)
        # What came with the headers lies in http.client's buffer; asked for more than its size, readinto1 would hand
        # it out only together with a further read, which may have to wait.
        most_bytes = io.DEFAULT_BUFFER_SIZE if self._received == 0 else self._remaining
        return self._raw.fp.readinto1(buffer[: min(most_bytes, self._remaining)])

    def read_all(self, most_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            InvalidArgument: it is longer than `most_bytes`.
            Unavailable: as for `readinto`.
        """
        data = self.read_front(most_bytes + 1)
        if len(data) > most_bytes:
            raise InvalidArgument(f"{self._step}: {self.endpoint} sends more than {most_bytes} bytes")
        return data

    def read_front(self, most_bytes: int) -> bytes:
        """Return the body, or its first `most_bytes` if it is longer."""
        data = bytearray()
        buffer = memoryview(bytearray(MAX_PROBLEM_BYTES))
        while len(data) < most_bytes and (count := self.readinto(buffer[: most_bytes - len(data)])):
            data += buffer[:count]
        return bytes(data)

    def close(self) -> None:
        """Give the connection back, or up."""
        if not self._open:
            return
        self._open = False
        self._on_close()
        self._raw.close()
        if self._ended and not self._raw.will_close:
            self._pool.give(self._connection)
        else:
            self._connection.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def exchange(
    step: str,
    pool: Pool,
    origin: Endpoint,
    endpoint: Endpoint,
    method: str,
    target: str,
    headers: Mapping[str, str],
    cancellation: Cancellation,
) -> Response:
    """Send one request and return its answer, before its body.

    A kept connection that the server closed meanwhile is replaced by a new one, once. The cancellation can wake this
    call, and the reading of the body until `Response.close`.

    Args:
        step: what is being done, for error messages.
        origin: registry on whose word `endpoint` is asked; it limits the addresses that are connected to.

    Raises:
        Unavailable, FailedPrecondition, PermissionDenied: see `connecting` and `Connection.connect`.
        Cancelled: the cancellation came first.
    """
    with tracing.span(
        f"registry {method}{_asked_for(target)}",
        kind="client",
        http__request__method=method,
        server__address=endpoint.host,
        server__port=endpoint.port,
        url__path=target.partition("?")[0],
    ) as span:
        with connecting(step, endpoint):
            response = _send_kept(step, pool, endpoint, method, target, headers, cancellation)
            if response is None:
                response = _send(step, pool, pool.new(endpoint, origin), method, target, headers, cancellation)
        span.set("http.response.status_code", response.status)
        return response


def _send_kept(
    step: str,
    pool: Pool,
    endpoint: Endpoint,
    method: str,
    target: str,
    headers: Mapping[str, str],
    cancellation: Cancellation,
) -> Response | None:
    kept = pool.take(endpoint)
    if kept is None:
        return None
    try:
        return _send(step, pool, kept, method, target, headers, cancellation)
    except ConnectionError:
        cancellation.check()
        return None


def _send(
    step: str,
    pool: Pool,
    connection: Connection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    cancellation: Cancellation,
) -> Response:
    forget = cancellation.on_cancel(connection.abort)
    try:
        connection.request(method, target, headers=dict(headers))
        return Response(step, pool, connection, connection.getresponse(), is_head=method == "HEAD", on_close=forget)
    except BaseException:
        forget()
        connection.close()
        raise


def _asked_for(target: str) -> str:
    """Return what a request's target asks for as a word of a span's name: manifest, blob, or nothing."""
    segment = target.partition("?")[0].rpartition("/")[0].rpartition("/")[2]
    return {"manifests": " manifest", "blobs": " blob"}.get(segment, "")


def _content_length(raw: http.client.HTTPResponse) -> int | None:
    text = raw.getheader("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
