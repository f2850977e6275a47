"""What a volume is, and which ones a container's mounts mean: those with a name, and those that go with the container."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hythe.errors import InvalidArgument, ResourceExhausted
from hythe_bundle import namespaces
from hythe_bundle.wishes import IdRange, MountWish, NamespaceWishes

MAX_NAME_LENGTH = 200
MOST_OF_A_CONTAINER = 512
"""Volumes that one container can have: an image may declare any number."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume.

    Attributes:
        data: the directory that is mounted.
        created_at: RFC 3339, UTC.
        container: id of the container that it was made for and goes with; empty for one that stays.
        anonymous: nobody chose its name.
    """

    namespace: str
    name: str
    data: Path
    created_at: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    container: str = ""
    anonymous: bool = False

    @property
    def key(self) -> Key:
        """What tells it from all others."""
        return self.namespace, self.name

    def kept(self) -> Volume:
        """Return it as one that stays."""
        return replace(self, container="")


@dataclass(frozen=True, slots=True)
class VolumeWish:
    """A volume at a place of a container.

    Attributes:
        own: it is made for this container and goes with it.
        chain_id: top snapshot of the image whose files it begins with; empty for none.
        users: how the container's users are mapped to the host's; empty if they are the same. `groups` likewise.
    """

    name: str
    own: bool
    mount: MountWish
    chain_id: str = ""
    users: tuple[IdRange, ...] = ()
    groups: tuple[IdRange, ...] = ()

    @property
    def root(self) -> tuple[int, int]:
        """The host's ids for user and group 0 of the container."""
        return _root(self.users), _root(self.groups)


def check_name(name: str) -> str:
    """Return `name` if it can be a volume's: letters, digits and ``_.-``, the first a letter or a digit, at most 200.

    Raises:
        InvalidArgument: it can't.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidArgument(f"name a volume: the name is longer than {MAX_NAME_LENGTH} characters")
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"name a volume {name!r}: only letters, digits and _ . - are allowed, the first a letter or a digit"
        )
    return name


def own_name(container_id: str, target: str) -> str:
    """Return the name of the volume that goes with a container and is mounted at `target`: the same each time."""
    return hashlib.sha256(f"{container_id}\0{target}".encode(errors="surrogateescape")).hexdigest()


def _root(ranges: Sequence[IdRange]) -> int:
    return next((each.host_id for each in ranges if each.container_id == 0), 0)


def named(
    container_id: str, chain_id: str, wanted: Sequence[MountWish], of_image: Sequence[str], shared: NamespaceWishes
) -> list[VolumeWish]:
    """Return the volumes that a container asks for and those that its image declares, each with its name.

    Raises:
        InvalidArgument: a name breaks its rule.
        ResourceExhausted: they are more than 512.
    """
    every = [*wanted, *(MountWish("volume", target) for target in of_image)]
    if len(every) > MOST_OF_A_CONTAINER:
        raise ResourceExhausted(
            f"make volumes: {len(every)} are asked for or declared by the image, {MOST_OF_A_CONTAINER} is the most",
            outcome="not started",
        )
    users, groups = shared.user_ids, namespaces.group_ids(shared)
    return [
        VolumeWish(
            check_name(wish.source) if wish.source else own_name(container_id, wish.target),
            not wish.source,
            wish,
            "" if wish.no_copy else chain_id,
            users,
            groups,
        )
        for wish in every
    ]


def has_labels(volume: Volume, wanted: Sequence[str]) -> bool:
    """Tell whether a volume has all of these labels, each ``NAME`` or ``NAME=VALUE``."""
    pairs = [text.partition("=") for text in wanted]
    return all(key in volume.labels and (not equals or volume.labels[key] == value) for key, equals, value in pairs)
