"""Which namespaces a container has of its own, and whose ids its users have outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hythe.errors import InvalidArgument
from hythe_bundle.users import User
from hythe_bundle.wishes import IdRange, NamespaceWishes, Wishes

MOST_RANGES = 340
"""Lines that the kernel takes of one map. Spec: user_namespaces(7)."""

_MOST_ID = 2**32 - 2


def make(wishes: Wishes) -> list[dict[str, Any]]:
    """Return ``linux.namespaces``: each new one; one that is the host's isn't named.

    Raises:
        InvalidArgument: a namespace is shared that a user namespace, or a privileged container, must or can't have.

    Spec: OCI runtime-spec, "Namespaces".
    """
    shared = wishes.namespaces
    if shared.user_ids or shared.group_ids:
        if not shared.user_ids:
            raise InvalidArgument("make the user namespace: there are groups' ids and no users'")
        if shared.pid == "host":
            raise InvalidArgument(
                "make the user namespace: the host's processes can't be shown in one", next_step=_APART
            )
        if wishes.security.privileged:
            raise InvalidArgument("make the user namespace: a privileged container can't have one", next_step=_APART)
    return [
        {"type": name}
        for name, host in (
            ("pid", shared.pid == "host"),
            ("ipc", shared.ipc == "host"),
            ("uts", shared.uts == "host"),
            ("mount", False),
            ("cgroup", shared.cgroup == "host"),
            ("network", wishes.network == "host"),
            ("user", not shared.user_ids),
        )
        if not host
    ]


_APART = "choose one of the two"


def id_maps(wishes: NamespaceWishes) -> dict[str, list[dict[str, int]]]:
    """Return ``uidMappings`` and ``gidMappings``; empty without a user namespace.

    Raises:
        InvalidArgument: ranges overlap, leave the 32 bits of an id, are too many, or leave out the container's root, whom
            the runtime needs.
    """
    if not wishes.user_ids:
        return {}
    return {
        "uidMappings": _map("users", wishes.user_ids),
        "gidMappings": _map("groups", group_ids(wishes)),
    }


def group_ids(wishes: NamespaceWishes) -> tuple[IdRange, ...]:
    """Return the map of groups' ids: the users' unless there is one."""
    return wishes.group_ids or wishes.user_ids


def has(ids: Sequence[IdRange], number: int) -> bool:
    """Tell whether the container's id `number` is mapped; without a map all are."""
    return not ids or any(each.container_id <= number < each.container_id + each.size for each in ids)


def check_user(wishes: NamespaceWishes, user: User) -> None:
    """Return if `user` and all his groups are somebody in the container's user namespace.

    Raises:
        InvalidArgument: an id isn't mapped, so that no process can have it.
    """
    if not has(wishes.user_ids, user.uid):
        raise _unmapped("user", user.uid)
    for gid in (user.gid, *user.additional_gids):
        if not has(group_ids(wishes), gid):
            raise _unmapped("group", gid)


def _unmapped(what: str, number: int) -> InvalidArgument:
    return InvalidArgument(
        f"make the user namespace: {what} {number} of the container is nobody outside",
        next_step=f"map a range of ids that has {number} in it",
    )


def _map(whose: str, ids: Sequence[IdRange]) -> list[dict[str, int]]:
    if len(ids) > MOST_RANGES:
        raise _refused(whose, f"{len(ids)} ranges are more than {MOST_RANGES}")
    for each in ids:
        if min(each.container_id, each.host_id) < 0 or each.size < 1:
            raise _refused(whose, "a range is empty or begins below 0")
        if max(each.container_id, each.host_id) + each.size - 1 > _MOST_ID:
            raise _refused(whose, f"a range ends above {_MOST_ID}")
    _check_apart(whose, "container", ((each.container_id, each.size) for each in ids))
    _check_apart(whose, "host", ((each.host_id, each.size) for each in ids))
    if not has(ids, 0):
        raise _refused(whose, "0 of the container, its root, is in no range")
    return [{"containerID": each.container_id, "hostID": each.host_id, "size": each.size} for each in ids]


def _check_apart(whose: str, side: str, ranges: Iterable[tuple[int, int]]) -> None:
    end = 0
    for first, size in sorted(ranges):
        if first < end:
            raise _refused(whose, f"{first} of the {side} is in two ranges")
        end = first + size


def _refused(whose: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"map ids of {whose}: {reason}")
