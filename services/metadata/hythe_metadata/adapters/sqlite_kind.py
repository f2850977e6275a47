"""What a metadata store in SQLite is called, and how it is told from other files."""

from __future__ import annotations

from hythe.sqlite_file import Kind

APPLICATION_ID = 0x48797468  # "Hyth"
STORE = Kind(
    name="metadata store",
    application_id=APPLICATION_ID,
    contents="the metadata store is damaged",
    remedy="check the disk, then put a backup in its place",
    elsewhere="choose another HYTHE_ROOT",
    user="this user",
    restart="start hythe-metadata again: until then it writes nothing more",
)
