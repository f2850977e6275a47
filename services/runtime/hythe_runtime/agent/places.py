"""Where everything of a container lies; all names are made from its namespace, id and run number (ARCHITECTURE §6)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hythe.errors import InvalidArgument
from hythe_runtime.agent.model import Record


@dataclass(frozen=True, slots=True)
class RunPlace:
    """The places of one run of one container.

    Attributes:
        name: what to call the container in messages.
        directory: its own run directory, never used again.
        log: file of its output, CRI lines.
        cgroup: cgroup of its processes, the same path in every hierarchy, absolute.
    """

    container_id: str
    name: str
    directory: Path
    log: Path
    cgroup: str

    @property
    def bundle(self) -> Path:
        """Symbolic link to the bundle, made when that is on disk."""
        return self.directory / "bundle"

    @property
    def exit_file(self) -> Path:
        """File that conmon writes the exit code to."""
        return self.directory / "exit" / self.container_id

    @property
    def stdin_socket(self) -> Path:
        """Socket at which conmon takes standard input."""
        return self.directory / "attach"

    @property
    def conmon_pid(self) -> Path:
        """File that conmon writes its own pid to."""
        return self.directory / "conmon.pid"

    @property
    def container_pid(self) -> Path:
        """File that runc writes the pid of the container's first process to."""
        return self.directory / "pid"


@dataclass(frozen=True, slots=True)
class Places:
    """All places of an agent.

    Attributes:
        root: the agent's own directory below ``<root>``; survives a reboot.
        state: ``<state>``; lasts one boot.
        bundles: where the bundle service makes bundles: ``<bundles>/<namespace>/<id>``.
        cgroup: cgroup below which all of this host's containers and monitors live, absolute.
    """

    root: Path
    state: Path
    bundles: Path
    cgroup: str

    @property
    def journal(self) -> Path:
        """Directory of the journal."""
        return self.root / "journal"

    @property
    def logs(self) -> Path:
        """Directory of the containers' logs."""
        return self.root / "logs"

    @property
    def runs(self) -> Path:
        """Directory of all run directories."""
        return self.state / "run"

    @property
    def runc(self) -> Path:
        """runc's own state directory (``--root``)."""
        return self.state / "runc"

    @property
    def monitors_cgroup(self) -> str:
        """Cgroup of all conmon processes."""
        return f"{self.cgroup}/monitors"

    @property
    def cgroups(self) -> tuple[str, ...]:
        """The cgroups that the agent makes beside those of containers; their parent belongs to the stack."""
        return f"{self.cgroup}/ctr", self.monitors_cgroup

    def container_cgroup(self, namespace: str, container_id: str) -> str:
        """Return the cgroup of a container."""
        return f"{self.cgroup}/ctr/{namespace}-{container_id}"

    def run(self, namespace: str, container_id: str, number: int, name: str = "") -> RunPlace:
        """Return the places of run `number` of a container."""
        return RunPlace(
            container_id,
            name or container_id[:12],
            self.runs / namespace / container_id / str(number),
            self.log(namespace, container_id, number),
            self.container_cgroup(namespace, container_id),
        )

    def run_of(self, record: Record) -> RunPlace:
        """Return the places of the present run of a container."""
        return self.run(record.intent.namespace, record.id, record.run, record.intent.name)

    def log(self, namespace: str, container_id: str, number: int) -> Path:
        """Return the log of run `number` of a container."""
        return self.logs / namespace / container_id / f"{number}.log"

    def bundle(self, namespace: str, container_id: str) -> Path:
        """Return the directory that a container's bundle has, whether or not it is there."""
        return self.bundles / namespace / container_id


def cgroup_of_host(parent: str, host: str) -> str:
    """Return the cgroup of this host below the setting ``cgroup_parent``.

    Raises:
        InvalidArgument: the host's name cannot be a directory name.
    """
    if "/" in host or host in ("", ".", ".."):
        raise InvalidArgument(f"make cgroup names: the host name {host!r} cannot be one")
    return f"/{parent}/{host}"
