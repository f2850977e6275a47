"""Events of changes that are made elsewhere than in the ledger: said before, and told once the change is seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from hythe.digest import parse_digest
from hythe_distribution.adapters.ledger_sqlite import store
from hythe_distribution.adapters.records_file import RecordsFile
from hythe_distribution.content_events import Happening


class Intents:
    """What is about to happen, or may have happened when a process was killed; the caller serialises all calls."""

    def __init__(self, file: RecordsFile) -> None:
        """Keep them in `file`, beside the outbox."""
        self._file = file
        self._doubtful = True

    def announce(self, happenings: Sequence[Happening]) -> Mapping[Happening, int]:
        """Keep what is about to happen, durably, and return its numbers for `tell`."""
        if not happenings:
            return {}
        with self._file.changing("write to") as connection:
            return {
                happening: connection.execute("INSERT INTO intents (event) VALUES (?)", (_text(happening),)).lastrowid
                or 0
                for happening in happenings
            }

    def tell(self, announced: Mapping[Happening, int], happened: Sequence[Happening]) -> None:
        """Put what has happened into the outbox; of the rest it is looked later whether it has."""
        self._doubtful = self._doubtful or len(happened) < len(announced)
        if happened:
            with self._file.changing("write to") as connection:
                for happening in happened:
                    store(connection, happening)
                    connection.execute("DELETE FROM intents WHERE number = ?", (announced[happening],))

    def settle(self, has_happened: Callable[[Happening], bool]) -> None:
        """Tell or drop what is in doubt: at the start all that is left, later what failed.

        Raises:
            HytheError: whatever `has_happened` raises; what is left stays in doubt.
        """
        if not self._doubtful:
            return
        with self._file.reading() as connection:
            rows = connection.execute("SELECT number, event FROM intents ORDER BY number").fetchall()
        for number, text in rows:
            happening = _read(text)
            happened = has_happened(happening)
            with self._file.changing("write to") as connection:
                if happened:
                    store(connection, happening)
                connection.execute("DELETE FROM intents WHERE number = ?", (number,))
        self._doubtful = False


def _text(happening: Happening) -> str:
    fields = asdict(replace(happening, attributes=dict(happening.attributes)))
    return json.dumps({**fields, "digest": str(happening.digest)}, separators=(",", ":"))


def _read(text: str) -> Happening:
    fields = json.loads(text)
    return Happening(**{**fields, "digest": parse_digest(fields["digest"])})
