"""How image names and ids are written for people; `hythe.reference` has the rules, and costs more to import than a listing."""

from __future__ import annotations

NONE = "<none>"
DANGLING = "hythe.invalid/"
"""How the name of an image begins that no name of its user's points to."""
_DOCKER = "docker.io/"
_LIBRARY = "docker.io/library/"


def split_name(reference: str) -> tuple[str, str, str]:
    """Return repository, tag and digest of a normalised reference; the repository as people write it.

    `docker.io/library/busybox:1` is ``("busybox", "1", "")``. What the reference does not have is empty.
    """
    rest, _, digest = reference.partition("@")
    above, slash, last = rest.rpartition("/")
    name, _, tag = last.partition(":")
    return _familiar(f"{above}{slash}{name}"), tag, digest


def familiar(reference: str) -> str:
    """Return a normalised reference as people write it, without ``docker.io/library/``; ``<none>`` for a dangling image."""
    rest, at, digest = reference.partition("@")
    above, slash, last = rest.rpartition("/")
    name, colon, tag = last.partition(":")
    return f"{_familiar(f'{above}{slash}{name}')}{colon}{tag}{at}{digest}"


def spellings(reference: str) -> tuple[str, str, str, str]:
    """Return what people may call the image of a normalised reference: short and whole, each with and without its tag."""
    whole_name = reference.partition("@")[0]
    if whole_name.rpartition("/")[2].count(":"):
        whole_name = whole_name.rpartition(":")[0]
    return familiar(reference), split_name(reference)[0], reference, whole_name


def _familiar(repository: str) -> str:
    if repository.startswith(DANGLING):
        return NONE
    official = repository.removeprefix(_LIBRARY)
    if official != repository and "/" not in official:
        return official
    short = repository.removeprefix(_DOCKER)
    return repository if _is_host(short.partition("/")[0]) else short


def _is_host(first: str) -> bool:
    return first == "localhost" or first != first.lower() or "." in first or ":" in first


def short_id(digest: str, *, whole: bool = False) -> str:
    """Return an id as listings show it: 12 digits, or with `whole` all of it."""
    return digest if whole else digest.partition(":")[2][:12]
