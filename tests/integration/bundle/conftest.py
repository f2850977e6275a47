"""Fixtures of the bundle service's tests."""

from tests.fixtures.bundles import blobs, rig
from tests.fixtures.carried import carried

__all__ = ["blobs", "carried", "rig"]
