"""Sending to a registry: which requests bring a blob or a manifest there, and which is spared because it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote

from hythe import tracing
from hythe.digest import Digest, digest_of
from hythe.errors import InvalidArgument
from hythe.oci import Descriptor
from hythe_distribution.adapters.registry.asking import Asking
from hythe_distribution.adapters.registry.conversation import Conversation, check_digest, refused
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES
from hythe_distribution.adapters.registry.referrers_tag import add_to_tag
from hythe_distribution.adapters.registry.response import Response
from hythe_distribution.adapters.registry.upload_session import UPLOADS, Session, abandon, asked_to_open, opened
from hythe_distribution.adapters.registry.uploads import CHUNK_BYTES, PAUSE_S, Upload
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Source
from hythe_distribution.registry import PushOutcome

MAX_MOUNTS = 3

_STORED = (200, 201, 202, 204)
_NOT_ABOUT_THE_DOCUMENT = (401, 403, 408, 429)


def push_blob(
    asking: Asking,
    source: Source,
    descriptor: Descriptor,
    read: Callable[[int], Iterator[bytes]],
    mount_from: Sequence[str],
    cancellation: Cancellation,
    report: Callable[[int], None],
    *,
    chunk_bytes: int = CHUNK_BYTES,
    pause_s: float = PAUSE_S,
) -> PushOutcome:
    """See `hythe_distribution.registry.Registry.push_blob`; `report` is told less again when the registry lost bytes.

    Args:
        mount_from: the first three are tried.
        chunk_bytes, pause_s: see `Upload`.
    """
    talk = Conversation(asking, f"push {descriptor.digest} to {source}", source, cancellation)
    with tracing.span("push blob", oci__digest=str(descriptor.digest), oci__size_bytes=descriptor.size_bytes) as span:
        outcome: PushOutcome = "exists"
        if not talk.has_blob(descriptor.digest, descriptor.size_bytes):
            mounted, session = _mount(talk, descriptor.digest, mount_from)
            outcome = "mounted"
            if not mounted:
                upload = Upload(
                    talk, descriptor, read, report, session=session, chunk_bytes=chunk_bytes, pause_s=pause_s
                )
                upload.run()
                span.set("hythe.breaks", upload.breaks)
                outcome = "pushed"
        span.set("hythe.outcome", outcome)
        return outcome


def _mount(talk: Conversation, digest: Digest, mount_from: Sequence[str]) -> tuple[bool, Session | None]:
    """Return whether the blob is there now, else the upload that the registry opened in place of a mount.

    A refusal is as good as a no: the blob can be sent.

    Spec: OCI distribution-spec, "Mounting a blob from another repository".
    """
    session: Session | None = None
    others = [name for name in dict.fromkeys(mount_from) if name != talk.source.repository]
    try:
        for repository in others[:MAX_MOUNTS]:
            path = f"{UPLOADS}?mount={quote(str(digest), safe='')}&from={quote(repository, safe='')}"
            if session is not None:
                abandon(talk, session)
                session = None
            with asked_to_open(talk, path, mount_from=repository) as response:
                if response.status == 201:
                    check_digest(talk.step, response, digest)
                    return True, None
                if response.status == 202:
                    session = opened(talk, response)
                else:
                    response.read_front(MAX_PROBLEM_BYTES)
    except BaseException:
        if session is not None:
            abandon(talk, session)
        raise
    return False, session


def push_manifest(
    asking: Asking,
    source: Source,
    version: str,
    raw: bytes,
    media_type: str,
    subject: Digest | None,
    cancellation: Cancellation,
) -> None:
    """See `hythe_distribution.registry.Registry.push_manifest`; repeating it is safe.

    Raises:
        Conflict: others kept overwriting the referrers tag; the manifest itself is there.
    """
    digest = digest_of(raw)
    talk = Conversation(asking, f"push manifest {source.at(version)}", source, cancellation)
    with tracing.span("push manifest", oci__manifest__digest=str(digest), oci__size_bytes=len(raw)) as span:
        headers = {"Content-Type": media_type}
        with talk.ask("PUT", f"manifests/{version}", headers=headers, body=raw, repeatable=True) as response:
            _require_stored(talk, response)
            check_digest(talk.step, response, digest)
            knows_subject = response.header("OCI-Subject").strip() == str(subject)
        if subject is not None and not knows_subject:
            span.set("hythe.referrers_tag", True)
            add_to_tag(talk, subject, raw, media_type)


def _require_stored(talk: Conversation, response: Response) -> None:
    if response.status in _STORED:
        return
    error = refused(talk.step, response, "image")
    if 400 <= response.status < 500 and response.status not in _NOT_ABOUT_THE_DOCUMENT:
        raise InvalidArgument(f"{talk.step}: {response.endpoint} refuses it", cause=error.cause)
    raise error
