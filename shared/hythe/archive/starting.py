"""How a worker is started that reads what strangers made: by Python alone, without site packages and without a setting."""

from __future__ import annotations

import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

_START = "import sys; sys.path[:0] = sys.argv[1].split(':'); from {} import run; run(sys.argv[2:])"


def worker_command(module: str, packages: Iterable[ModuleType], beside: Iterable[Path] = ()) -> tuple[str, ...]:
    """Return the command that calls the function ``run`` of `module`; its arguments follow.

    Args:
        packages: those that the worker may import.
        beside: directories of others.
    """
    own = {str(Path(next(iter(package.__path__))).parent) for package in packages}
    paths = sorted({*own, *map(str, beside)})
    return (sys.executable, "-I", "-S", "-c", _START.format(module), ":".join(paths))
