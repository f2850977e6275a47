"""Fixtures of the bundle service's tests."""

from tests.fixtures.bundles import blobs, rig

__all__ = ["blobs", "rig"]
