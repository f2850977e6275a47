"""`hythe images check`, `usage` and `referrers`: whether images are whole, what room they take, what is said about them."""

from __future__ import annotations

from hythe.cli import exits, output
from hythe.cli.image_words import familiar, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context

USAGE_S = 30.0


def check_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images check`."""
    parser.description = (
        f"Look whether all content of images is here. Ends with {exits.UNHEALTHY} if some is missing or corrupt."
    )
    add = parser.add_argument
    add("--verify", action="store_true", help="read every byte and compare it with its digest")
    add("--no-trunc", action="store_true", help="show whole digests")
    add("-q", "--quiet", action="store_true", help="only references of images that are not whole")
    add("images", metavar="IMAGE", nargs="*", help="reference or id; all images of the namespace by default")


def check(context: Context) -> int:
    """Check images."""
    args = context.args
    body = {"images": args.images, "verify": args.verify}
    rows = context.operate("distribution", "image", "check", body)["images"]
    if args.quiet:
        for row in rows:
            if not _is_whole(row):
                print(output.visible(familiar(row["reference"])))
    elif context.as_json:
        for row in rows:
            output.json_line(row)
    else:
        output.table(
            ("IMAGE", "DIGEST", "PLATFORM", "STATUS", "SIZE"),
            [
                (
                    familiar(row["reference"]),
                    short_id(row["digest"], whole=args.no_trunc),
                    row["platform"],
                    _status(row),
                    f"{output.size(row['present_bytes'])}/{output.size(row['size_bytes'])}",
                )
                for row in rows
            ],
        )
    return exits.OK if all(map(_is_whole, rows)) else exits.UNHEALTHY


def _is_whole(row: dict[str, Any]) -> bool:
    return row["complete"] and not row["corrupt"]


def _status(row: dict[str, Any]) -> str:
    counts = f"({row['present_blobs']}/{row['blobs']})"
    if row["corrupt"]:
        return f"corrupt ({len(row['corrupt'])})" + ("" if row["complete"] else f", incomplete {counts}")
    return f"complete {counts}" if row["complete"] else f"incomplete {counts}"


def usage_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images usage`."""
    parser.description = "Show how many bytes of content each image takes: UNIQUE belong to no other image, SHARED do."
    parser.add_argument("--no-trunc", action="store_true", help="show whole ids")


def usage(context: Context) -> int:
    """Show what room images take."""
    answer = context.bus.call(context.subject("distribution", "image", "usage"), {}, timeout_s=USAGE_S)
    if context.as_json:
        output.json_line(answer)
        return exits.OK
    output.table(
        ("IMAGE ID", "SIZE", "SHARED", "UNIQUE", "BLOBS", "CONTAINERS", "NAMES"),
        [
            (
                short_id(row["id"] or row["digest"], whole=context.args.no_trunc),
                output.size(row["size_bytes"]),
                output.size(row["shared_bytes"]),
                output.size(row["unique_bytes"]),
                str(row["blobs"]),
                str(row["containers"]),
                ", ".join(map(familiar, row["references"])),
            )
            for row in answer["images"]
        ],
    )
    total, free, lost = (
        output.size(answer[name]) for name in ("total_bytes", "reclaimable_bytes", "unreferenced_bytes")
    )
    print(f"\ntotal {total}; {free} could be reclaimed (`hythe images prune -a`); {lost} belong to no image")
    return exits.OK


def referrers_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images referrers`."""
    parser.description = "List what a registry has about an image: signatures, SBOMs, attestations."
    add = parser.add_argument
    add("--artifact-type", default="", metavar="TYPE", help="only these, e.g. application/spdx+json")
    add("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="about the image for this platform")
    add("--plain-http", action="store_true", help="speak HTTP without TLS to the registry")
    add("-q", "--quiet", action="store_true", help="only digests")
    add("reference", metavar="IMAGE")


def referrers(context: Context) -> int:
    """List referrers."""
    args = context.args
    body = {
        "reference": args.reference,
        "artifact_type": args.artifact_type,
        "platform": args.platform,
        "plain_http": args.plain_http,
    }
    answer = context.operate("distribution", "image", "referrers", body)
    rows = answer["referrers"]
    if args.quiet:
        for row in rows:
            print(output.visible(row["digest"]))
    elif context.as_json:
        for row in rows:
            output.json_line({"subject": answer["subject"], **row})
    else:
        output.table(
            ("DIGEST", "ARTIFACT TYPE", "SIZE"),
            [
                (row["digest"], row["artifact_type"] or row["media_type"], output.size(row["size_bytes"]))
                for row in rows
            ],
        )
    return exits.OK
