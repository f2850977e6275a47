"""A session of uploading: what a registry says of where the bytes go and how many it has, and how it is closed."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import quote

from hythe.digest import Digest
from hythe.errors import HytheError, Unavailable
from hythe_distribution.adapters.registry.conversation import Conversation
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES
from hythe_distribution.adapters.registry.response import Response
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.hosts import Endpoint, redirected

UPLOADS = "blobs/uploads/"
CLOSE_WITHIN_S = 2.0

_RANGE = re.compile(r"(?:bytes[= ])?0-(\d{1,15})")
_DECIMAL = re.compile(r"\d{1,15}")


@dataclass(frozen=True, slots=True)
class Session:
    """An upload that a registry keeps open.

    Attributes:
        origin: server that opened it.
        endpoint, target: where its next bytes go; often another server.
        chunk_bytes: no chunk but the last may be smaller.
    """

    origin: Endpoint
    endpoint: Endpoint
    target: str
    chunk_bytes: int = 0

    @property
    def location(self) -> str:
        """Its absolute URL."""
        return f"{self.endpoint}{self.target}"

    def committing(self, digest: Digest) -> str:
        """Return the URL that makes a blob of it."""
        joint = "&" if "?" in self.target else "?"
        return f"{self.location}{joint}digest={quote(str(digest), safe='')}"

    def moved(self, step: str, response: Response) -> Session:
        """Return where it goes on after an answer; that is here when the answer doesn't say."""
        location = response.header("Location")
        if not location:
            return self
        endpoint, target = redirected(step, response.endpoint, self.target, location)
        return replace(self, endpoint=endpoint, target=target)


def opened(conversation: Conversation, response: Response) -> Session:
    """Return the session that an answer to POST opens.

    Raises:
        Unavailable: it doesn't say where, or what it says is no HTTP URL.
        PermissionDenied: it leads where a registry may not lead; see `redirected`.

    Spec: OCI distribution-spec, "Pushing a blob in chunks": Location, OCI-Chunk-Min-Length.
    """
    location, step = response.header("Location"), conversation.step
    if not location:
        raise Unavailable(f"{step}: {response.endpoint} does not say where to send the bytes (no Location)")
    asked = f"/v2/{conversation.source.repository}/{UPLOADS}"
    endpoint, target = redirected(step, response.endpoint, asked, location)
    least = response.header("OCI-Chunk-Min-Length").strip()
    return Session(response.endpoint, endpoint, target, int(least) if _DECIMAL.fullmatch(least) else 0)


def range_end(header: str) -> int | None:
    """Return how many bytes a ``Range`` header says were taken; None when it says nothing that can be read.

    ``0-0`` counts as nothing: registries say it of an upload that holds no byte at all.

    Spec: OCI distribution-spec, "Pushing a blob in chunks".
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    last = int(match[1])
    return last + 1 if last else 0


@contextmanager
def asked_to_open(conversation: Conversation, path: str, *, mount_from: str = "") -> Iterator[Response]:
    """Ask a registry to open an upload, and give its answer.

    A push that is given up in the middle of that still waits two seconds for the answer: without it nobody could close
    what was opened.

    Raises:
        Cancelled: the push was given up before, or the answer came too late.
        HytheError: see `Asking.ask`.
    """
    conversation.cancellation.check()
    with (
        _hurried(conversation.cancellation) as late,
        conversation.ask("POST", path, body=b"", mount_from=mount_from, repeatable=True, cancellation=late) as response,
    ):
        yield response


def abandon(conversation: Conversation, session: Session) -> None:
    """Have the registry forget an upload, if it does so within two seconds; else it will run out there by itself.

    Spec: OCI distribution-spec, "Canceling uploads"; Docker Registry HTTP API V2, "Canceling an Upload".
    """
    now = Cancellation()
    now.cancel()
    try:
        with (
            _hurried(now) as hurry,
            conversation.ask_at(
                "DELETE", session.origin, session.location, cancellation=hurry, repeatable=False
            ) as response,
        ):
            response.read_front(MAX_PROBLEM_BYTES)
    except (HytheError, Cancelled):
        pass


@contextmanager
def _hurried(order: Cancellation) -> Iterator[Cancellation]:
    """Give a cancellation that comes two seconds after `order`."""
    late = Cancellation()
    timer = threading.Timer(CLOSE_WITHIN_S, late.cancel)
    timer.daemon = True
    forget = order.on_cancel(timer.start)
    try:
        yield late
    finally:
        forget()
        timer.cancel()
