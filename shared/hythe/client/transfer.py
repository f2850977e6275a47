"""Bytes to and from the distribution service over HTTP, at the addresses that it hands out over the bus."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from hythe.client.problem import decode
from hythe.errors import DataLoss, Unavailable

CHUNK_BYTES = 1 << 20
SILENCE_S = 60.0
"""An import or export may have to wait for a disk that is full of work; silence, not total time, is failure."""
_MAX_PROBLEM_BYTES = 1 << 20


class Answer:
    """An answer whose body is still to be read."""

    def __init__(self, step: str, raw: http.client.HTTPResponse) -> None:
        self._step = step
        self._raw = raw
        self.status = raw.status

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces of at most 1 MiB.

        Raises:
            Unavailable: it broke off before its end.
        """
        while chunk := self._read(CHUNK_BYTES):
            yield chunk

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            Unavailable: it broke off before its end.
            DataLoss: it is no JSON object.
        """
        data = b"".join(self.chunks())
        try:
            answer = json.loads(data)
        except ValueError as error:
            raise DataLoss(
                f"{self._step}: the answer is not understood", cause=str(error), outcome="unknown"
            ) from error
        if not isinstance(answer, dict):
            raise DataLoss(f"{self._step}: the answer is not understood", outcome="unknown")
        return answer

    def _read(self, most_bytes: int) -> bytes:
        try:
            return self._raw.read(most_bytes)
        except (OSError, http.client.HTTPException) as error:
            raise broken(self._step, error) from error


@contextmanager
def request(
    step: str,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | Iterable[bytes] | None = None,
) -> Iterator[Answer]:
    """Make one request and give its answer; leaving the block closes the connection.

    Args:
        step: what is being done, for errors.
        url: as the distribution service gave it, ticket and all; it never appears in an error.
        body: bytes, or pieces that are sent as they come, in HTTP's chunks.

    Raises:
        Unavailable: the service cannot be reached there, or broke off.
        HytheError: what the service answered.
    """
    split = urlsplit(url)
    make = http.client.HTTPSConnection if split.scheme == "https" else http.client.HTTPConnection
    connection = make(split.hostname or "", split.port, timeout=SILENCE_S)
    target = f"{split.path}?{split.query}" if split.query else split.path
    try:
        try:
            chunked = body is not None and not isinstance(body, bytes)
            connection.request(method, target, body, dict(headers or {}), encode_chunked=chunked)
        except (BrokenPipeError, ConnectionResetError) as error:
            _said_before_it_broke_off(step, connection, error)
        try:
            raw = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise broken(step, error) from error
        if raw.status >= 400:
            raise _refusal(step, raw)
        yield Answer(step, raw)
    except (OSError, http.client.HTTPException) as error:
        raise broken(step, error) from error
    finally:
        connection.close()


def _said_before_it_broke_off(step: str, connection: http.client.HTTPConnection, error: OSError) -> None:
    """A service that refuses answers before it has read the whole body, and closes: its answer is what counts."""
    if connection.sock is None:
        raise broken(step, error) from error
    raw = http.client.HTTPResponse(connection.sock)
    try:
        raw.begin()
    except (OSError, http.client.HTTPException):
        raise broken(step, error) from error
    raise _refusal(step, raw)


def _refusal(step: str, raw: http.client.HTTPResponse) -> Exception:
    try:
        data = raw.read(_MAX_PROBLEM_BYTES)
    except (OSError, http.client.HTTPException) as error:
        return broken(step, error)
    if raw.getheader("Content-Type", "") != "application/json":
        return Unavailable(
            f"{step}: the service answers {raw.status} {raw.reason}", service="distribution", outcome="failed"
        )
    return decode(data)


def broken(step: str, error: Exception) -> Unavailable:
    """Return the error for a connection that could not be made or broke off."""
    return Unavailable(
        f"{step}: the connection to the distribution service broke off",
        cause=getattr(error, "strerror", None) or str(error) or type(error).__name__,
        service="distribution",
        outcome="unknown",
        next_step="try again; `hythe status` shows whether distribution runs",
    )
