"""Fixtures of the bundle service's tests."""

from tests.fixtures.bundles import blobs, rig
from tests.fixtures.carried import carried
from tests.fixtures.targets import target

__all__ = ["blobs", "carried", "rig", "target"]
