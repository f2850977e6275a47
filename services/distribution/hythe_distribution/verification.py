"""Whether an image may be brought at all: asked once it is known what its name means, before any layer is fetched."""

from __future__ import annotations

from typing import Protocol

from hythe import tracing
from hythe.oci import Descriptor
from hythe.reference import Reference


class ImageVerifier(Protocol):
    """Says whether an image may be brought."""

    async def judge(self, name: str, target: Descriptor) -> None:
        """Return if the image may be brought.

        Args:
            name: reference in full, as it was asked for.
            target: root manifest or index that it means now.

        Raises:
            PermissionDenied: it may not; `cause` has the reason.
            FailedPrecondition: nobody can tell, so it may not.
        """


async def verify_image(verifier: ImageVerifier | None, reference: Reference, target: Descriptor) -> None:
    """Return if `verifier` allows an image; without one, everything is allowed.

    Raises:
        PermissionDenied, FailedPrecondition: see `ImageVerifier.judge`.
    """
    if verifier is None:
        return
    with tracing.span("verify image", container__image__name=str(reference), oci__manifest__digest=str(target.digest)):
        await verifier.judge(str(reference), target)
