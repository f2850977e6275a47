"""Which layers lie outside registries."""

from __future__ import annotations

import pytest

from hythe.oci.media_types import LAYER_COMPRESSION, is_foreign


@pytest.mark.parametrize("media_type", LAYER_COMPRESSION)
def test_layer_types_are_foreign_by_their_name(media_type: str) -> None:
    """Docker's foreign and OCI's non-distributable layers are, all others aren't."""
    assert is_foreign(media_type) == ("foreign" in media_type or "nondistributable" in media_type)


@pytest.mark.parametrize("media_type", ["", "application/octet-stream", "text/foreign"])
def test_other_types_are_not_foreign(media_type: str) -> None:
    """Only layers can be."""
    assert not is_foreign(media_type)
