"""`hythe images inspect` and `history`: what is known about an image, in Docker's shape."""

from __future__ import annotations

import json
import time

from hythe.cli import exits, output
from hythe.cli.each import tried
from hythe.cli.image_words import DANGLING, short_id, split_name
from hythe.cli.templates import FreeMap, show, show_objects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Mapping
    from typing import Any

    from hythe.cli.context import Context

HISTORY_HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
HISTORY_COLUMNS = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
CREATED_BY_LETTERS = 45
MAX_DEPTH = 50
FREE_MAPS = ("Labels", "ExposedPorts", "Volumes")
CONFIG: dict[str, Any] = {
    "User": "",
    "ExposedPorts": {},
    "Env": [],
    "Entrypoint": [],
    "Cmd": [],
    "Volumes": {},
    "WorkingDir": "",
    "Labels": {},
    "StopSignal": "",
}
"""The fields that `Config` always has; an image may say more."""


def inspect_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images inspect`."""
    parser.description = "Show everything known about images, as a JSON array in Docker's shape."
    parser.epilog = "example:\n  hythe images inspect --format '{{.Os}}/{{.Architecture}} {{json .Config.Env}}' busybox"
    parser.add_argument("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="instead of the host's own")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="reference or id")


def inspect(context: Context) -> int:
    """Show all images that can be shown; then the first error is raised."""
    args = context.args
    found: list[dict[str, Any]] = []

    def show(image: str) -> None:
        body = {"image": image, "platform": args.platform}
        found.append(docker_object(context.bus.call(context.subject("distribution", "image", "inspect"), body)))

    first = tried(args.images, show)
    if context.as_json:
        for one in found:
            output.json_line(one)
    elif args.format != "table":
        show_objects(args.format, found)
    else:
        print(output.json_text(found, indent=4))
    if first is not None:
        raise first
    return exits.OK


def docker_object(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return an image in the shape of ``docker image inspect``, with `Manifests` beside; fields in docs/output.md.

    Args:
        details: `hythe.wire.images.ImageDetails`. Its config comes from the image and may hold anything.
    """
    summary, manifest, target = details["summary"], details["manifest"] or {}, details["target"]
    document = _document(details["config"])
    os_name, _, rest = str(summary["platform"]).partition("/")
    architecture, _, variant = rest.partition("/")
    names = [split_name(name) for name in details["names"] if not name.startswith(DANGLING)]
    return {
        "Id": summary["id"] or summary["digest"],
        "RepoTags": [f"{repository}:{tag}" for repository, tag, _ in names if tag],
        "RepoDigests": sorted({f"{repository}@{target['digest']}" for repository, _, _ in names}),
        "Created": summary["image_created_at"],
        "Author": document.get("author", ""),
        "Os": document.get("os", os_name),
        "Architecture": document.get("architecture", architecture),
        "Variant": document.get("variant", variant),
        "Size": summary["size_bytes"],
        "Config": _config(document.get("config")),
        "RootFS": {"Type": "layers", "Layers": manifest.get("diff_ids", [])},
        "Metadata": {"LastTagTime": summary["updated_at"]},
        "Descriptor": _descriptor(target),
        "Complete": summary["complete"],
        "Manifests": [
            {
                "Platform": one["platform"],
                "Descriptor": _descriptor(one["manifest"]),
                "ConfigDigest": one["config"]["digest"],
                "Layers": [_descriptor(layer) for layer in one["layers"]],
                "Size": one["size_bytes"],
                "PresentSize": one["present_bytes"],
                "Missing": one["missing"],
            }
            for one in details["manifests"]
        ],
    }


def _document(text: str) -> dict[str, Any]:
    """Return the image config; empty where it is not here or no object: an image says in it what it likes."""
    try:
        document = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) and _is_shallow(document, MAX_DEPTH) else {}


def _is_shallow(value: object, levels: int) -> bool:
    """Tell whether `value` nests no deeper than `levels`, so that it can be written again."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inner)


def _config(given: object) -> dict[str, Any]:
    config = {**CONFIG, **(given if isinstance(given, dict) else {})}
    config = {key: CONFIG[key] if value is None and key in CONFIG else value for key, value in config.items()}
    return {
        key: FreeMap(value) if key in FREE_MAPS and isinstance(value, dict) else value for key, value in config.items()
    }


def _descriptor(wire: Mapping[str, Any]) -> dict[str, Any]:
    return {"mediaType": wire["media_type"], "digest": wire["digest"], "size": wire["size_bytes"]}


def history_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images history`."""
    parser.description = "Show how an image was made, the newest step first. SIZE is that of the compressed layer."
    add = parser.add_argument
    add("-H", "--human", "--human=true", dest="human", action="store_true", default=True,
        help="sizes and times for people (the default)")  # fmt: skip
    add("--no-human", "--human=false", dest="human", action="store_false", help="sizes in bytes, times in RFC 3339")
    add("--no-trunc", action="store_true", help="show whole ids and commands")
    add("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="instead of the host's own")
    add("-q", "--quiet", action="store_true", help="only the image's id")
    add("image", metavar="IMAGE", help="reference or id")


def history(context: Context) -> int:
    """Show the steps of an image."""
    args = context.args
    body = {"image": args.image, "platform": args.platform}
    answer = context.bus.call(context.subject("distribution", "image", "history"), body)
    steps = answer["steps"]
    if args.quiet:
        print(output.visible(short_id(answer["id"], whole=args.no_trunc)))
    elif context.as_json:
        for step in steps:
            output.json_line(step)
    else:
        now = time.time()
        rows = [
            _step(
                step,
                short_id(answer["id"], whole=args.no_trunc) if at == 0 else "<missing>",
                now,
                args.no_trunc,
                args.human,
            )
            for at, step in enumerate(steps)
        ]
        if args.format == "table":
            output.table(
                [HISTORY_HEADERS[name] for name in HISTORY_COLUMNS],
                [[row[name] for name in HISTORY_COLUMNS] for row in rows],
            )
        else:
            show(args.format, rows, HISTORY_HEADERS)
    return exits.OK


def _step(step: Mapping[str, Any], image_id: str, now_s: float, whole: bool, human: bool) -> dict[str, str]:
    created_by = step["created_by"].replace("\t", " ")
    if not whole and len(created_by) > CREATED_BY_LETTERS:
        created_by = created_by[: CREATED_BY_LETTERS - 1] + "…"
    return {
        "ID": image_id,
        "CreatedSince": output.age(step["created_at"], now_s) if human else step["created_at"],
        "CreatedAt": step["created_at"],
        "CreatedBy": created_by,
        "Size": output.size(step["size_bytes"]) if human else str(step["size_bytes"]),
        "Comment": step["comment"],
    }
