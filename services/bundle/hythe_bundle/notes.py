"""What is written on a bundle beside its settings: the user's own words, and what the image says of itself."""

from __future__ import annotations

from hythe.errors import InvalidArgument
from hythe.oci import ImageConfig
from hythe_bundle.wishes import Wishes

STEERING = ("hythe.", "run.oci.", "org.systemd.property.")
"""Keys by which Hythe, crun and runc are steered, as root and beyond what a spec may say."""

MAX_TEXT = 1024
_IMAGE = "org.opencontainers.image."


def make(wishes: Wishes, config: ImageConfig) -> dict[str, str]:
    """Return ``annotations``. An image's labels are never among them: a stranger chose them (CVE-2026-53488).

    Raises:
        InvalidArgument: an empty key, a NUL character, or a key that steers the runtime.

    Spec: OCI image-spec, "Conversion to OCI Runtime Configuration", annotation fields.
    """
    of_image = {
        "os": config.platform.os,
        "architecture": config.platform.architecture,
        "author": config.author,
        "created": config.created,
        "stopSignal": config.stop_signal,
        "exposedPorts": ",".join(config.exposed_ports),
    }
    made = {_IMAGE + name: text[:MAX_TEXT] for name, text in of_image.items() if text and "\0" not in text}
    for key, text in wishes.annotations.items():
        if not key or "\0" in key + text:
            raise InvalidArgument(f"set annotation {key[:100]!r}: it has no name, or a NUL character")
        if key.startswith(STEERING):
            raise InvalidArgument(
                f"set annotation {key[:100]!r}: keys that begin with {', '.join(STEERING)} steer the runtime",
                next_step="choose another key, e.g. one that begins with a domain of yours",
            )
        made[key] = text
    return made
