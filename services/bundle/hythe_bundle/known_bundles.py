"""The bundles that this host knows: listed, shown, and removed where Hythe made them for a user."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from hythe import threads
from hythe.errors import FailedPrecondition, NotFound
from hythe.ports.snapshots import Mount
from hythe_bundle import carried, foreign
from hythe_bundle.bundle import Bundles
from hythe_bundle.ledger import Ground, Ledger
from hythe_bundle.making import Making


@dataclass(frozen=True, slots=True)
class Listed:
    """One bundle as `bundle ls` shows it."""

    path: str
    kind: Literal["container", "created"]
    image: str
    digest: str
    created_at: str
    containers: tuple[str, ...]
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Details:
    """Everything known of one bundle."""

    path: str
    kind: Literal["container", "created", "foreign"]
    root: str
    config: str
    record: str
    mounts: tuple[Mount, ...]
    terminal: bool


class KnownBundles:
    """Containers' bundles, and the directories that Hythe made for users."""

    def __init__(
        self, bundles: Bundles, making: Making, ledger: Ledger, ground: Ground, disk: foreign.ForeignDisk
    ) -> None:
        self._bundles = bundles
        self._making = making
        self._ledger = ledger
        self._ground = ground
        self._disk = disk

    async def list(self, namespace: str) -> list[Listed]:
        """Return the bundles of a namespace, containers' and created ones, by path."""
        rows: list[Listed] = []
        users: dict[str, list[str]] = {}
        async for record in self._bundles.records():
            name = str(record["request"].get("name") or record["id"][:12])
            if directory := record.get("directory"):
                users.setdefault(directory, []).append(name)
            if record["namespace"] == namespace:
                image = record.get("image") or {}
                reference = image.get("reference") or f"bundle:{directory}"
                path = str(self._bundles.path(namespace, record["id"]))
                rows.append(
                    Listed(path, "container", reference, image.get("digest", ""), record["created_at"], (name,))
                )
        for created in self._ledger.all(namespace):
            real = await asyncio.to_thread(self._ground.real, created.path)
            inode = await asyncio.to_thread(self._ground.inode, created.path)
            rows.append(
                Listed(
                    created.path,
                    "created",
                    created.image,
                    created.digest,
                    created.created_at,
                    tuple(sorted(users.get(real, ()))),
                    missing=inode != created.inode,
                )
            )
        return sorted(rows, key=lambda row: row.path)

    async def inspect(self, namespace: str, container_id: str, directory: str) -> Details:
        """Return everything known of a container's bundle, or of a directory.

        Raises:
            NotFound, InvalidArgument: there is no such bundle, or it can't be run; see `foreign.read`.
        """
        if container_id:
            kept = await self._bundles.look_up(namespace, container_id)
            root = kept.record.get("root") or str(kept.path / carried.ROOTFS)
            record = carried.text_of(kept.record).decode()
            return Details(str(kept.path), "container", root, kept.config, record, kept.mounts, terminal=False)
        found = await asyncio.to_thread(foreign.read, self._disk, directory)
        created = self._ledger.find(directory)
        is_own = created is not None and created.inode == await asyncio.to_thread(self._ground.inode, directory)
        record = (await record_of(self._ground, directory)).decode(errors="replace")
        kind: Literal["created", "foreign"] = "created" if is_own else "foreign"
        return Details(directory, kind, found.root, found.config.raw.decode(), record, (), found.config.terminal)

    async def remove(self, namespace: str, directory: str) -> None:
        """Remove a directory that Hythe made, and forget it; one that is gone is forgotten.

        Raises:
            NotFound: there is no such directory.
            FailedPrecondition: Hythe did not make it, a container is made from it and stays, or something is mounted in it.
        """
        created = self._ledger.find(directory)
        inode = await asyncio.to_thread(self._ground.inode, directory)
        if created is None or created.namespace != namespace:
            if not inode:
                raise NotFound(f"remove bundle {directory}: there is no such directory", details={"kind": "bundle"})
            raise FailedPrecondition(
                f"remove bundle {directory}: Hythe did not make it",
                next_step="`hythe rm` removes the bundle of a container; remove what is yours by `rm -r`",
            )
        if not inode:
            await self._ledger.forget(directory, created.inode)
            return
        if inode != created.inode:
            raise FailedPrecondition(
                f"remove bundle {directory}: it is another directory than the one that Hythe made",
                next_step="remove it by `rm -r` if it is not needed",
            )
        await self._bundles.adopting.attempt(lambda: self._take_away(directory, created.inode))

    async def _take_away(self, directory: str, inode: int) -> None:
        real = await asyncio.to_thread(self._ground.real, directory)
        async for record in self._bundles.records():
            if record.get("directory") == real:
                raise FailedPrecondition(
                    f"remove bundle {directory}: container {record['id'][:12]} is made from it",
                    next_step=f"`hythe rm {record['id'][:12]}`",
                    details={"kind": "container", "id": record["id"]},
                )
        await asyncio.to_thread(self._ground.check_unmounted, directory)
        async with self._making.unfinished(directory, directory=False) as doomed:
            await threads.run(lambda: self._ground.place(directory, doomed))
            await self._ledger.forget(directory, inode)


async def record_of(ground: Ground, directory: str) -> bytes:
    """Return the text of a directory's record; empty where there is none."""
    try:
        return await asyncio.to_thread(ground.read_file, directory, carried.RECORD, carried.MAX_RECORD_BYTES)
    except NotFound as error:
        if error.details.get("kind") != "file":
            raise
        return b""
