"""Debian packages as layers: which packages a layer needs over those below it, and their files in one archive.

No script of a package is run: what they would make (users, alternatives) is not there.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from scripts.lab.images import Layer

_MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")


class PackagesFailed(Exception):
    """apt or dpkg refused; the message has what it said."""


def chosen(wanted: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the packages of each layer: what was wanted, and of what it needs all that no layer below has.

    Packages are the names of their archives, which have the version: the same names mean the same files. What is
    installed on this machine has no say, recommendations are left out.

    Args:
        wanted: the names or apt patterns that each layer is made for, by the layer's name, from the bottom up.

    Raises:
        PackagesFailed: a package is unknown to this machine's sources, or cannot be had with the others.
    """
    resolved: list[list[str]] = []
    names: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hythe-apt-") as directory:
        for more in wanted.values():
            names += more
            resolved.append(archive_names(_apt(Path(directory), "--print-uris", *names)))
    return dict(zip(wanted, split(resolved), strict=True))


def archive_names(printed: str) -> list[str]:
    """Return the names of package archives from what ``apt-get --print-uris`` printed, in its order."""
    return [line.split()[1] for line in printed.splitlines() if line.startswith("'")]


def split(resolved: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Return what each layer adds, given what all layers up to it need together: each of the last once, where it is first.

    What only a lower layer would need by itself is in none: with all layers apt chose another for it.
    """
    left = set(resolved[-1])
    added = []
    for names in resolved:
        own = sorted(left.intersection(names))
        left.difference_update(own)
        added.append(tuple(own))
    return added


def download(names: Iterable[str], directory: Path) -> None:
    """Download packages, given by the names of their archives, into `directory`, each with the digest that apt knows.

    Raises:
        PackagesFailed: one cannot be had.
    """
    exact = []
    for name in names:
        package, version, _ = name.split("_")
        exact.append(f"{package}={unquote(version)}")
    _run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *exact], cwd=directory)


def layer(archives: Iterable[Path], *, base: bool) -> Layer:
    """Return the files of packages as one layer, below a merged /usr; a `base` has the links of that, ``/bin`` and the like.

    Raises:
        PackagesFailed: an archive is none.
    """
    made, seen = Layer(), set[str]()
    if base:
        for name in _MERGED:
            made.directory(f"usr/{name}")
            made.symlink(name, f"usr/{name}")
            seen.update((name, f"usr/{name}"))
    for archive in archives:
        done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], capture_output=True, check=False)
        if done.returncode != 0:
            raise PackagesFailed(f"unpack {archive.name}: {done.stderr.decode(errors='replace').strip()}")
        _add(made, seen, done.stdout)
    return made


def _add(made: Layer, seen: set[str], files: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(files)) as tar:
        for entry in tar:
            entry.name = merged(entry.name)
            if entry.islnk():
                entry.linkname = merged(entry.linkname)
            if entry.name in seen or entry.name == ".":
                continue
            seen.add(entry.name)
            content = tar.extractfile(entry) if entry.isreg() else None
            made.raw(entry, content.read() if content else b"")


def merged(name: str) -> str:
    """Return where the file of a package lies in a system whose ``/bin``, ``/lib`` and the like are links into ``/usr``."""
    path = PurePosixPath(name)
    return str("usr" / path) if path.parts[:1] and path.parts[0] in _MERGED else str(path)


def _apt(directory: Path, *arguments: str) -> str:
    """Run ``apt-get install`` as if nothing was installed and nothing downloaded, with its own state below `directory`."""
    archives, status = directory / "archives", directory / "status"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    status.touch()
    options = {
        "Dir::State::status": status,
        "Dir::Cache::archives": archives,
        "Dir::Cache::pkgcache": directory / "pkgcache.bin",
        "Dir::Cache::srcpkgcache": directory / "srcpkgcache.bin",
    }
    command = ["apt-get", "install", "-qq", "--no-install-recommends"]
    return _run([*command, *(f"-o{name}={value}" for name, value in options.items()), *arguments])


def _run(command: Sequence[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PackagesFailed(f"{' '.join(command[:2])}: apt-get update may help\n{done.stdout}{done.stderr}")
    return done.stdout
