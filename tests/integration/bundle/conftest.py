"""Fixtures of the bundle service's tests."""

from tests.fixtures.bundles import blobs, rig
from tests.fixtures.targets import make_target, target

__all__ = ["blobs", "make_target", "rig", "target"]
