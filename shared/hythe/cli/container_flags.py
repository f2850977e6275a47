"""The flags that say what a container is to be, and the `hythe.wire.container.ContainerSpec` that they spell.

They are Docker's, in its forms. Reading the rarer ones is left to modules that are imported when such a flag is given.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

_MOUNTS = ("volume", "mount", "tmpfs")
_IO = ("device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops")
_RESOURCES = (
    *("memory", "memory_reservation", "memory_swap", "memory_swappiness", "oom_kill_disable", "cpus", "cpu_shares"),
    *(
        "cpu_period",
        "cpu_quota",
        "cpuset_cpus",
        "cpuset_mems",
        "pids_limit",
        "blkio_weight",
        "device_cgroup_rule",
        *_IO,
    ),
)
_SECURITY = ("privileged", "cap_add", "cap_drop", "security_opt")
_NAMESPACES = ("pid", "ipc", "uts", "cgroupns", "userns", "uidmap", "gidmap")
_OTHERS = ("shm_size", "ulimit", "sysctl", "oom_score_adj", "annotation", "hook")


def container_arguments(parser: ArgumentParser) -> None:
    """Add the flags, in groups; all but their values is checked by `spec_of`."""
    _process(parser)
    _files(parser)
    _rights(parser)
    _limits(parser)


def _process(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("what it runs").add_argument
    add("-e", "--env", action="append", metavar="NAME[=VALUE]", help="variable; without value, from here")
    add("--env-file", action="append", metavar="FILE", help="variables, one a line; --env wins")
    add("--entrypoint", metavar="COMMAND", help="in place of the image's; empty for none")
    add("-w", "--workdir", default="", metavar="DIR", help="working directory")
    add("-u", "--user", default="", metavar="USER[:GROUP]", help="user and group, names or numbers")
    add("--group-add", action="append", metavar="GROUP", help="one more group of the user")
    add("--stop-signal", default="", metavar="SIGNAL", help="signal that asks it to end")
    add("--stop-timeout", type=float, default=10.0, metavar="SECONDS", help="from that signal to SIGKILL (10)")
    add = parser.add_argument_group("names").add_argument
    add("--hostname", default="", help="host name inside")
    add("--domainname", default="", metavar="NAME", help="NIS domain name inside")
    add("-l", "--label", action="append", metavar="NAME[=VALUE]", help="label of the container")
    add("--label-file", action="append", metavar="FILE", help="labels, one a line; --label wins")
    add("--annotation", action="append", metavar="NAME=VALUE", help="passed on to the OCI runtime")


def _files(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("files").add_argument
    add("-v", "--volume", action="append", metavar="[SRC:]DST[:OPTS]",
        help="a volume, or a directory of the host if SRC is a path; OPTS: ro, nocopy, rshared, …")  # fmt: skip
    add("--mount", action="append", metavar="KEY=VALUE,…", help="type=bind|volume|tmpfs,src=…,dst=…[,readonly][,…]")
    add(
        "--tmpfs", action="append", metavar="DST[:OPTS]", help="empty directory in memory; OPTS: size=64m, mode=1777, …"
    )
    add("--shm-size", metavar="SIZE", help="size of /dev/shm (64m)")
    add("--read-only", action="store_true", help="root file system read-only")


def _rights(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("rights").add_argument
    add("--cap-add", action="append", metavar="CAP", help="a capability more; ALL for all")
    add("--cap-drop", action="append", metavar="CAP", help="a capability less; ALL for all")
    add("--privileged", action="store_true", help="all capabilities and devices, nothing hidden or filtered")
    add("--security-opt", action="append", metavar="OPT",
        help="seccomp=FILE|unconfined, apparmor=PROFILE, no-new-privileges, systempaths=unconfined")  # fmt: skip
    add("--device", action="append", metavar="SRC[:DST][:rwm]", help="a device of the host, or a directory of them")
    add("--device-cgroup-rule", action="append", metavar="RULE", help="e.g. 'c 1:3 rwm'")
    add("--sysctl", action="append", metavar="NAME=VALUE", help="kernel parameter of its namespaces")
    add("--hook", action="append", metavar="STAGE=PATH[,ARG…]", help="program of the host that the OCI runtime runs")
    add = parser.add_argument_group("namespaces").add_argument
    add("--network", choices=("none", "host"), default="none", help="none (loopback only) or the host's")
    for name, what in (("pid", "processes"), ("ipc", "shared memory"), ("uts", "host name"), ("cgroupns", "cgroups")):
        add(f"--{name}", metavar="host|private", help=f"{what}: the host's, or its own")
    add("--userns", metavar="host|private", help="users: the host's, or its own by --uidmap")
    add(
        "--uidmap",
        action="append",
        metavar="C:H:S",
        help="S user ids of the container from C on are the host's from H on",
    )
    add("--gidmap", action="append", metavar="C:H:S", help="the same for groups; as --uidmap by default")


def _limits(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("limits").add_argument
    add("-m", "--memory", metavar="SIZE", help="most memory, e.g. 512m or 1.5g")
    add("--memory-reservation", metavar="SIZE", help="memory that it keeps when the host's is scarce")
    add("--memory-swap", metavar="SIZE", help="memory and swap together; -1 for no limit of swap")
    add("--memory-swappiness", metavar="0-100", help="how gladly its memory is swapped out")
    add("--oom-kill-disable", action="store_true", help="stop it, rather than kill, when memory is used up")
    add(
        "--oom-score-adj",
        metavar="N",
        help="-1000 to 1000: the greater, the sooner it is killed when the host has none",
    )
    add("--cpus", metavar="N", help="processors' worth of time, e.g. 1.5")
    add("-c", "--cpu-shares", metavar="N", help="weight against others (1024)")
    add("--cpu-period", metavar="MICROSECONDS", help="period of the scheduler's quota")
    add("--cpu-quota", metavar="MICROSECONDS", help="time in each period")
    add("--cpuset-cpus", metavar="LIST", help="processors that it may use, e.g. 0-3,5")
    add("--cpuset-mems", metavar="LIST", help="memory nodes that it may use")
    add("--pids-limit", metavar="N", help="most processes and threads; -1 for no limit")
    add("--ulimit", action="append", metavar="NAME=SOFT[:HARD]", help="limit of a process, e.g. nofile=1024:4096")
    add("--blkio-weight", metavar="10-1000", help="weight against others at block devices")
    for flag, metavar, what in (("bps", "SIZE", "bytes"), ("iops", "N", "requests")):
        for verb in ("read", "write"):
            text = f"most {what} a second to {verb}"
            add(f"--device-{verb}-{flag}", action="append", metavar=f"PATH:{metavar}", help=text)


def spec_of(args: Namespace) -> dict[str, Any]:
    """Return the fields of `ContainerSpec` that the flags name; ``stdin`` and ``auto_remove`` are the command's own.

    Raises:
        InvalidArgument: a value is refused; the message names the flag and the value.
    """
    given = {name: value for name, value in vars(args).items() if value is not None and value is not False}
    spec: dict[str, Any] = {
        "args": list(given.get("command", [])),
        "env": _environment(given),
        "cwd": args.workdir,
        "user": args.user,
        "hostname": args.hostname,
        "domainname": args.domainname,
        "groups": given.get("group_add", []),
        "network": args.network,
        "read_only": args.read_only,
        "labels": _labels(given),
        "stop_signal": args.stop_signal,
        "stop_timeout_s": args.stop_timeout,
    }
    if args.entrypoint is not None:
        spec["entrypoint"] = [args.entrypoint] if args.entrypoint else []
    for names, read in (
        (_MOUNTS, _read_mounts),
        (("device",), _read_devices),
        (_RESOURCES, _read_resources),
        (_SECURITY, _read_security),
        (_NAMESPACES, _read_namespaces),
        (_OTHERS, _read_others),
    ):
        if any(name in given for name in names):
            read(spec, given)
    return spec


def _environment(given: dict[str, Any]) -> list[str]:
    found: list[str] = []
    if "env_file" in given:
        from hythe.cli import file_flags  # only for such files

        found += file_flags.variables(given["env_file"])
    for text in given.get("env", ()):
        if "=" in text:
            found.append(text)
        elif text in os.environ:
            found.append(f"{text}={os.environ[text]}")
    return found


def _labels(given: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    if "label_file" in given:
        from hythe.cli import file_flags  # only for such files

        found.update(file_flags.labels(given["label_file"]))
    for text in given.get("label", ()):
        name, _, value = text.partition("=")
        found[name] = value
    return found


def _read_mounts(spec: dict[str, Any], given: dict[str, Any]) -> None:
    from hythe.cli import mount_flags

    spec["mounts"] = mount_flags.mounts(*(given.get(name, ()) for name in _MOUNTS))


def _read_devices(spec: dict[str, Any], given: dict[str, Any]) -> None:
    from hythe.cli import device_flags

    spec["devices"] = [device_flags.device(text) for text in given["device"]]


def _read_resources(spec: dict[str, Any], given: dict[str, Any]) -> None:
    from hythe.cli import resource_flags

    spec["resources"] = resource_flags.resources(given)


def _read_security(spec: dict[str, Any], given: dict[str, Any]) -> None:
    from hythe.cli import security_flags

    spec["security"] = security_flags.security(given)


def _read_namespaces(spec: dict[str, Any], given: dict[str, Any]) -> None:
    from hythe.cli import security_flags

    spec["namespaces"] = security_flags.namespaces(given)


def _read_others(spec: dict[str, Any], given: dict[str, Any]) -> None:
    from hythe.cli import resource_flags, security_flags
    from hythe.cli.flag_values import integer, pair, size_bytes

    if "shm_size" in given:
        spec["shm_bytes"] = size_bytes("--shm-size", given["shm_size"])
    if "oom_score_adj" in given:
        spec["oom_score_adj"] = integer("--oom-score-adj", given["oom_score_adj"], -1000, 1000)
    spec["rlimits"] = resource_flags.rlimits(given.get("ulimit", ()))
    spec["sysctls"] = dict(pair("--sysctl", text) for text in given.get("sysctl", ()))
    spec["annotations"] = dict(pair("--annotation", text) for text in given.get("annotation", ()))
    spec["hooks"] = [security_flags.hook(text) for text in given.get("hook", ())]
