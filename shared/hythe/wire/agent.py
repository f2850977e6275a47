"""Requests to the agent of one host. Subjects: ``container.run`` (operation), ``stop kill remove list logs``; and its beat."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import ContainerId, Reply, Request
from hythe.wire.container import ContainerSpec, Epoch, ImageRef
from hythe.wire.io import IoOpen

Status = Literal["creating", "created", "running", "exited", "removing", "removed", "unknown"]


class ContainerRun(Request):
    """``container.run`` (operation): create and start a container; with `wait` the result comes after its end.

    The request id is `id`; repeating it joins the present container. Progress: `ContainerStatus` once started.
    Result: `ContainerStatus`; with ``auto_remove`` its events ``exit`` and ``delete`` are in the outbox by then, and
    clean-up goes on after the answer.
    """

    id: ContainerId
    name: str
    image: ImageRef
    spec: ContainerSpec
    epoch: Epoch
    io: IoOpen | None = None
    wait: bool = False
    plain_http: bool = False


class ContainerStatus(Reply):
    """What is, as the agent of the host knows it. Times are RFC 3339 UTC, empty while not reached.

    `exit_code` is None while running and when nobody could learn it (`reason` says why). `change` numbers the agent's
    changes, across all containers, since the agent process `instance` started. `epoch` is the highest it has seen.
    """

    id: ContainerId
    namespace: str
    name: str
    image: ImageRef
    host: str
    status: Status
    run: int = 0
    pid: int = 0
    exit_code: int | None = None
    reason: str = ""
    created_at: str = ""
    started_at: str = ""
    finished_at: str = ""
    auto_remove: bool = False
    command: list[str] = []
    labels: dict[str, str] = {}
    epoch: Epoch | None = None
    instance: str = ""
    change: int = 0


class ContainerStop(Request):
    """``container.stop`` (operation): stop signal, then after `timeout_s` SIGKILL. Result: `ContainerStatus` at the end.

    None takes the container's own signal or timeout. A container that has ended already answers at once.
    """

    id: ContainerId
    epoch: Epoch
    signal: str | None = None
    timeout_s: Annotated[float, Field(ge=0, le=86400)] | None = None


class ContainerKill(Request):
    """``container.kill``: send one signal (name or number) to the container's first process."""

    id: ContainerId
    epoch: Epoch
    signal: str = "SIGKILL"


class ContainerRemove(Request):
    """``container.remove`` (operation): remove an ended container and all it has on the host; with `force` kill it first.

    Result: `ContainerStatus`, or NotFound with outcome "done" when the host does not know it.
    """

    id: ContainerId
    epoch: Epoch
    force: bool = False


class ContainerInspect(Request):
    """``container.inspect``: one container as the agent knows it; result `ContainerStatus`."""

    id: ContainerId


class AgentList(Request):
    """``container.list``: everything that the agent knows, in all namespaces."""

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 500


class AgentPage(Reply):
    """One page. `instance` and `change` say up to which change of which agent process the page is true.

    `gone` lists ids with a tombstone: removed here, never to run again.
    """

    host: str
    instance: str
    change: int
    containers: list[ContainerStatus]
    gone: list[str] = []
    next: str = ""


class LogsOpen(Request):
    """``logs.open`` (operation): send a container's output over an io channel, from its log.

    `tail_lines` None sends all. With `follow` it goes on until the container ends. Result: `LogsEnd`.
    """

    id: ContainerId
    io: IoOpen
    follow: bool = False
    tail_lines: Annotated[int, Field(ge=0)] | None = None
    timestamps: bool = False


class LogsEnd(Reply):
    """Result of ``logs.open``: the final offset of each stream in the channel."""

    stdout_bytes: int
    stderr_bytes: int


class Beat(Reply):
    """Heartbeat, once a second on ``beat._.<host>``; clocks are the agent's own.

    A mutating request to the agent carries the latest CLOCK_BOOTTIME at which it may begin, computed from this.
    """

    host: str
    instance: str
    boot_id: str
    boottime_ms: int
    change: int
