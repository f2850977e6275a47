"""What the agent's domain needs from outside. Every method is safe to call again unless it says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hythe.process import ProcessIdentity
from hythe_runtime.agent.model import Bundle, Event, Exit, Intent, Status
from hythe_runtime.agent.places import RunPlace


class BundleService(Protocol):
    """The bundle service of this host."""

    async def prepare(self, intent: Intent, cgroup: str) -> Bundle:
        """Make a container's bundle, unpacking its image first if needed; repeating it answers the same bundle.

        Raises:
            HytheError: with outcome "unknown", a bundle may have been made.
        """

    async def release(self, namespace: str, container_id: str) -> None:
        """Remove the bundle and its snapshot; nothing of them may be mounted.

        Raises:
            FailedPrecondition: something is mounted there.
            Unavailable, DeadlineExceeded: ask again later.
        """


class Registry(Protocol):
    """Where the agents of all hosts are registered."""

    async def register(self) -> None:
        """Register this agent as the one of its host.

        Raises:
            AlreadyExists: another agent is, and still beats.
            HytheError: it could not be asked.
        """


class Monitor(Protocol):
    """conmon of one run: it makes the container, holds its streams, and learns how it ended."""

    @property
    def identity(self) -> ProcessIdentity | None:
        """The monitoring process, known after `create`."""

    async def create(self) -> int:
        """Let it run ``runc create``; return the pid of the container's first process. Once only.

        Raises:
            FailedPrecondition: runc refused; phase, cause and detail ``exit_code`` say why.
            DeadlineExceeded: no answer in time.
        """

    async def settle(self) -> None:
        """Wait until a ``runc create`` in progress is over, or end a conmon that was never let go."""

    async def ended(self) -> None:
        """Return when it is gone: the container has then ended, or nobody watches it any more."""

    def exit(self) -> tuple[Exit, str]:
        """Return how the container ended and when (RFC 3339); only after `ended`. ``code`` None: the monitor was lost."""

    async def kill(self) -> None:
        """Kill conmon itself and return when it is gone."""

    def close(self) -> None:
        """Let go of it; it goes on."""


class Monitors(Protocol):
    """Makes and finds conmon processes."""

    async def launch(self, place: RunPlace, *, stdin: bool) -> Monitor:
        """Start conmon for a new run, outside the agent's own cgroup; it waits to be let go. Makes the run directory.

        Raises:
            FailedPrecondition: conmon or runc is not installed, or conmon would not start.
        """

    async def warm_up(self) -> None:
        """Do what makes the next launch slow, ahead of it; changes nothing."""

    async def alive(self) -> Mapping[Path, ProcessIdentity]:
        """Return every conmon of this agent's that lives, by run directory, whoever started it."""

    def adopt(self, place: RunPlace, identity: ProcessIdentity | None) -> Monitor:
        """Return the monitor of a run that an earlier agent made; None: it is gone."""


class Runtime(Protocol):
    """The OCI runtime."""

    async def start(self, place: RunPlace) -> None:
        """Start the command of a created container. Once only.

        Raises:
            FailedPrecondition: runc refused; phase, cause and detail ``exit_code`` say why.
        """

    async def delete(self, container_id: str) -> None:
        """Delete a container, killing what runs in it; nothing happens when there is none.

        Raises:
            FailedPrecondition: runc refused.
        """

    async def kill(self, container_id: str, number: int) -> None:
        """Send signal `number` to a container's first process.

        Raises:
            FailedPrecondition: it is not running.
        """

    async def states(self) -> Mapping[str, str]:
        """Return runc's own word for the state of each container it knows: ``created``, ``running``, ``stopped``."""


class Mounts(Protocol):
    """Mounts in the host's mount namespace."""

    async def mount(self, bundle: Bundle) -> None:
        """Mount a bundle's root file system, unless it is mounted.

        Raises:
            FailedPrecondition: the kernel refused; the cause says which mount.
        """

    async def unmount(self, bundle: Bundle) -> None:
        """Unmount a bundle's root file system, if it is mounted."""

    async def unmount_below(self, directory: Path) -> None:
        """Unmount everything at and below `directory`."""

    async def points_below(self, directory: Path) -> Sequence[Path]:
        """Return all mount points below `directory`."""


class Cgroups(Protocol):
    """The cgroup hierarchies of this host."""

    async def remove(self, path: str) -> None:
        """Kill what is left in the cgroup `path` and remove its tree from every hierarchy.

        Raises:
            FailedPrecondition: a process in it could not be ended in time.
        """

    def oom_kills(self, path: str) -> int:
        """Return how many processes of the cgroup `path` were killed for want of memory; 0 where the kernel doesn't say."""


class Files(Protocol):
    """The agent's own directories."""

    async def link_bundle(self, place: RunPlace, bundle: Bundle) -> None:
        """Point the run directory at the bundle."""

    async def remove_run(self, place: RunPlace) -> None:
        """Remove a run directory, and the container's above it if that is empty then."""

    async def remove_logs(self, namespace: str, container_id: str) -> None:
        """Remove a container's logs."""

    async def runs(self) -> Sequence[tuple[str, str, int]]:
        """Return (namespace, container id, run number) of every run directory."""

    def check_room(self, step: str) -> None:
        """Refuse `step`, which is new work, on a disk that is nearly full.

        Raises:
            ResourceExhausted: less than the reserve is free.
        """


class Attachment(Protocol):
    """The one connection to a container's standard input; what comes back on it is read at once and dropped."""

    async def write(self, data: bytes) -> None:
        """Write to the container's standard input, waiting until it takes it.

        Raises:
            Unavailable: the container does not read any more.
        """

    def end(self) -> None:
        """Let the container see the end of its input, after all that was written."""

    def close(self) -> None:
        """Drop the connection."""


class Attacher(Protocol):
    """Connects to containers' standard input."""

    async def attach(self, place: RunPlace) -> Attachment:
        """Connect to the attach socket of a run; once for each run.

        Raises:
            FailedPrecondition: there is no such socket.
        """


class Outlet(Protocol):
    """Where the agent tells what it knows; nothing here waits for anybody or fails."""

    def status(self, status: Status) -> None:
        """Publish a status."""


class EventStore(Protocol):
    """The bus's stream of events."""

    async def store(self, event: Event) -> None:
        """Store an event.

        Raises:
            HytheError: not stored, or nobody knows whether it was.
        """

    async def last_number(self, namespace: str, container_id: str) -> int:
        """Return the number of the last event stored for a container, 0 if there is none.

        Raises:
            HytheError: nobody knows.
        """


class IoTransport(Protocol):
    """Carries io channels."""

    async def send(self, namespace: str, channel: str, stream: str, offset: int, data: bytes) -> None:
        """Send a chunk whose first byte is byte `offset` of its stream.

        Raises:
            Unavailable: not connected; nothing was sent.
        """

    async def grant(self, namespace: str, channel: str, have: int, until: int, *, resend: bool) -> None:
        """Tell the client which of its standard input was taken and how far it may send.

        Raises:
            Unavailable: not connected.
        """

    async def end(self, namespace: str, channel: str, end: Exit, stdout: int, stderr: int, gap: str) -> None:
        """Send the last message of a channel: how the process ended and the final offset of each stream.

        Raises:
            Unavailable: not connected.
        """


class Sender(Protocol):
    """Sends something over one channel, within the receiver's credit."""

    def credit(self, stream: str, have: int, until: int, *, resend: bool) -> None:
        """Take the receiver's word: it has all below `have`, takes all below `until`, and may want `have` on again."""

    def bus_is_back(self) -> None:
        """Let the receiver see what it missed meanwhile."""
