"""Copying files into a container and out of it: the same request to runtime (``container.copy``) and to an agent
(``copy.open``), both operations. The archive goes over the request's io channel: out of the container as ``stdout``,
into it as ``stdin``; the result comes when it is whole.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import ContainerId, Reply, Request
from hythe.wire.io import IoOpen

Direction = Literal["in", "out"]
Path = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]


class _Wishes(Request):
    """What both requests say.

    `path` is the container's, relative to its root where it does not begin with ``/``. `follow_link`: out of the
    container, what a link leads to. `keep_owner`: into it, users and groups as the archive has them, else root's. `as_is`:
    into it, an archive with any names, unpacked into the directory at `path`; otherwise its names all begin with that of
    the first entry, and `docker cp`'s rules say what that becomes.
    """

    direction: Direction
    path: Path
    io: IoOpen
    follow_link: bool = False
    keep_owner: bool = False
    as_is: bool = False


class ContainerCopy(_Wishes):
    """``container.copy`` (operation): copy by id, name or unique prefix of the id. Result: `CopyDone`."""

    key: str


class CopyOpen(_Wishes):
    """``copy.open`` (operation): copy in or out of a container of this host. Result: `CopyDone`."""

    id: ContainerId


class CopyDone(Reply):
    """A copy that is whole: the final offset of the channel's ``stdout``, entries and bytes of file data, and warnings."""

    stdout_bytes: int
    entries: int
    file_bytes: int
    warnings: list[str] = []
