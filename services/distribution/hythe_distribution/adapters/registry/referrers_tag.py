"""The tag that lists what refers to a manifest, in registries that have no referrers API: how it is read and kept."""

from __future__ import annotations

import json
from typing import Any

from hythe.digest import Digest, digest_of
from hythe.errors import Conflict, InvalidArgument
from hythe.oci import media_types
from hythe.oci.fields import MAX_DOCUMENT_BYTES, Fields, load_object
from hythe_distribution.adapters.registry.conversation import Conversation, refused, require_status
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES

MAX_ATTEMPTS = 3


def referrers_tag(subject: Digest) -> str:
    """Return the tag under which the manifests about `subject` are listed.

    Spec: OCI distribution-spec, "Referrers Tag Schema".
    """
    return f"sha256-{subject.hex}"


def read_index(step: str, raw: bytes) -> tuple[Fields, ...]:
    """Return the entries of an index of referrers, not yet parsed.

    Raises:
        InvalidArgument: `raw` spells something else.
    """
    fields = load_object(raw, "list of referrers")
    is_manifest = fields.has("config") or fields.has("layers")
    if is_manifest or not fields.has("manifests") or fields.text("mediaType") not in ("", media_types.OCI_INDEX):
        raise InvalidArgument(f"{step}: its list of referrers is no OCI image index")
    return fields.children("manifests")


def add_to_tag(talk: Conversation, subject: Digest, raw: bytes, media_type: str) -> None:
    """Have the referrers tag of `subject` list a manifest, beside all that it lists; one that stands there is no change.

    Where the registry gives an ETag, the index is replaced only if nobody else did meanwhile. It is read again
    afterwards: some registries give an ETag and don't heed it.

    Args:
        raw: the manifest, already pushed.

    Raises:
        Conflict: three times others replaced the index with one that lacks it.
        InvalidArgument: the tag points to something else than an index, the registry refuses the new index, or that
            would be larger than 4 MiB.

    Spec: OCI distribution-spec, "Pushing Manifests with Subject".
    """
    entry = _entry(raw, media_type)
    path = f"manifests/{referrers_tag(subject)}"
    for _ in range(MAX_ATTEMPTS):
        index, etag = _read(talk, path)
        if _lists(index, entry):
            return
        index["manifests"].append(entry)
        _replace(talk, path, index, etag)
    index, _ = _read(talk, path)
    if not _lists(index, entry):
        raise Conflict(
            f"{talk.step}: others keep replacing {talk.source}:{referrers_tag(subject)}",
            next_step="push it again",
            outcome="unknown",
        )


def _entry(raw: bytes, media_type: str) -> dict[str, Any]:
    """Return the descriptor of a manifest as an index of referrers has it: with its artifact type and annotations."""
    fields = load_object(raw, "manifest")
    artifact_type = fields.text("artifactType") or fields.child("config").text("mediaType")
    entry: dict[str, Any] = {"mediaType": media_type, "digest": str(digest_of(raw)), "size": len(raw)}
    if artifact_type:
        entry["artifactType"] = artifact_type
    if annotations := fields.mapping("annotations"):
        entry["annotations"] = annotations
    return entry


def _lists(index: dict[str, Any], entry: dict[str, Any]) -> bool:
    return any(each.get("digest") == entry["digest"] for each in index["manifests"])


def _read(talk: Conversation, path: str) -> tuple[dict[str, Any], str]:
    """Return the index that a tag points to, with its ETag if any; an empty one where there is no such tag."""
    with talk.ask("GET", path, accept=media_types.OCI_INDEX) as response:
        if response.status == 404:
            response.read_front(MAX_PROBLEM_BYTES)
            return {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}, ""
        require_status(talk.step, response, (200,), "image")
        raw, etag = response.read_all(MAX_DOCUMENT_BYTES), response.header("ETag").strip()
    read_index(talk.step, raw)
    index: dict[str, Any] = json.loads(raw)
    if "manifests" not in index:  # but another spelling, which Go's readers take for it
        raise InvalidArgument(f"{talk.step}: its list of referrers is no OCI image index")
    index["manifests"] = index["manifests"] or []
    return index, etag


def _replace(talk: Conversation, path: str, index: dict[str, Any], etag: str) -> None:
    """Put an index; nothing happens where somebody else has put one since it was read and the registry says so."""
    raw = json.dumps(index, separators=(",", ":")).encode()
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise InvalidArgument(f"{talk.step}: its list of referrers would be larger than {MAX_DOCUMENT_BYTES} bytes")
    headers = {"Content-Type": media_types.OCI_INDEX} | ({"If-Match": etag} if etag else {})
    with talk.ask("PUT", path, headers=headers, body=raw, repeatable=True) as response:
        if response.status == 412:
            response.read_front(MAX_PROBLEM_BYTES)
        elif not 200 <= response.status < 300:
            error = refused(talk.step, response, "image")
            if isinstance(error, InvalidArgument):
                message = f"{talk.step}: {response.endpoint} refuses its list of referrers"
                raise InvalidArgument(message, cause=error.cause)
            raise error
