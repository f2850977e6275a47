"""Io channels: a container's streams over the bus, with credit by byte offset (ARCHITECTURE §3).

A chunk is a raw payload on ``io.<ns>.<host>.<channel>.stdout|stderr`` with the header ``hythe-offset``: the offset of
its first byte in that stream. The receiver publishes `Credit` on ``….credit``; the sender never sends a byte at or
beyond the granted offset. ``….end`` carries `IoEnd`.

Towards the container: ``….stdin`` chunks with the same header, an empty chunk is end of file; the agent publishes the
`Credit` of ``stdin`` on ``….credit`` too, the first one as soon as it can take any. Both sides ignore credit for
streams that they don't send.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hythe.wire.base import Reply, Request

OFFSET_HEADER = "hythe-offset"
WINDOW_BYTES = 1 << 20
CHUNK_BYTES = 256 << 10


class IoOpen(Request):
    """Opens an io channel: its random id (32 hex digits) and the first credit in bytes for each output stream."""

    channel: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    credit_bytes: Annotated[int, Field(ge=0, le=64 << 20)] = WINDOW_BYTES


class Credit(Request):
    """The receiver has taken all bytes below `have` and may be sent those below `until`, per stream; repeats are harmless.

    With `resend` the sender starts again from `have`: the receiver saw a gap.
    """

    stream: str
    have: Annotated[int, Field(ge=0)]
    until: Annotated[int, Field(ge=0)]
    resend: bool = False


class IoEnd(Reply):
    """The last message of a channel: how the process ended and the final offset of each stream."""

    exit_code: int | None
    reason: str = ""
    stdout_bytes: int
    stderr_bytes: int
    gap: str = ""
