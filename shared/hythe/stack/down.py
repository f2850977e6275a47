"""`hythe down`: stops containers and services and removes what one boot of the stack made."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from hythe.client.sync_bus import open_bus
from hythe.errors import FailedPrecondition, HytheError
from hythe.process import ProcessIdentity
from hythe.settings import Settings
from hythe.stack import containers, leftovers, processes, programs, up_file
from hythe.stack.ownership import Ownership
from hythe.stack.supervisor import end_process, wait_ended

_SUPERVISOR_TIMEOUT_S = 90.0
_OWNERSHIP_TIMEOUT_S = 5.0

Say = Callable[[str], None]


def down(settings: Settings, *, keep: bool, stop_timeout_s: float, say: Say) -> None:
    """Stop the stack and say what was done; harmless when nothing runs, and after any kind of crash.

    Containers get their stop signal and `stop_timeout_s` before they are killed; those not made with ``--rm`` stay on
    record, as after a reboot. With `keep` they run on, and the next `hythe up` adopts them.

    Raises:
        PermissionDenied: not root.
        FailedPrecondition: a `hythe up` of this stack is just starting.
    """
    programs.require_root("stop the stack")
    if not settings.root.exists() and not settings.state.exists():
        say(f"nothing to stop: neither {settings.root} nor {settings.state} exists")
        return
    if not keep:
        _stop_containers(settings, stop_timeout_s, say)
    _stop_processes(settings, say)
    ownership = _take(settings)
    try:
        if not keep:
            _clear_away(settings, stop_timeout_s, say)
        leftovers.clear_state(settings.state, keep_containers=keep)
    finally:
        ownership.release()
    say("containers keep running; the next `hythe up` adopts them" if keep else "the stack is down")


def _stop_containers(settings: Settings, stop_timeout_s: float, say: Say) -> None:
    try:
        bus = open_bus(settings)
    except HytheError as error:
        if settings.bus_file.exists():
            say(f"the bus does not answer, stopping containers without it: {containers.describe(error)}")
        return
    try:
        stopped, warnings = containers.stop_through_services(bus, stop_timeout_s)
    except HytheError as error:
        say(f"the services do not answer, stopping containers without them: {containers.describe(error)}")
        return
    finally:
        bus.close()
    for warning in warnings:
        say(f"warning: {warning}")
    if stopped:
        say(f"stopped {len(stopped)} container{'s' if len(stopped) > 1 else ''}: {', '.join(stopped)}")


def _stop_processes(settings: Settings, say: Say) -> None:
    found = up_file.read(up_file.path_in(settings.state))
    pidfd = found.supervisor.open_pidfd() if found.supervisor else None
    if pidfd is not None and found.supervisor is not None:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if wait_ended([pidfd], _SUPERVISOR_TIMEOUT_S):
            say(f"stopped hythe up (pid {found.supervisor.pid}) and its services")
        else:
            end_process(pidfd, timeout_s=0)
            say(f"killed hythe up (pid {found.supervisor.pid}): it did not stop within {_SUPERVISOR_TIMEOUT_S:.0f} s")
        os.close(pidfd)
    living = {name: started.identity for name, started in found.processes.items()}
    for name in processes.MODULES:
        said = up_file.read_ready(settings.state, name)
        if said is not None:
            living[name] = up_file.identity_of_ready(said)
    for name in reversed(processes.NAMES):
        if name in living:
            _stop_process(name, living[name], say)


def _stop_process(name: str, identity: ProcessIdentity, say: Say) -> None:
    pidfd = identity.open_pidfd()
    if pidfd is None:
        return
    stopped = end_process(pidfd)
    os.close(pidfd)
    say(f"{'stopped' if stopped else 'killed'} {name} (pid {identity.pid})")


def _take(settings: Settings) -> Ownership:
    """Take the directories, so that no `hythe up` starts while they are cleared."""
    deadline = time.monotonic() + _OWNERSHIP_TIMEOUT_S
    while True:
        try:
            return Ownership(settings, make_cgroup=False)
        except FailedPrecondition:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _clear_away(settings: Settings, stop_timeout_s: float, say: Say) -> None:
    ids = containers.stop_with_runc(settings, stop_timeout_s)
    if ids:
        say(f"stopped {len(ids)} container{'s' if len(ids) > 1 else ''} with runc: {', '.join(i[:12] for i in ids)}")
    killed = containers.kill_leftovers(settings)
    if killed:
        say(f"killed {killed} process{'es' if killed > 1 else ''} left in the cgroups of containers")
    mounts = leftovers.unmount_all(settings)
    if mounts:
        say(f"unmounted {mounts} file system{'s' if mounts > 1 else ''}")
    if leftovers.remove_cgroups(settings):
        say(f"removed the cgroups {settings.cgroup_parent}/{settings.host}")
