"""What a snapshotter does before it serves: whose root this is, what a crash left or took, and what is not its own."""

from __future__ import annotations

import logging
import sqlite3

from hythe.errors import FailedPrecondition
from hythe_bundle.adapters import disk_errors, snapshot_changes
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.layout import Layout
from hythe_bundle.adapters.places import Places
from hythe_bundle.adapters.snapshot_records import SnapshotRecords

log = logging.getLogger(__name__)

_MAKER = "snapshotter"
_LOST = "lost_up_to"
"""Places up to this number were there before the database: their records are lost, so they are left alone for ever."""


def recover(layout: Layout, places: Places, database: Database, records: SnapshotRecords) -> None:
    """Make records and places agree. Blocks; called once, before anything is asked of the snapshotter.

    Raises:
        FailedPrecondition: `layout` can't lie there, or the snapshots there are another one's.
    """
    layout.check(places.directory)
    recorded = records.numbers()
    _claim(layout.name, places, database, records, empty=not recorded)
    present = places.present()
    if database.fresh and present:
        greatest = str(max(present))
        database.write_at_start(lambda connection: snapshot_changes.set_about(connection, _LOST, greatest))
    places.keep_up_to(int(records.about(_LOST) or 0))
    places.begin_after(max(records.greatest_number(), *present, 0))
    _remove_orphans(places, recorded)
    for row in records.with_places():
        place = places.path(row.number)
        if not layout.is_made(place):  # it was empty, or the copy was not synced before a crash of the machine
            with disk_errors.translated("make snapshot", places.root):
                layout.make(place, [places.path(number) for number in records.below(row)])


def _claim(name: str, places: Places, database: Database, records: SnapshotRecords, *, empty: bool) -> None:
    """Note that the snapshots of this root are of the snapshotter `name`.

    Raises:
        FailedPrecondition: there are snapshots of another one.
    """
    maker = records.about(_MAKER)
    if maker == name:
        return
    if maker and not empty:
        raise FailedPrecondition(
            f"open snapshots in {places.directory}: they were made by the snapshotter {maker}, not by {name}",
            next_step=f"set HYTHE_SNAPSHOTTER={maker}; to change it, first remove all containers (`hythe rm`) and "
            "snapshots (`hythe snapshot rm`), or choose another HYTHE_ROOT",
        )

    def work(connection: sqlite3.Connection) -> None:
        snapshot_changes.set_about(connection, _MAKER, name)
        connection.execute("DELETE FROM images")  # what they end with isn't here

    database.write_at_start(work)


def _remove_orphans(places: Places, recorded: set[int]) -> None:
    """Remove what was being made, or removed, when the last process ended."""
    lost = places.lost(recorded)
    if lost:
        log.warning(
            "kept %d snapshot directories: their records are gone", len(lost), extra={"at": str(places.directory)}
        )
    if removed := places.remove_orphans(places.orphans(recorded)):
        log.info("removed %d unfinished snapshots", removed)
