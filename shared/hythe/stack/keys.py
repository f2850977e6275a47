"""The bus keys of a stack: one seed per process in ``<root>/keys``, made at the first start and kept."""

from __future__ import annotations

from pathlib import Path

from hythe import durable
from hythe.bus import nkey
from hythe.bus.permissions import ROLES


def ensure_keys(directory: Path) -> dict[str, str]:
    """Make the keys that are missing and return the public key of each by its name.

    The directory is 0700 and each seed 0600, also when somebody opened them up. Each new seed is durable.

    Raises:
        InvalidArgument: a file there holds no seed.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    public = {}
    for name in ROLES:
        path = directory / f"{name}.nk"
        if not path.exists():
            durable.write_atomic(path, f"{nkey.generate().seed}\n".encode())
        path.chmod(0o600)
        public[name] = nkey.load(str(path)).public
    return public
