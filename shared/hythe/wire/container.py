"""A container as its user asked for it, and its record of intent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import ContainerId, DigestText, Reply, Request

NetworkMode = Literal["none", "host"]
Desired = Literal["running", "stopped", "removed"]
Phase = Literal["creating", "created", "removing"]


class ImageRef(Request):
    """An image: the normalised reference it was asked by, and the digest of its root manifest or index once known."""

    reference: str
    digest: DigestText | None = None


class ContainerSpec(Request):
    """What `hythe run` asks for beside the image. Empty or None means: as the image says."""

    args: list[str] = []
    entrypoint: list[str] | None = None
    env: list[str] = []
    cwd: str = ""
    user: str = ""
    hostname: str = ""
    network: NetworkMode = "none"
    read_only: bool = False
    stdin: bool = False
    auto_remove: bool = False
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout_s: Annotated[float, Field(ge=0, le=86400)] = 10.0


class Epoch(Request):
    """Order of commands to one container: (era of the store, revision of the desired state); lower ones are refused."""

    era: Annotated[int, Field(ge=0)]
    revision: Annotated[int, Field(ge=0)]


class ContainerRecord(Reply):
    """Intent about one container, owned by metadata. Times are RFC 3339 UTC.

    `lease_expired`: still ``creating`` although its lease ran out, so somebody must settle it (ARCHITECTURE §3).
    """

    id: ContainerId
    namespace: str
    name: str
    image: ImageRef
    host: str
    spec: ContainerSpec
    desired: Desired
    phase: Phase
    epoch: Epoch
    revision: int
    created_at: str
    lease_expired: bool = False
