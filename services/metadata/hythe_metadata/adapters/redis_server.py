"""What a Redis must be like to keep records in it, looked at whenever a connection for writing was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hythe.errors import FailedPrecondition, HytheError
from hythe_metadata.adapters.redis_link import Link

OLDEST_VERSION = 7
NEXT_STEP = "redis-server's configuration needs: appendonly yes, appendfsync always, maxmemory-policy noeviction"
_STEP = "check the server of metadata store"


def check_server(link: Link, *, allow_relaxed: bool) -> None:
    """Look whether this Redis keeps what it acknowledged.

    Args:
        allow_relaxed: ``appendfsync everysec`` is enough, which may lose the last second or two.

    Raises:
        FailedPrecondition: it is too old, a cluster or a replica, or set up so that it may lose records.
        Unavailable: it is away.
    """
    server, replication = (_facts(text) for text in _ask(link, ("INFO", "server"), ("INFO", "replication")))
    version = server.get("redis_version", "")
    if not version.partition(".")[0].isdigit() or int(version.partition(".")[0]) < OLDEST_VERSION:
        raise _refused(link, f"it is version {version or 'unknown'}", f"use Redis {OLDEST_VERSION} or later")
    if server.get("redis_mode") == "cluster":
        raise _refused(link, "it is a Redis Cluster", "use a single redis-server, with a replica if you like")
    if replication.get("role") != "master":
        raise _refused(link, "it is a replica, which can't be written", "name the primary in HYTHE_METADATA_URL")
    settings = _settings(link)
    allowed = ("always", "everysec") if allow_relaxed else ("always",)
    for name, good in (
        ("appendonly", ("yes",)),
        ("appendfsync", allowed),
        ("maxmemory-policy", ("noeviction",)),
    ):
        value = settings.get(name, "")
        if value not in good:
            raise _refused(link, f"its {name} is {value or 'unknown'}, not {good[0]}", _advice(link, name, good[0]))


def _advice(link: Link, name: str, value: str) -> str:
    relaxed = "; HYTHE_METADATA_ALLOW_RELAXED=1 lets everysec pass, which may lose the last second"
    return (
        f"`redis-cli CONFIG SET {name} {value}` and the same in redis.conf"
        + (relaxed if name == "appendfsync" else "")
        + f". {NEXT_STEP}"
    )


def _settings(link: Link) -> Mapping[str, str]:
    try:
        answers = _ask(link, *(("CONFIG", "GET", name) for name in ("appendonly", "appendfsync", "maxmemory-policy")))
    except FailedPrecondition as error:
        raise FailedPrecondition(
            f"{_STEP} {link.place}: its configuration can't be read",
            cause=error.cause,
            next_step="allow this user CONFIG GET",
        ) from error
    return {name.decode(): value.decode() for name, value in answers}


def _ask(link: Link, *commands: tuple[str, ...]) -> list[Any]:
    return link.question(_STEP, *commands)


def _facts(text: bytes) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value for name, _, value in pairs}


def _refused(link: Link, what: str, next_step: str) -> HytheError:
    return FailedPrecondition(f"{_STEP} {link.place}: {what}", next_step=next_step)
