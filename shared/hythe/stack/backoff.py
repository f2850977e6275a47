"""How long to wait before a process that died is started again."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_S = 0.1
MOST_S = 10.0
HEALTHY_AFTER_S = 30.0


@dataclass(slots=True)
class Backoff:
    """Doubles from 0.1 s to 10 s with each death, and starts over after 30 s of health."""

    next_s: float = FIRST_S

    def after_death(self, lived_s: float) -> float:
        """Return the seconds to wait after a process died that had lived `lived_s`."""
        if lived_s >= HEALTHY_AFTER_S:
            self.next_s = FIRST_S
        wait_s, self.next_s = self.next_s, min(self.next_s * 2, MOST_S)
        return wait_s
