"""What an image reference means: names are normalised as Docker does, so that one image has one spelling."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from hythe.digest import Digest, parse_digest
from hythe.errors import InvalidArgument

DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"
MAX_NAME_LENGTH = 255
MAX_REFERENCE_LENGTH = 512
MAX_DIRECTORY_BYTES = 4095
BUNDLE_SCHEME = "bundle:"

_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[A-Fa-f0-9:]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_WORD = r"[a-z0-9]+"
_COMPONENT = rf"{_WORD}(?:(?:[._]|__|-+){_WORD})*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX_64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised image reference; two references to one image by one name are equal. Made by `parse_reference`.

    Attributes:
        host: registry as the user named it, with its port if any: ``docker.io``, ``localhost:5000``, ``[::1]:5000``.
        repository: path below the host, e.g. ``library/busybox``.
        tag: None only where a digest stands alone.
        digest: digest of the root manifest or index; it decides what is fetched, whatever the tag says by now.
    """

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"

    @property
    def name(self) -> str:
        """Host and repository, without tag and digest."""
        return f"{self.host}/{self.repository}"

    @property
    def version(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag."""
        return str(self.digest) if self.digest else self.tag or DEFAULT_TAG

    @property
    def familiar(self) -> str:
        """The reference as people write it, without ``docker.io/library/``; `parse_reference` takes it back."""
        if self.host != DEFAULT_HOST:
            return str(self)
        short = str(self).removeprefix(f"{DEFAULT_HOST}/")
        first, _, rest = self.repository.partition("/")
        if first == "library" and "/" not in rest:
            return short.removeprefix("library/")
        return str(self) if _is_host(first) else short


def parse_reference(text: str) -> Reference:
    """Return the reference that `text` spells, normalised.

    ``busybox`` is ``docker.io/library/busybox:latest``. The first path component is a host if it has a dot, a colon or
    an upper-case letter, or is ``localhost``. A reference with a digest gets no default tag.

    Args:
        text: ``[host[:port]/]repository[:tag][@digest]``, at most 512 characters.

    Raises:
        InvalidArgument: a part breaks its rule; the message names the part.

    Spec: OCI distribution-spec, "Pulling manifests"; the short forms are Docker's.
    """
    if not text or len(text) > MAX_REFERENCE_LENGTH:
        raise _invalid(text, f"expected 1 to {MAX_REFERENCE_LENGTH} characters")
    if _HEX_64.fullmatch(text):
        raise _invalid(text, "64 hex digits alone are an image id, not a name")
    rest, at, digest_text = text.partition("@")
    digest = parse_digest(digest_text) if at else None
    host, repository = _split_host(rest)
    repository, colon, tag_text = repository.partition(":")
    tag = tag_text if colon else None
    _check_host(text, host)
    if host == DEFAULT_HOST and "/" not in repository:
        repository = f"library/{repository}"
    if repository != repository.lower():
        raise _invalid(text, f"repository {repository!r} must be lower case")
    if not _REPOSITORY.fullmatch(repository):
        raise _invalid(text, f"repository {repository!r} must be lower-case words joined by one of . _ __ - and by /")
    if len(host) + 1 + len(repository) > MAX_NAME_LENGTH:
        raise _invalid(text, f"host and repository are longer than {MAX_NAME_LENGTH} characters")
    if tag is not None and not _TAG.fullmatch(tag):
        raise _invalid(text, f"tag {tag[:140]!r} must be 1 to 128 letters, digits and _ . -, not starting with . or -")
    if tag is None and digest is None:
        tag = DEFAULT_TAG
    return Reference(host, repository, tag, digest)


def bundle_reference(directory: str) -> str:
    """Return what stands in place of an image's reference where a container is run from a bundle directory.

    Args:
        directory: absolute path without ``.``, ``..`` and doubled slashes.

    Raises:
        InvalidArgument: it is none, has a NUL character, or is longer than 4095 bytes.
    """
    if posixpath.normpath(directory) != directory or not directory.startswith("/") or directory.startswith("//"):
        raise InvalidArgument(f"run bundle {directory[:200]!r}: it is not the absolute path of a directory")
    if "\0" in directory or len(directory.encode(errors="surrogateescape")) > MAX_DIRECTORY_BYTES:
        raise InvalidArgument(
            f"run bundle {directory[:200]!r}: no path has a NUL or more than {MAX_DIRECTORY_BYTES} bytes"
        )
    return BUNDLE_SCHEME + directory


def is_bundle(reference: str) -> bool:
    """Tell whether a container's reference names a bundle directory; no image's reference begins like that."""
    return reference.startswith(f"{BUNDLE_SCHEME}/")


def _split_host(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash or not _is_host(first):
        return DEFAULT_HOST, text
    return (DEFAULT_HOST if first == "index.docker.io" else first), rest


def _is_host(first: str) -> bool:
    return first == "localhost" or first != first.lower() or "." in first or ":" in first


def _check_host(text: str, host: str) -> None:
    match = _HOST.fullmatch(host)
    if match is None:
        raise _invalid(text, f"host {host!r} is no host name or address with an optional port")
    if match["port"] is not None and not 1 <= int(match["port"]) <= 65535:
        raise _invalid(text, f"port {match['port']} is not between 1 and 65535")


def _invalid(text: str, reason: str) -> InvalidArgument:
    return InvalidArgument(
        f"parse image reference {text[:100]!r}: {reason}",
        next_step="write [host[:port]/]name[:tag][@sha256:…], e.g. busybox or localhost:5000/team/app:1.2",
        details={"kind": "reference"},
    )
