"""Which images are unpacked: manifest, config and top layer by the digest they are asked by, in the snapshots' database."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from hythe.digest import Digest, parse_digest
from hythe.oci import Platform, parse_config
from hythe_bundle.adapters.database import Database
from hythe_bundle.images import UnpackedImage

KEPT_PARSED = 256


class ImageCache:
    """Keeps the promises of `hythe_bundle.images.UnpackedImages`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._parsed: dict[tuple[Digest, Platform], UnpackedImage] = {}

    def find(self, target: Digest, platform: Platform) -> UnpackedImage | None:
        """See `UnpackedImages.find`."""
        known = self._parsed.get((target, platform))
        if known is None:
            rows = self._database.read(
                "SELECT manifest, chain_id, config FROM images WHERE target = ? AND platform = ?",
                (str(target), str(platform)),
            )
            if not rows:
                return None
            manifest, chain_id, config = rows[0]
            known = UnpackedImage(parse_digest(manifest), chain_id, parse_config(config))
            self._keep(target, platform, known)
        return known if self._has(known.chain_id) else None

    def _has(self, chain_id: str) -> bool:
        """Tell whether the top layer is still here: a user may remove it."""
        query = "SELECT 1 FROM snapshots WHERE name = ? AND kind = 'committed'"
        return not chain_id or bool(self._database.read(query, (chain_id,)))

    def by_chain(self, chain_id: str) -> UnpackedImage | None:
        """See `UnpackedImages.by_chain`."""
        rows = self._database.read(
            "SELECT manifest, config FROM images WHERE chain_id = ? ORDER BY manifest LIMIT 1", (chain_id,)
        )
        return UnpackedImage(parse_digest(rows[0][0]), chain_id, parse_config(rows[0][1])) if rows else None

    async def put(self, targets: Collection[Digest], platform: Platform, image: UnpackedImage) -> None:
        """See `UnpackedImages.put`."""
        facts = (str(platform), str(image.manifest), image.chain_id, image.config.raw)

        def work(connection: sqlite3.Connection) -> None:
            rows = [(str(target), *facts) for target in targets]
            connection.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", rows)

        await self._database.write(work)
        for target in targets:
            self._keep(target, platform, image)

    def uses(self, chain_id: str) -> bool:
        """See `UnpackedImages.uses`."""
        return bool(self._database.read("SELECT 1 FROM images WHERE chain_id = ? LIMIT 1", (chain_id,)))

    def _keep(self, target: Digest, platform: Platform, image: UnpackedImage) -> None:
        if len(self._parsed) >= KEPT_PARSED:
            self._parsed.pop(next(iter(self._parsed)))
        self._parsed[target, platform] = image
