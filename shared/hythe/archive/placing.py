"""Where a copied file or directory goes: the rules of `docker cp`, which are those of cp(1) with a few of its own.

Paths are text or bytes alike, absolute or relative; nothing here looks at a file system. Used by the command for its own
side and by the worker inside a container for the other, so both sides follow one set of rules.
"""

from __future__ import annotations

import posixpath

from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AnyStr

MAX_PATH_BYTES = 4095


def split_argument(text: str) -> tuple[str, str]:
    """Return (container, path) of an argument; the container is empty for a local path.

    A colon makes the difference. A local name that has one is written with a ``/`` or ``./`` in front.
    """
    container, colon, path = text.partition(":")
    if not colon or text.startswith("/") or container.startswith(".") or "/" in container:
        return "", text
    return container, path


def wants_contents(path: AnyStr) -> bool:
    """Tell whether `path` ends in ``/.``, or is ``.``: what a directory has is meant, not the directory itself."""
    return posixpath.basename(path) in (".", b".")


def asserts_directory(path: AnyStr) -> bool:
    """Tell whether `path` says by its end that it is a directory."""
    return wants_contents(path) or path[-1:] in ("/", b"/")


def top_name(path: bytes) -> bytes:
    """Return what the first entry of an archive of `path` is called: its last part, ``.`` for contents and for the root."""
    return b"." if wants_contents(path) else posixpath.basename(posixpath.normpath(path)).strip(b"/") or b"."


def in_container(path: str) -> bytes:
    """Return a path of a container as it is meant there: absolute, from the root where it is relative, without ``..``.

    What its end says (`asserts_directory`, `wants_contents`) is kept.

    Raises:
        InvalidArgument: it is empty, too long, or cannot be a path.
    """
    if not path:
        raise InvalidArgument(
            "check the path in the container: it is empty", next_step="for its root, write CONTAINER:/"
        )
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"check the path in the container {path!r}: it is not UTF-8") from None
    if b"\0" in raw or len(raw) > MAX_PATH_BYTES:
        raise InvalidArgument(
            f"check the path in the container {path[:60]!r}: longer than {MAX_PATH_BYTES} bytes, or a NUL in it"
        )
    clean = posixpath.normpath(b"/" + raw.lstrip(b"/"))
    end = b"/." if wants_contents(raw) else b"/" if asserts_directory(raw) else b""
    return clean.rstrip(b"/") + end or b"/"


class Destination:
    """What is known of the place that was named: its path with links resolved, and what is there."""

    __slots__ = ("exists", "is_directory", "path")

    def __init__(self, path: bytes, *, exists: bool, is_directory: bool) -> None:
        self.path = path
        self.exists = exists
        self.is_directory = is_directory


def place(name: bytes, *, source_is_directory: bool, to: Destination) -> tuple[bytes, bytes]:
    """Return (directory that must exist, name of the first entry there) for a copy of an entry called `name`.

    A directory goes into one that exists, and becomes one that doesn't. With the name ``.`` its contents do.

    Raises:
        InvalidArgument: a directory would replace a file, or a file become a directory.

    Spec: Docker's reference, "docker container cp".
    """
    shown = to.path.decode(errors="replace")
    if to.exists and to.is_directory:
        return to.path, name
    if to.exists and source_is_directory:
        raise InvalidArgument(f"copy to {shown}: cannot copy a directory over a file", details={"kind": "path"})
    if asserts_directory(to.path) and not source_is_directory:
        reason = "is not a directory" if to.exists else "no such directory"
        raise InvalidArgument(
            f"copy to {shown}: {reason}", next_step="leave out the slash at its end, or make the directory first"
        )
    clean = posixpath.normpath(to.path)
    return posixpath.dirname(clean) or b".", posixpath.basename(clean)


def begin(name: bytes, *, is_directory: bool, to: Destination) -> tuple[bytes, list[bytes], list[bytes]]:
    """Return (directory, old, new) for an archive whose first entry is `name`: every name in it begins with `old`.

    In the directory it begins with `new` instead; both have one part at most.

    Raises:
        InvalidArgument: as for `place`, or `name` is no plain name.
    """
    clean = posixpath.normpath(name)
    if clean == b".." or b"/" in clean:
        raise InvalidArgument("read the archive: its first entry is not a single file or directory")
    directory, top = place(clean, source_is_directory=is_directory, to=to)
    old, new = ([] if part == b"." else [part] for part in (clean, top))
    return directory, old, new
