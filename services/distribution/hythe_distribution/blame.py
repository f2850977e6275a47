"""Whose fault it is: errors about what a registry gave name the image, and say what can be done about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hythe.errors import DataLoss, InvalidArgument, NotFound

BROKEN = "it is broken where it is kept: have it pushed again, or take another tag"
OTHER_BYTES = "the registry, or a mirror or proxy before it, is at fault: try another, or have the image pushed again"

_NEXT_STEPS = {InvalidArgument: BROKEN, DataLoss: OTHER_BYTES}


@contextmanager
def naming(step: str) -> Iterator[None]:
    """Run a block that reads what a registry gave.

    Args:
        step: what is being done, with the image's name; put before errors that don't begin with its first word.

    Raises:
        InvalidArgument, DataLoss, NotFound: as the block raised them, with their image and a next step.
        HytheError: as the block raised it.
    """
    try:
        yield
    except (InvalidArgument, DataLoss, NotFound) as error:
        told = error.message.startswith(f"{step.partition(' ')[0]} ")
        ours = error.details.get("kind") == "disk"
        raise type(error)(
            error.message if told else f"{step}: {error.message}",
            phase=error.phase,
            host=error.host,
            cause=error.cause,
            outcome=error.outcome,
            next_step=error.next_step or ("" if ours else _NEXT_STEPS.get(type(error), "")),
            details=error.details,
        ) from error
