"""What a copy worker is told, as one argument in JSON, and the lines that it answers."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_LINE_BYTES = 16384
MAX_WARNINGS = 10


class Order:
    """One copy.

    Attributes:
        parent: pid of the agent.
        inward: copy into the container, else out of it.
        path: absolute path in the container; its end counts.
        follow_link: out: what a link leads to, not the link.
        keep_owner: in: users and groups as the archive says, else root's.
        as_is: in: unpack the archive into the directory at `path`, with the names it has.
        root: open descriptor of the container's root directory; -1 when `rootfs` is it.
        rootfs: directory of a container that does not run.
        mounts: what must be mounted there first, as (type, source, target, options); empty when it is it as it stands.
        binds: what is then bound into it, as (path on the host, path inside, whether read-only).
        read_only: the root file system itself is not to be written to.
        uids, gids: (first inside, first on the host, how many) of a container with a user namespace.
    """

    __slots__ = (
        "as_is",
        "binds",
        "follow_link",
        "gids",
        "inward",
        "keep_owner",
        "mounts",
        "parent",
        "path",
        "read_only",
        "root",
        "rootfs",
        "uids",
    )

    def __init__(self, text: str) -> None:
        """Read an order."""
        fields: dict[str, Any] = json.loads(text)
        for name in self.__slots__:
            setattr(self, name, fields[name])

    parent: int
    inward: bool
    path: str
    follow_link: bool
    keep_owner: bool
    as_is: bool
    root: int
    rootfs: str
    mounts: list[tuple[str, str, str, list[str]]]
    binds: list[tuple[str, str, bool]]
    read_only: bool
    uids: list[tuple[int, int, int]]
    gids: list[tuple[int, int, int]]


def done(entries: int, file_bytes: int, warnings: list[str]) -> bytes:
    """Last line of success."""
    more = [f"{len(warnings) - MAX_WARNINGS} more of that kind"] if len(warnings) > MAX_WARNINGS else []
    shown = [text[:300] for text in warnings[:MAX_WARNINGS]] + more
    return _line({"done": {"entries": entries, "file_bytes": file_bytes, "warnings": shown}})


def failed(code: str, message: str, cause: str, next_step: str) -> bytes:
    """Last line of failure; `code` is that of a `hythe.errors.HytheError`."""
    return _line(
        {"failed": {"code": code, "message": message[:4000], "cause": cause[:500], "next_step": next_step[:500]}}
    )


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
