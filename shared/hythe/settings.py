"""The settings in force: each of `hythe.setting_list` with its type, its value, and where that came from.

Precedence: flag > environment > ``/etc/hythe/hythe.toml`` (``HYTHE_CONFIG``) > default. Only the standard library is
used, because the command line reads its settings on its fastest path.
"""

from __future__ import annotations

import binascii
import os

from hythe.errors import FailedPrecondition, InvalidArgument
from hythe.identifiers import check_namespace, is_host
from hythe.setting_list import ALL, DEFAULT_ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Literal

    Source = Literal["flag", "environment", "file", "default"]

LEAST_EVENTS_BYTES = 65_536


class Settings:
    """The settings in force, parsed from text.

    Plain attributes, and paths only made when they are asked for: dataclasses and pathlib would cost every command 12 ms.

    Attributes:
        root_text, state_text, key_text: the paths as text.
        origin: where each value came from, by key.
    """

    def __init__(self, values: Mapping[str, str], origin: Mapping[str, Source]) -> None:
        """Parse `values`, one text for each key of `ALL`.

        Raises:
            InvalidArgument: a value breaks its setting's rule.
        """
        self.root_text = _absolute("root", values["root"])
        self.state_text = _absolute("state", values["state"])
        self.host = _host(values["host"] or os.uname().nodename)
        self.namespace = check_namespace(values["namespace"])
        self.cgroup_parent = _cgroup(values["cgroup_parent"] or _default_cgroup(self.root_text))
        self.nats_url = values["nats_url"]
        self.nats_port = _number("nats_port", values["nats_port"], 65535)
        self.nats_server = values["nats_server"]
        self.events_age_s = _number("events_age", values["events_age"], 1_000_000_000)
        self.events_bytes = _number("events_bytes", values["events_bytes"], 1 << 50, least=LEAST_EVENTS_BYTES)
        self.key_text = _absolute("key", values["key"]) if values["key"] else f"{self.root_text}/keys/admin.nk"
        self.log_level = _choice("log_level", values["log_level"], ("debug", "info", "warning", "error"))
        self.disk_reserve_bytes = _number("disk_reserve", values["disk_reserve"], 1 << 60)
        self.metadata_url = values["metadata_url"]
        self.metadata_allow_relaxed = (
            _choice("metadata_allow_relaxed", values["metadata_allow_relaxed"], ("0", "1")) == "1"
        )
        self.content_url = values["content_url"] or f"file://{self.root_text}/content"
        self.s3_access_key = values["s3_access_key"]
        self.s3_secret_key = values["s3_secret_key"]
        self.content_listen = values["content_listen"]
        self.hosts_dirs = tuple(_absolute("hosts_dir", path) for path in values["hosts_dir"].split(":") if path)
        self.docker_config_text = _absolute(
            "docker_config",
            values["docker_config"] or f"{os.path.expanduser('~')}/.docker",  # noqa: PTH111 (no pathlib on this path)
        )
        self.token_servers = values["token_servers"]
        self.verifier_dir_text = _absolute("verifier_dir", values["verifier_dir"]) if values["verifier_dir"] else ""
        self.snapshotter = _choice("snapshotter", values["snapshotter"], ("overlayfs", "native"))
        self.sync_layers = _choice("sync_layers", values["sync_layers"], ("on", "off")) == "on"
        self.gc_mutations = _number("gc_mutations", values["gc_mutations"], 1_000_000)
        self.gc_deletions = _number("gc_deletions", values["gc_deletions"], 1_000_000)
        self.gc_interval_s = _number("gc_interval", values["gc_interval"], 30 * 86_400)
        self.gc_pause = _fraction("gc_pause", values["gc_pause"], 0.5)
        self.otlp_endpoint = values["otlp_endpoint"]
        self.origin = origin

    @property
    def root(self) -> Path:
        """Directory of everything that survives a reboot."""
        return _path(self.root_text)

    @property
    def state(self) -> Path:
        """Directory of what one boot needs."""
        return _path(self.state_text)

    @property
    def key(self) -> Path:
        """File of the key that commands use."""
        return _path(self.key_text)

    @property
    def keys_dir(self) -> Path:
        """Directory of the nkey seeds, 0700."""
        return self.root / "keys"

    @property
    def bus_file_text(self) -> str:
        """File that says where the bus of this stack listens: ``{"url": …}``."""
        return f"{self.state_text}/bus.json"

    @property
    def bus_file(self) -> Path:
        """As `bus_file_text`."""
        return _path(self.bus_file_text)

    @property
    def log_dir(self) -> Path:
        """Directory of the services' logs, one ``<service>.log`` each."""
        return self.root / "log"

    def environment(self, service: str = "") -> dict[str, str]:
        """Return the variables that give a child process these settings.

        Secrets, and what concerns one service alone, are in it only for that `service`.
        """
        values = self.as_text()
        return {
            s.variable: values[s.key]
            for s in ALL
            if values[s.key] and s.key not in ("key", "otlp_endpoint") and s.only in ("", service)
        }

    def as_text(self) -> dict[str, str]:
        """Return each setting's value as text by key, as the environment would spell it."""
        return {
            "root": self.root_text,
            "state": self.state_text,
            "host": self.host,
            "namespace": self.namespace,
            "cgroup_parent": self.cgroup_parent,
            "nats_url": self.nats_url,
            "nats_port": str(self.nats_port),
            "nats_server": self.nats_server,
            "events_age": str(self.events_age_s),
            "events_bytes": str(self.events_bytes),
            "key": self.key_text,
            "log_level": self.log_level,
            "disk_reserve": str(self.disk_reserve_bytes),
            "metadata_url": self.metadata_url,
            "metadata_allow_relaxed": "1" if self.metadata_allow_relaxed else "0",
            "content_url": self.content_url,
            "s3_access_key": self.s3_access_key,
            "s3_secret_key": self.s3_secret_key,
            "content_listen": self.content_listen,
            "hosts_dir": ":".join(self.hosts_dirs),
            "docker_config": self.docker_config_text,
            "token_servers": self.token_servers,
            "verifier_dir": self.verifier_dir_text,
            "snapshotter": self.snapshotter,
            "sync_layers": "on" if self.sync_layers else "off",
            "gc_mutations": str(self.gc_mutations),
            "gc_deletions": str(self.gc_deletions),
            "gc_interval": str(self.gc_interval_s),
            "gc_pause": str(self.gc_pause),
            "otlp_endpoint": self.otlp_endpoint,
        }


