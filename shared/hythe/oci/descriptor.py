"""A descriptor: how one document points to a blob."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hythe.digest import Digest, parse_digest
from hythe.oci.fields import Fields
from hythe.oci.platform import Platform, normalised

MAX_BLOB_BYTES = 1 << 40
_MEDIA_TYPE = re.compile(
    r"[\x20-\x7e]{1,255}"
)  # it becomes the value of a header; artifacts use it with parameters, too


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob by type, digest and size.

    Attributes:
        media_type: what the blob is, e.g. one of `hythe.oci.media_types`.
        digest: sha256 of its bytes.
        size_bytes: its length, at most 1 TiB.
        platform: where a manifest in an index runs; None where the document does not say.
        annotations: free text by key; untrusted.
        urls: where else the bytes are said to be. A stranger chose them: they are asked only on the user's word, and never
            with credentials (CVE-2020-15157).
        artifact_type: what an artifact's manifest is about; empty where the document does not say.

    Spec: OCI image-spec, "Content Descriptors".
    """

    media_type: str
    digest: Digest
    size_bytes: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False, repr=False)
    urls: tuple[str, ...] = field(default=(), hash=False, compare=False, repr=False)
    artifact_type: str = field(default="", hash=False, compare=False, repr=False)


def parse_descriptor(fields: Fields) -> Descriptor:
    """Return the descriptor that a JSON object spells.

    Raises:
        InvalidArgument: a field is missing or wrong; no size below 0 or above 1 TiB is accepted.
    """
    media_type = fields.text("mediaType")
    if not media_type:
        raise fields.refuse("mediaType", "is missing")
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise fields.refuse("mediaType", f"is {media_type[:50]!r}, which is no media type")
    return Descriptor(
        media_type,
        parse_digest(fields.text("digest")),
        fields.number("size", MAX_BLOB_BYTES),
        _platform(fields.child("platform")) if fields.has("platform") else None,
        fields.mapping("annotations"),
        fields.texts("urls"),
        fields.text("artifactType"),
    )


def _platform(fields: Fields) -> Platform | None:
    os_name, architecture = fields.text("os"), fields.text("architecture")
    if not os_name and not architecture:
        return None
    return normalised(os_name, architecture, fields.text("variant"), fields.text("os.version"))
