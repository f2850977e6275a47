"""What a container runs, where and with which surroundings: the request's wishes over the image's.

Spec: OCI image-spec, "Image Configuration"; Docker's rules where both have a say.
"""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Sequence

from hythe.errors import InvalidArgument
from hythe.oci import ImageConfig
from hythe_bundle.wishes import Wishes

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_STOP_SIGNAL = "SIGTERM"
MAX_PATH_BYTES = 4095
_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_REAL_TIME = re.compile(r"RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?")


def arguments(wishes: Wishes, config: ImageConfig) -> list[str]:
    """Return the command line: entry point and arguments. An entry point of one's own drops the image's arguments too.

    Raises:
        InvalidArgument: nothing is left to run, a part has a NUL character, or the program's name is longer than a path.
    """
    if wishes.entrypoint is None:
        entrypoint: Sequence[str] = config.entrypoint
        args: Sequence[str] = wishes.args or config.cmd
    else:
        entrypoint = () if wishes.entrypoint == ("",) else wishes.entrypoint
        args = wishes.args
    command = [*entrypoint, *args]
    if not command or not command[0]:
        raise InvalidArgument(
            "make the command: neither the request nor the image names one",
            next_step="name a command after the image, e.g. `hythe run IMAGE sh`",
        )
    for part in command:
        _check_text("command", part)
    _check_path("command", command[0])
    return command


def environment(wishes: Wishes, config: ImageConfig, hostname: str) -> list[str]:
    """Return the environment: the image's with the request's over it, and a PATH in any case.

    A wish ``NAME`` without ``=`` takes the variable away. Later entries of one name win.

    Raises:
        InvalidArgument: an entry without a name, or with a NUL character.
    """
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": f"HOSTNAME={hostname}"}
    for entry in (*config.env, *wishes.env):
        name, equals, _ = entry.partition("=")
        if not name:
            raise InvalidArgument(f"make the environment: {entry[:100]!r} has no name")
        _check_text("environment", entry)
        if equals:
            variables[name] = entry
        else:
            variables.pop(name, None)
    return list(variables.values())


def working_directory(wishes: Wishes, config: ImageConfig) -> str:
    """Return the absolute directory to start in.

    Raises:
        InvalidArgument: the request's is not absolute, it is longer than a path may be, or it lies in /proc, where open
            descriptors of the runtime could be found (CVE-2024-21626).
    """
    if wishes.cwd and not wishes.cwd.startswith("/"):
        raise InvalidArgument(f"set the working directory: {wishes.cwd[:200]!r} is not an absolute path")
    cwd = posixpath.normpath("/" + (wishes.cwd or config.working_dir).lstrip("/"))
    _check_text("working directory", cwd)
    _check_path("working directory", cwd)
    if cwd == "/proc" or cwd.startswith("/proc/"):
        raise InvalidArgument(
            f"set the working directory: {cwd[:200]!r} lies in /proc", next_step="choose another with --workdir"
        )
    return cwd


def hostname(wishes: Wishes, container_id: str, host: str) -> str:
    """Return the host name: the request's, else the host's own on its network or under its name, else the id's first 12
    characters.

    Raises:
        InvalidArgument: it is no host name of at most 63 letters, digits, dots and dashes, or another than the host's in a
            container that shares the host's name.
    """
    if not wishes.hostname:
        return host if "host" in (wishes.network, wishes.namespaces.uts) else container_id[:12]
    if not _HOSTNAME.fullmatch(wishes.hostname):
        raise InvalidArgument(
            f"set the host name: {wishes.hostname[:100]!r} is not made of letters, digits, dots and dashes alone"
        )
    if wishes.namespaces.uts == "host" and wishes.hostname != host:
        raise InvalidArgument(
            f"set the host name: the container shares that of its host, {host}",
            next_step="leave --hostname or --uts out",
        )
    return wishes.hostname


def stop_signal(wishes: Wishes, config: ImageConfig) -> str:
    """Return the signal that asks the container to end: a name with SIG, or a number for a real-time signal.

    Raises:
        InvalidArgument: there is no such signal.
    """
    return signal_of(wishes.stop_signal or config.stop_signal)


def signal_of(text: str) -> str:
    """Return a signal by its name with or without SIG, or by its number; the default for an empty text.

    Raises:
        InvalidArgument: there is no such signal.
    """
    if not text:
        return DEFAULT_STOP_SIGNAL
    name = text.upper().removeprefix("SIG")
    if real_time := _REAL_TIME.fullmatch(name):
        base = signal.SIGRTMIN if real_time[1] == "MIN" else signal.SIGRTMAX
        number = int(base) + int((real_time[2] or "+") + (real_time[3] or "0"))
    elif text.isascii() and text.isdigit():
        number = int(text[:4])
    else:
        try:
            return signal.Signals["SIG" + name].name
        except KeyError:
            raise _no_signal(text) from None
    if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
        return str(number)
    try:
        return signal.Signals(number).name
    except ValueError:
        raise _no_signal(text) from None


def _no_signal(text: str) -> InvalidArgument:
    return InvalidArgument(f"set the stop signal: there is no signal {text[:50]!r}", next_step="write e.g. SIGTERM")


def _check_text(what: str, text: str) -> None:
    if "\0" in text:
        raise InvalidArgument(f"make the {what}: a part has a NUL character")


def _check_path(what: str, text: str) -> None:
    """Refuse what no kernel takes: conmon waits for ever over runc's complaint, which repeats it, if that is long."""
    if len(text.encode(errors="surrogateescape")) > MAX_PATH_BYTES:
        raise InvalidArgument(f"make the {what}: {text[:100]!r}… is longer than {MAX_PATH_BYTES} bytes")
