"""A bare Debian 12 with git, make and python3, and what it must know to reach this machine's package sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
PACKAGES = ("git", "make", "python3")
MAX_AGE_S = 30 * 24 * 3600.0

_AUTHORITIES = "etc/host-authorities.crt"
_AUTHORITY_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_LOCAL_PATH = re.compile(r"(?:file://)?(/[^\s,:;'\"]+)")


@dataclass(frozen=True, slots=True)
class Carried:
    """What a root needs from this machine beside files: environment variables, and directories to show read-only."""

    variables: Mapping[str, str]
    directories: tuple[Path, ...]


def archive(cache: Path, *, renew: bool = False) -> Path:
    """Return the archive of the bare system from `cache`, made anew when missing, a month old or told to `renew`.

    Raises:
        subprocess.CalledProcessError: mmdebstrap failed; it has said why on stderr.
    """
    path = cache / f"bare-{SUITE}.tar"
    if not renew and path.exists() and time.time() - path.stat().st_mtime < MAX_AGE_S:
        return path
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.tar")
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command += ["--aptopt=APT::Install-Recommends false", SUITE, str(partial), *_debian_sources()]
    try:
        subprocess.run(command, check=True)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _debian_sources() -> list[str]:
    """Return this machine's own sources of Debian 12, one-line style; none when it has none, for mmdebstrap's default."""
    form = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    sources = []
    for line in shown.splitlines():
        origin, codename, uri, release, component = line.split("|")
        if origin == "Debian" and codename.startswith(SUITE):
            sources.append(f"deb {uri} {release} {component}")
    return sources if any(f" {SUITE} " in source for source in sources) else []


def unpack(source: Path, root: Path) -> None:
    """Unpack the archive into the new directory `root`."""
    root.mkdir()
    subprocess.run(
        ["tar", "--extract", "--numeric-owner", "--xattrs", "--file", source, "--directory", root], check=True
    )


def carry_over(root: Path) -> Carried:
    """Give `root` this machine's name resolution, certificate authorities, and settings of apt and pip."""
    resolver = Path("/run/systemd/resolve/resolv.conf")
    _copy(resolver if resolver.exists() else Path("/etc/resolv.conf"), root / "etc/resolv.conf")
    _copy(Path("/etc/hosts"), root / "etc/hosts")
    shown = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if re.match(r"Acquire::https?:", line)]
    (root / "etc/apt/apt.conf.d/90host").write_text("".join(f"{line}\n" for line in lines))
    for authority in Path("/usr/local/share/ca-certificates").glob("*.crt"):
        _copy(authority, root / "usr/local/share/ca-certificates" / authority.name)

    texts = []
    for source, target in _pip_files(Path.home()):
        _copy(source, root / target)
        texts.append(source.read_text(errors="replace"))
    variables = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or k in _PROXY_VARIABLES}
    texts += [v for k, v in variables.items() if k.startswith("PIP_")]
    bundle = next((os.environ[name] for name in _AUTHORITY_VARIABLES if name in os.environ), "")
    if bundle and Path(bundle).is_file():
        _copy(Path(bundle), root / _AUTHORITIES)
        variables |= dict.fromkeys(_AUTHORITY_VARIABLES, f"/{_AUTHORITIES}")
    return Carried(variables, _named_directories(texts, root))


def _pip_files(home: Path) -> list[tuple[Path, str]]:
    pairs = [(Path("/etc/pip.conf"), "etc/pip.conf"), (home / ".pip/pip.conf", "root/.pip/pip.conf")]
    pairs += [(path, f"etc/xdg/pip/{path.name}") for path in Path("/etc/xdg/pip").glob("*")]
    pairs += [(path, f"root/.config/pip/{path.name}") for path in (home / ".config/pip").glob("*")]
    return [(source, target) for source, target in pairs if source.is_file()]


def _named_directories(texts: list[str], root: Path) -> tuple[Path, ...]:
    """Return what to show of the wheels and indexes on this machine that pip's settings name.

    That is the highest directory that `root` lacks: an index links to files beside itself.
    """
    found: set[Path] = set()
    for path in (Path(match) for text in texts for match in _LOCAL_PATH.findall(text)):
        if path.is_dir():
            chain = [path, *path.parents]
            found.update(p for p in chain if not _in(root, p).exists() and _in(root, p.parent).exists())
    return tuple(sorted(found))


def _in(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
