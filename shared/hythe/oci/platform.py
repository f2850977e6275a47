"""Which of an image's platforms runs here: names, aliases, and the order in which variants are preferred."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from hythe.errors import InvalidArgument, NotFound

MAX_PART_CHARACTERS = 100
_PART = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
}
_BASE_VARIANT = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
_VARIANTS = {"amd64": ("v4", "v3", "v2", "v1"), "arm": ("v8", "v7", "v6", "v5")}
_ALSO_RUNS = {"amd64": "386", "arm64": "arm"}


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and processor as images name them. Equal platforms are spelt alike once made by `normalised`.

    Attributes:
        os: Go's name, e.g. ``linux``.
        architecture: Go's name, e.g. ``amd64``, ``arm64``; empty where a document does not say.
        variant: e.g. ``v7`` for arm; empty for the baseline of amd64 and arm64.
        os_version: Windows build; not used for matching.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def matches(self, other: Platform) -> bool:
        """Whether both mean the same system and processor."""
        return (self.os, self.architecture, self.variant) == (other.os, other.architecture, other.variant)

    def runs_on(self, wanted: Platform) -> bool:
        """Whether what is made for this platform runs on `wanted`; see `preference`."""
        return any(self.matches(platform) for platform in preference(wanted))


def normalised(os_name: str, architecture: str, variant: str = "", os_version: str = "") -> Platform:
    """Return the platform with aliases replaced (``x86_64`` is ``amd64``) and the baseline variant left out.

    ``arm`` keeps its variant; ``arm`` without a variant is ``arm/v7``, as in containerd.

    Raises:
        InvalidArgument: a part is longer than 100 characters: platforms stand in lists, logs and errors.
    """
    for part in (os_name, architecture, variant, os_version):
        if len(part) > MAX_PART_CHARACTERS:
            raise InvalidArgument(f"read platform {part[:20]!r}…: more than {MAX_PART_CHARACTERS} characters")
    architecture = architecture.lower()
    if architecture in _ARCHITECTURES:
        architecture, implied = _ARCHITECTURES[architecture]
        variant = variant or implied
    variant = variant.lower()
    if variant.isdigit():
        variant = f"v{variant}"
    if architecture == "arm":
        variant = variant or _BASE_VARIANT["arm"]
    elif variant == _BASE_VARIANT.get(architecture):
        variant = ""
    return Platform("darwin" if os_name.lower() == "macos" else os_name.lower(), architecture, variant, os_version)


def parse_platform(text: str) -> Platform:
    """Return the platform that `text` spells: ``os/architecture[/variant]``.

    Raises:
        InvalidArgument: fewer than two or more than three parts, or a part with other characters than ``A-Za-z0-9_.-``.
    """
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidArgument(
            f"parse platform {text[:100]!r}: expected os/architecture[/variant]", next_step="write e.g. linux/arm64"
        )
    return normalised(*parts)


def default_platform() -> Platform:
    """Return the platform of this host, from uname."""
    uname = os.uname()
    return normalised(uname.sysname, uname.machine)


def require_runs(step: str, found: Platform, wanted: Platform) -> None:
    """Return if an image whose config says `found` runs on `wanted`; one that says nothing is believed to.

    Raises:
        NotFound: it doesn't (details ``kind=platform``).
    """
    if found.architecture and not found.runs_on(wanted):
        raise NotFound(
            f"{step}: the image is for {found}, not for {wanted}",
            next_step=f"choose --platform {found}, or an image for {wanted}",
            details={"kind": "platform"},
        )


def preference(wanted: Platform) -> tuple[Platform, ...]:
    """Return all platforms that run on `wanted`, the best first, as containerd orders them.

    A processor runs its own variant and lower ones; amd64 also runs 386, and arm64 also runs arm.
    """
    return (*_own_variants(wanted), *_own_variants_of_relative(wanted))


def _own_variants(wanted: Platform) -> tuple[Platform, ...]:
    own = normalised(wanted.os, wanted.architecture, wanted.variant)
    known = _VARIANTS.get(own.architecture, ())
    variant = own.variant or _BASE_VARIANT.get(own.architecture, "")
    if variant not in known:
        return (own,)
    return tuple(normalised(own.os, own.architecture, lower) for lower in known[known.index(variant) :])


def _own_variants_of_relative(wanted: Platform) -> tuple[Platform, ...]:
    relative = _ALSO_RUNS.get(wanted.architecture)
    if relative is None:
        return ()
    return _own_variants(Platform(wanted.os, relative, "v8" if relative == "arm" else ""))
