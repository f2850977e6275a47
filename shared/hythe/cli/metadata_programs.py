"""Programs of the metadata service that a command runs on its host: what they say, and their errors."""

from __future__ import annotations

import json
import subprocess
import sys

from hythe.client.problem import decode
from hythe.errors import FailedPrecondition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def said_by(
    module: str, arguments: Sequence[str], step: str, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a module of `hythe_metadata` and return the JSON object that ends its output.

    Args:
        step: what it does to the store, for messages.
        environment: all that it gets; by default this command's own.

    Raises:
        FailedPrecondition: hythe-metadata isn't installed here.
        HytheError: what it said.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = (done.stderr if done.returncode else done.stdout).strip().rpartition("\n")[2]
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(said)
        return found
    if said.startswith("{"):
        raise decode(said.encode())
    raise FailedPrecondition(
        f"{step} metadata store: hythe-metadata can't be run here",
        cause=said,
        next_step="run this on the host of hythe-metadata, where its package is installed",
    )
