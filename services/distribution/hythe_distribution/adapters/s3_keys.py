"""The keys of records in a bucket: ``records/<namespace>/sha256/<hex>``."""

from __future__ import annotations

from hythe.digest import Digest, parse_digest
from hythe.errors import InvalidArgument
from hythe.identifiers import check_namespace, decode_token, encode_token

PREFIX = "records/"


def prefix_of(namespace: str) -> str:
    """Return how the keys of a namespace's records begin."""
    return f"{PREFIX}{encode_token(namespace)}/"


def key_of(namespace: str, digest: Digest) -> str:
    """Return the key of a record."""
    return f"{prefix_of(namespace)}sha256/{digest.hex}"


def digest_in(text: str) -> Digest | None:
    """Return the digest that `text` spells; None where it is something else, like the key of somebody else's object."""
    try:
        return parse_digest(text)
    except InvalidArgument:
        return None


def namespace_in(token: str) -> str | None:
    """Return the namespace that stands in a key as `token`; None where it is none."""
    try:
        return check_namespace(decode_token(token))
    except InvalidArgument:
        return None


def record_in(key: str) -> tuple[str, Digest] | None:
    """Return namespace and digest of the record of that key; None for another object's key."""
    token, _, rest = key.removeprefix(PREFIX).partition("/")
    namespace, digest = namespace_in(token), digest_in(rest.replace("/", ":", 1))
    return None if namespace is None or digest is None else (namespace, digest)
