"""Fixtures of the agent's integration tests."""

from tests.fixtures.agents import busybox_base, lab

__all__ = ["busybox_base", "lab"]
