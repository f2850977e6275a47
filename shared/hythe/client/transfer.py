"""Bytes to and from the distribution service over HTTP: they do not travel on the bus.

An address has a ticket in it, which is good for one request; it stands in no error.

Spec: RFC 9112, "Chunked Transfer Coding": a body that ends without its last chunk is not whole.
"""

from __future__ import annotations

import http.client
import json
import select
from urllib.parse import urlsplit

from hythe.client.problem import decode
from hythe.errors import DataLoss, HytheError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

CONNECT_S = 5.0
SILENCE_S = 120.0
ANSWER_S = 600.0
CHUNK_BYTES = 256 << 10
MAX_ANSWER_BYTES = 16 << 20
SERVICE = "distribution"
AGAIN = "try again; `hythe logs --service distribution` says what happened there"


def upload(
    url: str, chunks: Iterable[bytes], headers: Mapping[str, str], step: str = "send the archive"
) -> dict[str, Any]:
    """Send `chunks` as the body of a POST and return the answer, an object; `step` is what is being done, for errors.

    A refusal is read as soon as it comes, also before all is sent. What raises while `chunks` is read leaves the body
    without its end, so that the service takes nothing of it.

    Raises:
        Unavailable: the service does not listen there, or the connection broke; outcome unknown once all was sent.
        DataLoss: the answer is not understood.
        HytheError: what the service answered.
    """
    sent = {**headers, "Transfer-Encoding": "chunked", "Content-Type": "application/octet-stream"}
    return _carry("POST", url, sent, lambda connection: _send_chunks(connection, chunks, step), step)


def append(url: str, offset: int, data: bytes, step: str) -> dict[str, Any]:
    """Send `data`, which is not empty, by a PATCH as the bytes from `offset` on, and return the answer, an object.

    Raises:
        Unavailable, DataLoss, HytheError: as for `upload`.
    """
    sent = {"Content-Range": f"bytes {offset}-{offset + len(data) - 1}/*", "Content-Length": str(len(data))}
    return _carry("PATCH", url, sent, lambda connection: _send(connection, data, step), step)


def _carry(
    method: str, url: str, headers: Mapping[str, str], send: Callable[[http.client.HTTPConnection], None], step: str
) -> dict[str, Any]:
    """Make a request whose body `send` sends, and return its answer, also one that came before the body's end."""
    connection, path = _connect(url, step)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        try:
            connection.endheaders()
            send(connection)
        except _ServiceClosed:
            pass  # it may have said why before
        return _answer(connection, step)
    finally:
        connection.close()


class _ServiceClosed(Exception):
    """The service takes no more of the body; what raises while the body is made is not mistaken for it."""


def _send_chunks(connection: http.client.HTTPConnection, chunks: Iterable[bytes], step: str) -> None:
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    for chunk in chunks:
        if poll.poll(0):
            raise _ServiceClosed  # it answers before it has all: with a refusal
        if chunk:
            _send(connection, b"%x\r\n%b\r\n" % (len(chunk), chunk), step)
    _send(connection, b"0\r\n\r\n", step)


def _send(connection: http.client.HTTPConnection, data: bytes, step: str) -> None:
    try:
        connection.send(data)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _ServiceClosed from error
    except OSError as error:
        raise _broken(step, error) from error


def _answer(connection: http.client.HTTPConnection, step: str) -> dict[str, Any]:
    if connection.sock is not None:
        connection.sock.settimeout(ANSWER_S)
    try:
        response = connection.getresponse()
        data = response.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _broken(step, error, outcome_unknown=True) from error
    if response.status >= 400:
        raise _refusal(step, response, data)
    try:
        found = json.loads(data)
    except ValueError as error:
        raise _not_understood(step, str(error)) from error
    if not isinstance(found, dict):
        raise _not_understood(step, "not an object")
    return found


def _not_understood(step: str, cause: str) -> DataLoss:
    return DataLoss(f"{step}: the answer is not understood", cause=cause, outcome="unknown", service=SERVICE)


def download(url: str, headers: Mapping[str, str], step: str = "fetch the archive") -> Iterator[bytes]:
    """Yield the body of a GET piece by piece; it ends without an error only if the body is whole.

    Raises:
        Unavailable: the service does not listen there, or the connection broke before the end.
        HytheError: what the service answered.
    """
    connection, path = _connect(url, step)
    try:
        try:
            connection.request("GET", path, headers=dict(headers))
            response = connection.getresponse()
            if response.status >= 400:
                raise _refusal(step, response, response.read(MAX_ANSWER_BYTES))
            if not response.chunked and response.length is None:
                raise http.client.HTTPException("the answer does not say where it ends")
            while data := response.read(CHUNK_BYTES):
                yield data
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        except (OSError, http.client.HTTPException) as error:
            raise _broken(step, error) from error
    finally:
        connection.close()


def _refusal(step: str, response: http.client.HTTPResponse, data: bytes) -> HytheError:
    """Return the error that a service of ours, or the store that it led to, answered."""
    if data.startswith(b"{"):
        return decode(data)
    return Unavailable(
        f"{step}: the store answers {response.status} {response.reason}",
        service=SERVICE,
        outcome="failed",
        next_step="try again: an address is good for a short while only",
    )


def _connect(url: str, step: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DataLoss(f"{step}: the service named no address that can be used", service=SERVICE)
    make = http.client.HTTPConnection if parts.scheme == "http" else http.client.HTTPSConnection
    connection = make(parts.hostname, parts.port, timeout=CONNECT_S)
    try:
        connection.connect()
    except OSError as error:
        raise Unavailable(
            f"{step}: {SERVICE} does not listen on {parts.hostname}:{connection.port}",
            cause=error.strerror or str(error),
            service=SERVICE,
            next_step="`hythe status` shows whether it runs",
        ) from error
    connection.sock.settimeout(SILENCE_S)
    return connection, parts.path + (f"?{parts.query}" if parts.query else "")


def _broken(step: str, error: Exception, *, outcome_unknown: bool = False) -> Unavailable:
    return Unavailable(
        f"{step}: the connection to {SERVICE} broke before the end",
        cause=_words(error),
        service=SERVICE,
        outcome="unknown" if outcome_unknown else "failed",
        next_step=AGAIN,
    )


def _words(error: Exception) -> str:
    """Return what a foreign error says, without bytes of the body, which some of them carry."""
    if isinstance(error, http.client.IncompleteRead):
        return "the body has no end"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
