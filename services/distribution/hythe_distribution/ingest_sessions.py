"""Ingests that somebody outside this process writes: who holds which, and until when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from hythe.digest import Digest
from hythe.errors import NotFound, OutOfRange, Unavailable
from hythe.identifiers import new_id
from hythe.ports.namespace_content import LabelledBlob, NamespaceContent, NamespaceIngest

IDLE_S = 10.0


@dataclass(slots=True)
class _Session:
    namespace: str
    reference: str
    ingest: NamespaceIngest
    used_at: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class IngestSessions:
    """Open ingests by session id; safe for several threads.

    A writer that is not heard of for `IDLE_S` loses its session: the bytes are kept for whoever opens the ingest again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}

    def open(
        self,
        content: NamespaceContent,
        namespace: str,
        reference: str,
        *,
        total_bytes: int | None,
        expected: Digest | None,
        resume: bool,
    ) -> tuple[str, int]:
        """Begin an ingest for a writer outside; return the session and the offset where its bytes go.

        Raises:
            HytheError: see `NamespaceContent.open_ingest`.
        """
        self.sweep()
        ingest = content.open_ingest(reference, total_bytes=total_bytes, expected=expected, resume=resume)
        session = new_id()
        with self._lock:
            self._sessions[session] = _Session(namespace, reference, ingest, self._clock())
        return session, ingest.offset

    def write(self, session_id: str, offset: int, chunks: Iterator[bytes]) -> int:
        """Append `chunks` at `offset` and return the new offset.

        Raises:
            NotFound: there is no such session (any more).
            OutOfRange: the ingest holds another number of bytes than `offset` (details ``offset``).
            Unavailable: another request is writing to it.
            HytheError: see `NamespaceIngest.write`.
        """
        with self._held(session_id, None) as session:
            present = session.ingest.offset
            if offset != present:
                raise OutOfRange(
                    f"write {session.reference}: the next byte is {present}, not {offset}",
                    details={"offset": str(present)},
                )
            for chunk in chunks:
                session.ingest.write(chunk)
                session.used_at = self._clock()
            return session.ingest.offset

    def commit(
        self,
        namespace: str,
        session_id: str,
        expected: Digest | None,
        size_bytes: int | None,
        labels: Mapping[str, str],
    ) -> LabelledBlob:
        """Make the ingest a blob; the session is over in any case.

        Raises:
            NotFound, Unavailable: as for `write`.
            HytheError: see `NamespaceIngest.commit`.
        """
        with self._held(session_id, namespace) as session:
            try:
                return session.ingest.commit(expected, size_bytes, labels)
            finally:
                self._end(session_id, session)

    def close(self, namespace: str, session_id: str, *, abort: bool) -> None:
        """End a session; with `abort` nothing of its ingest stays, else its bytes do. One that is over is no error."""
        try:
            with self._held(session_id, namespace) as session:
                if abort:
                    session.ingest.abort()
                self._end(session_id, session)
        except NotFound:
            pass

    def abort(self, content: NamespaceContent, reference: str) -> None:
        """Remove an ingest, also one whose writer has not been heard of.

        Raises:
            HytheError: see `NamespaceContent.abort`.
        """
        self.sweep()
        content.abort(reference)

    def sweep(self) -> None:
        """Let go of the sessions whose writer has not been heard of."""
        limit = self._clock() - IDLE_S
        with self._lock:
            idle = [(key, session) for key, session in self._sessions.items() if session.used_at < limit]
        for key, session in idle:
            if session.lock.acquire(blocking=False):
                try:
                    self._end(key, session)
                finally:
                    session.lock.release()

    def shut_down(self) -> None:
        """Let go of all sessions; their bytes are kept."""
        with self._lock:
            sessions = list(self._sessions.items())
        for key, session in sessions:
            with session.lock:
                self._end(key, session)

    def _find(self, session_id: str, namespace: str | None) -> _Session:
        with self._lock:
            session = self._sessions.get(session_id)
        if session is None or namespace not in (None, session.namespace):
            raise NotFound(
                "find ingest session: it is over, or was lost with its process",
                next_step="open the ingest again: the bytes that were written are kept",
                details={"kind": "session"},
            )
        return session

    @contextmanager
    def _held(self, session_id: str, namespace: str | None) -> Iterator[_Session]:
        session = self._find(session_id, namespace)
        if not session.lock.acquire(blocking=False):
            raise Unavailable(
                f"write {session.reference}: another request is writing to it", next_step="try again in a moment"
            )
        try:
            self._find(session_id, namespace)  # it may have ended while this one took hold of it
            yield session
        finally:
            session.used_at = self._clock()
            session.lock.release()

    def _end(self, session_id: str, session: _Session) -> None:
        with self._lock:
            self._sessions.pop(session_id, None)
        session.ingest.close()
