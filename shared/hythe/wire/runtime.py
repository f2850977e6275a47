"""Requests to the runtime service, which the command line uses.

Subjects: ``container.run`` ``container.remove`` ``container.stop`` ``container.logs`` ``image.pull`` (operations),
``container.list`` ``container.inspect`` ``container.kill``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.agent import ContainerStatus
from hythe.wire.base import ContainerId, Reply, Request
from hythe.wire.container import ContainerRecord, ContainerSpec
from hythe.wire.distribution import ForeignLayers
from hythe.wire.io import IoOpen

PullPolicy = Literal["missing", "always", "never"]


class Run(Request):
    """``container.run`` (operation): place, record, and run a container from an image that is pulled if it is missing.

    The request id is `id`. Empty `name` takes the id's first 12 digits. Progress: `RunProgress`. Result: `RunResult`,
    after the start with ``wait`` unset, else after the end. With ``spec.directory`` there is no image: `image` is empty then.
    """

    id: ContainerId
    name: str = ""
    image: str
    spec: ContainerSpec
    host: str = ""
    io: IoOpen | None = None
    wait: bool = True
    pull: PullPolicy = "missing"
    plain_http: bool = False


class RunProgress(Reply):
    """Where a run stands: the container's status once it is started, or a layer of the image."""

    status: ContainerStatus | None = None
    layer_digest: str = ""
    layer_state: str = ""
    done_bytes: int = 0
    total_bytes: int = 0


class RunResult(Reply):
    """The container after its start (``wait`` unset) or its end, and warnings for the user."""

    status: ContainerStatus
    warnings: list[str] = []


class List(Request):
    """``container.list``: records joined with what the hosts' agents report."""

    all: bool = False


class Listed(Reply):
    """One container: its record of intent (None: unclaimed) and its status (None: the host has not reported)."""

    record: ContainerRecord | None = None
    status: ContainerStatus | None = None
    stale: bool = False


class ListResult(Reply):
    """Containers by creation, newest first. `warnings` names a service that was away and what is therefore missing."""

    containers: list[Listed]
    warnings: list[str] = []


class Target(Request):
    """One container by id, name or unique prefix of the id: ``container.inspect``."""

    key: str


class Remove(Request):
    """``container.remove`` (operation): remove a container; with `force` kill it first. Result: `RunResult`."""

    key: str
    force: bool = False


class Stop(Request):
    """``container.stop`` (operation): stop signal, then SIGKILL after `timeout_s`. Result: `RunResult`."""

    key: str
    timeout_s: Annotated[float, Field(ge=0, le=86400)] | None = None


class Kill(Request):
    """``container.kill``: send a signal by name or number. Result: `hythe.wire.base.Empty`."""

    key: str
    signal: str = "SIGKILL"


class Logs(Request):
    """``container.logs`` (operation): a container's output over an io channel. Result: `hythe.wire.agent.LogsEnd`."""

    key: str
    io: IoOpen
    follow: bool = False
    tail_lines: Annotated[int, Field(ge=0)] | None = None
    timestamps: bool = False


class Pull(Request):
    """``image.pull`` (operation): fetch by distribution and unpack by bundle on `host` at once.

    Progress: `hythe.wire.distribution.PullProgress`. Result: `hythe.wire.distribution.ImagePulled`.
    """

    reference: str
    platform: str = ""
    all_platforms: bool = False
    host: str = ""
    unpack: bool = True
    plain_http: bool = False
    foreign_layers: ForeignLayers = "refuse"
    referrers: bool = False