def load(flags: Mapping[str, str | None] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in force.

    Args:
        flags: values given on the command line by key; None means not given.
        environment: the environment to read; the process's own by default.

    Raises:
        InvalidArgument: a value breaks its setting's rule, or the file has an unknown key or is no TOML.
    """
    env = os.environ if environment is None else environment
    from_file = _read_file(env)
    values: dict[str, str] = {}
    origin: dict[str, Source] = {}
    for setting in ALL:
        given = (flags or {}).get(setting.key)
        if given is not None:
            values[setting.key], origin[setting.key] = given, "flag"
        elif env.get(setting.variable):
            values[setting.key], origin[setting.key] = env[setting.variable], "environment"
        elif setting.key in from_file:
            values[setting.key], origin[setting.key] = from_file[setting.key], "file"
        else:
            values[setting.key], origin[setting.key] = setting.default, "default"
    return Settings(values, origin)


def _read_file(env: Mapping[str, str]) -> dict[str, str]:
    named = env.get("HYTHE_CONFIG")
    path = named or "/etc/hythe/hythe.toml"
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        if named:
            raise FailedPrecondition(
                f"read settings {path}: no such file", next_step="unset HYTHE_CONFIG, or make it"
            ) from None
        return {}
    if not data.strip():
        return {}
    import tomllib  # only where a file exists: the import costs more than the rest of this module

    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"read settings {path}: {error}") from error
    known = {s.key for s in ALL}
    for key, value in table.items():
        if key not in known:
            raise InvalidArgument(
                f"read settings {path}: unknown key {key!r}", next_step="`hythe config` lists the keys"
            )
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise InvalidArgument(f"read settings {path}: {key} must be text or a number")
    return {key: str(value) for key, value in table.items()}


def _path(text: str) -> Path:
    from pathlib import Path  # not for commands that only read a file or two

    return Path(text)


def _absolute(key: str, value: str) -> str:
    if not value.startswith("/"):
        raise InvalidArgument(f"check setting {key}: {value!r} is not an absolute path")
    return "/" + "/".join(part for part in value.split("/") if part not in ("", "."))


def _number(key: str, value: str, most: int, *, least: int = 0) -> int:
    if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
        raise InvalidArgument(f"check setting {key}: {value!r} is not a number from {least} to {most}")
    return int(value)


def _fraction(key: str, value: str, most: float) -> float:
    whole, _, part = value.partition(".")
    digits = (whole + part).isascii() and (whole + part).isdigit()
    if not digits or len(value) > 20 or float(value) > most:
        raise InvalidArgument(f"check setting {key}: {value!r} is not a number from 0 to {most}")
    return float(value)


def _choice(key: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise InvalidArgument(f"check setting {key}: {value!r} is none of {', '.join(choices)}")
    return value


def _host(value: str) -> str:
    """Return a name that can be a directory: the stack's cgroup is named by it, and everything in there is killed by `down`."""
    if not is_host(value):
        raise InvalidArgument(f"check setting host: {value!r} is not the name of a host")
    return value


def _default_cgroup(root: str) -> str:
    """Two stacks on one host must not clear away each other's containers, so another root has another cgroup."""
    return "hythe" if root == DEFAULT_ROOT else f"hythe-{binascii.crc32(os.fsencode(root)):08x}"


def _cgroup(value: str) -> str:
    parts = value.strip("/").split("/")
    if not all(parts) or any(part in (".", "..") for part in parts):
        raise InvalidArgument(f"check setting cgroup_parent: {value!r} is not a relative cgroup path")
    return "/".join(parts)
