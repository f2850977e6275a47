"""Unpack a carried bundle: every entry of its archive is itself; see `hythe_bundle.worker.main` for all else."""

from __future__ import annotations

from hythe.archive import tar
from hythe_bundle.worker import main
from hythe_bundle.worker.apply import Applier, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from hythe.archive.tar import Entry
    from hythe_bundle.worker.layer import Layer


class Plain(Applier):
    """Makes all entries as they stand."""

    whiteouts = False


class PlainRoot(Plain):
    """Makes all entries below ``rootfs``, which the archive's own root is."""

    def apply(self, entries: Iterator[Entry]) -> Layer:
        """See `Applier.apply`."""
        return super().apply(map(_below_root, entries))


def _below_root(entry: Entry) -> Entry:
    entry.name = b"rootfs/" + clean(entry.name)
    if entry.kind == tar.LINK:
        entry.link = b"rootfs/" + clean(entry.link)
    return entry


def run(arguments: list[str]) -> NoReturn:
    """See `hythe_bundle.worker.main.run`; the first argument is 1 for `PlainRoot`, 0 for `Plain`."""
    below_root, *rest = arguments
    main.run(rest, PlainRoot if below_root == "1" else Plain)
