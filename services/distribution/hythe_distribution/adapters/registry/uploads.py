"""One blob on its way to a registry, in chunks; after each break it goes on where the registry stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from hythe.errors import DataLoss, HytheError, ResourceExhausted, Unauthenticated, Unavailable
from hythe.oci import Descriptor
from hythe_distribution.adapters.registry.conversation import Conversation, check_digest, require_status
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES, refusal, registry_text
from hythe_distribution.adapters.registry.response import Response
from hythe_distribution.adapters.registry.upload_session import (
    UPLOADS,
    Session,
    abandon,
    asked_to_open,
    opened,
    range_end,
)
from hythe_distribution.hosts import Endpoint

CHUNK_BYTES = 8 << 20
MAX_BREAKS = 5
PAUSE_S = 0.2

_OCTETS = "application/octet-stream"
_TAKEN = (202, 204)
_CREATED = (200, 201, 204)
_KNOWN = (200, 202, 204)
_GONE = (400, 404, 405, 410, 416)
_FOR_NOW = (401, 408, 416, 429)


class _Break(Exception):
    """An upload came to a halt that may be only for now; `lost` when its session is gone."""

    def __init__(self, error: HytheError, *, lost: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.lost = lost


class Upload:
    """The sending of one blob. `run` it once; whatever ends that, no session is left open that could be closed.

    Attributes:
        breaks: how often it came to a halt and went on.
    """

    def __init__(
        self,
        conversation: Conversation,
        descriptor: Descriptor,
        read: Callable[[int], Iterator[bytes]],
        report: Callable[[int], None],
        *,
        session: Session | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        pause_s: float = PAUSE_S,
    ) -> None:
        """Prepare to send.

        Args:
            session: one that is open already; None to open one.
            chunk_bytes: bytes of a request, unless the registry wants more; a blob of no more goes in one piece.
            pause_s: seconds to wait after a break; each further one without progress doubles them.
        """
        self.breaks = 0
        self._talk = conversation
        self._digest, self._size_bytes = descriptor.digest, descriptor.size_bytes
        self._reading = _Reading(conversation, descriptor, read)
        self._report = report
        self._session = session
        self._chunk_bytes = chunk_bytes
        self._pause_s = pause_s
        self._taken = self._sent = 0
        self._in_doubt = False

    def run(self) -> None:
        """Send all bytes and have the registry make a blob of them.

        Raises:
            Unavailable: five breaks in a row without getting further; or as for `opened`.
            DataLoss: the registry says that other bytes arrived, or `read` gives too few.
            HytheError: what the registry refuses with.

        Spec: OCI distribution-spec, "Pushing a blob in chunks", "POST then PUT".
        """
        vain = furthest = 0
        try:
            while True:
                try:
                    self._send()
                    return
                except _Break as halt:
                    self._reading.check()
                    self.breaks += 1
                    vain = 1 if self._taken > furthest else vain + 1
                    furthest = max(furthest, self._taken)
                    if vain >= MAX_BREAKS:
                        raise self._giving_up(halt.error, furthest) from halt
                    if halt.lost:
                        self._drop_session()
                self._in_doubt = True
                self._talk.cancellation.wait(self._pause_s * 2 ** (vain - 1))
        except BaseException:
            self._drop_session()
            raise
        finally:
            self._reading.close()

    def _send(self) -> None:
        if self._in_doubt and self._is_done():
            return
        self._in_doubt = False
        if self._session is None:
            self._session = self._open()
        if self._taken == 0 and self._size_bytes <= self._chunk_bytes:
            self._commit(self._session, self._size_bytes)
            return
        while self._taken < self._size_bytes:
            self._append(self._session)
        self._commit(self._session, 0)

    def _open(self) -> Session:
        with asked_to_open(self._talk, UPLOADS) as response:
            require_status(self._talk.step, response, (202,), "image")
            return opened(self._talk, response)

    def _append(self, session: Session) -> None:
        """Send the next chunk and note how much of it was taken."""
        first = self._taken
        length = min(max(self._chunk_bytes, session.chunk_bytes), self._size_bytes - first)
        self._sent = first + length
        headers = {"Content-Type": _OCTETS, "Content-Range": f"{first}-{self._sent - 1}"}
        with self._asked("PATCH", session.location, headers, first, length) as response:
            self._require(response, _TAKEN)
            self._session = session.moved(self._talk.step, response)
            end = range_end(response.header("Range"))
        self._taken = self._sent if end is None else self._checked(response.endpoint, first, end)
        self._report(self._taken)

    def _commit(self, session: Session, length: int) -> None:
        """Send the last `length` bytes, all or none, and have a blob made."""
        self._sent = self._size_bytes
        first = self._size_bytes - length
        with self._asked("PUT", session.committing(self._digest), {"Content-Type": _OCTETS}, first, length) as response:
            self._require(response, _CREATED)
            self._session = None
            check_digest(self._talk.step, response, self._digest)
        if length:
            self._report(self._size_bytes)

    def _is_done(self) -> bool:
        """Find out how far the registry got; tell whether it has made the blob already."""
        session, self._taken = self._session, 0
        if session is not None:
            with self._asked("GET", session.location, {}) as response:
                if response.status in _GONE:
                    self._session = None
                else:
                    self._require(response, _KNOWN, again=(408, 429))
                    self._session = session.moved(self._talk.step, response)
                    self._taken = range_end(response.header("Range")) or 0
        if not 0 < self._taken <= self._sent:
            self._taken = 0
            self._drop_session()
        self._report(self._taken)
        if self._session is not None:
            return False
        with _breaking():
            return self._talk.has_blob(self._digest, self._size_bytes)

    def _checked(self, endpoint: Endpoint, first: int, end: int) -> int:
        if first < end <= self._sent:
            return end
        text = f"{self._talk.step}: {endpoint} says that it has {end} bytes, of {self._sent} that were sent"
        raise _Break(Unavailable(text), lost=True)

    @contextmanager
    def _asked(
        self, method: str, location: str, headers: dict[str, str], first: int = 0, length: int = 0
    ) -> Iterator[Response]:
        """Run a block with the answer to a request whose body is a piece of the blob."""
        self._talk.cancellation.check()
        body = self._reading.piece(first, length) if length else None if method == "GET" else b""
        session = self._session
        assert session is not None
        with _breaking():
            response = self._talk.ask_at(
                method, session.origin, location, headers=headers, body=body, body_bytes=length if length else None
            )
        with response:
            yield response

    def _require(self, response: Response, good: Collection[int], again: Collection[int] = _FOR_NOW) -> None:
        """Return if the status is one of `good`; `again` are those that may be only for now, beside 5xx."""
        status, step = response.status, self._talk.step
        if status in good:
            return
        with _breaking():
            body = response.read_front(MAX_PROBLEM_BYTES)
        error, text = refusal(step, response.endpoint, status, body, "blob"), registry_text(body)
        if status == 400 and ("DIGEST_INVALID" in text or "SIZE_INVALID" in text):
            raise DataLoss(f"{step}: {response.endpoint} says that other bytes arrived", cause=text)
        if status == 404 or "BLOB_UPLOAD_" in text:
            self._session = None
            raise _Break(error, lost=True)
        if status in again or status >= 500:
            raise _Break(error, lost=False)
        raise error

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            abandon(self._talk, session)

    def _giving_up(self, error: HytheError, furthest: int) -> HytheError:
        if isinstance(error, Unauthenticated | ResourceExhausted):
            return error
        return Unavailable(
            f"{self._talk.step}: {self._talk.source.host} broke off {MAX_BREAKS} times without taking more than "
            f"{furthest} of {self._size_bytes} bytes",
            cause=error.whole,
            next_step="try again",
            details={"kind": "registry"},
        )


class _Reading:
    """The bytes of a blob in pieces of any length, read on from where the last piece ended, else afresh."""

    def __init__(
        self, conversation: Conversation, descriptor: Descriptor, read: Callable[[int], Iterator[bytes]]
    ) -> None:
        self._talk = conversation
        self._descriptor = descriptor
        self._read = read
        self._chunks: Iterator[bytes] = iter(())
        self._rest = b""
        self._offset = -1
        self._failure: HytheError | None = None

    def piece(self, first: int, length: int) -> Iterator[bytes]:
        """Yield `length` bytes from `first` on; what goes wrong is kept for `check`, for the connection breaks with it."""
        try:
            if first != self._offset:
                self.close()
                self._chunks, self._rest, self._offset = self._read(first), b"", first
            end = first + length
            while self._offset < end:
                self._talk.cancellation.check()
                chunk = self._rest or next(self._chunks, b"")
                if not chunk:
                    whole = f"{self._offset} of {self._descriptor.size_bytes} bytes"
                    raise DataLoss(f"{self._talk.step}: the content store has only {whole}")
                part, self._rest = chunk[: end - self._offset], chunk[end - self._offset :]
                self._offset += len(part)
                yield part
        except HytheError as error:
            self._failure = error
            raise

    def check(self) -> None:
        """Return if all could be read so far; else raise what went wrong."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Give the open blob back."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()
        self._offset = -1


@contextmanager
def _breaking() -> Iterator[None]:
    """Run a block in which Unavailable is a break."""
    try:
        yield
    except Unavailable as error:
        raise _Break(error, lost=False) from error
