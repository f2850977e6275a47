"""Which containers use which volumes, and waiting for them to go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hythe_bundle.volume_names import Key


class VolumeUsers:
    """Who uses what: in memory, for the bundles' records tell it again after a restart."""

    def __init__(self) -> None:
        self._users: dict[Key, set[str]] = {}
        self._used: dict[str, set[Key]] = {}
        self._departures: set[asyncio.Future[None]] = set()

    def add(self, container_id: str, key: Key) -> None:
        """Note that a container uses a volume."""
        self._users.setdefault(key, set()).add(container_id)
        self._used.setdefault(container_id, set()).add(key)

    def leave(self, container_id: str, key: Key) -> None:
        """Note that it doesn't any more; nothing happens if that is known."""
        used = self._used.get(container_id, set())
        used.discard(key)
        if not used:
            self._used.pop(container_id, None)
        users = self._users.get(key, set())
        users.discard(container_id)
        if not users:
            self._users.pop(key, None)
        for change in self._departures:
            if not change.done():
                change.set_result(None)

    def of(self, key: Key) -> list[str]:
        """Return the ids of the containers that use a volume."""
        return sorted(self._users.get(key, ()))

    def used_by(self, container_id: str) -> list[Key]:
        """Return the volumes that a container uses."""
        return sorted(self._used.get(container_id, ()))

    async def wait_for_none(self, key: Key, timeout_s: float) -> None:
        """Return when no container uses a volume, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while key in self._users:
                    change = asyncio.get_running_loop().create_future()
                    self._departures.add(change)
                    try:
                        await change
                    finally:
                        self._departures.discard(change)
        except TimeoutError:
            pass


def who(ids: Sequence[str]) -> str:
    """Return a sentence about containers that use something, for messages."""
    shown = ", ".join(container_id[:12] for container_id in ids[:3])
    return f"container {shown} uses it" if len(ids) == 1 else f"{len(ids)} containers use it, {shown} among them"
