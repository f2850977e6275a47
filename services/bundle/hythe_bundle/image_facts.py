"""What a container's spec needs to know of an unpacked image's files: its accounts, and whether it has 32-bit programs."""

from __future__ import annotations

from typing import TypeVar

from hythe.ports.snapshots import Snapshotter
from hythe_bundle import users
from hythe_bundle.unpacker import ELF_32_LABEL
from hythe_bundle.users import User

KEPT = 1024

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class ImageFacts:
    """Answers from the layers' files, and remembers: a committed snapshot never changes."""

    def __init__(self, snapshots: Snapshotter) -> None:
        self._snapshots = snapshots
        self._users: dict[tuple[str, tuple[str, ...], str], User] = {}
        self._32_bit: dict[str, bool] = {}

    async def user(self, text: str, chain_id: str, groups: tuple[str, ...] = ()) -> User:
        """Return the user that `text` means, in `groups` too, in the image whose top snapshot is `chain_id`.

        Args:
            chain_id: empty for an image without layers.

        Raises:
            InvalidArgument: there is no such user or group, or /etc/passwd or /etc/group is no regular file of at most
                1 MiB.
        """
        key = (text, groups, chain_id)
        known = self._users.get(key)
        if known is None:
            passwd = await self._read(chain_id, users.PASSWD)
            group = await self._read(chain_id, users.GROUP)
            known = users.resolve(text, passwd, group, groups)
            _remember(self._users, key, known)
        return known

    async def has_32_bit(self, chain_id: str) -> bool:
        """Tell whether one of the image's layers has a program or library for a 32-bit processor."""
        known = self._32_bit.get(chain_id)
        if known is None:
            known, name = False, chain_id
            while name and not known:
                layer = await self._snapshots.stat(name)
                known, name = ELF_32_LABEL in layer.labels, layer.parent
            _remember(self._32_bit, chain_id, known)
        return known

    async def _read(self, chain_id: str, path: str) -> bytes | None:
        return await self._snapshots.read_file(chain_id, path, users.MAX_FILE_BYTES) if chain_id else None


def _remember(memory: dict[KeyT, ValueT], key: KeyT, value: ValueT) -> None:
    if len(memory) >= KEPT:
        memory.pop(next(iter(memory)))
    memory[key] = value
