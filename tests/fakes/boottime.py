"""A clock that tests move."""

from __future__ import annotations


class Boottime:
    """CLOCK_BOOTTIME, moved by tests."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        """Return it in milliseconds."""
        return self.ms

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.ms += int(seconds * 1000)
