"""`hythe images import` and `export`, `hythe load` and `save`: images from and into archives and directories."""

from __future__ import annotations

import os
import sys

from hythe.cli import archive_file, exits, output
from hythe.cli.image_words import DANGLING, familiar, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterable, Iterator
    from typing import Any

    from hythe.cli.context import Context
    from hythe.client.root_span import CommandSpan

ADDRESS_S = 30.0
STDIO = "-"


def import_images_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images import`."""
    parser.description = (
        "Read images from an archive (OCI, docker, ACI; also compressed), an OCI layout or a directory of skopeo's. Prints "
        "REFERENCE@DIGEST of each."
    )
    parser.epilog = "example:\n  skopeo copy docker://busybox oci:layout && hythe images import layout/ busybox:mine"
    add = parser.add_argument
    add("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="take the image for this platform alone")
    add("-q", "--quiet", action="store_true", help="only ids, and no progress")
    add("path", metavar="PATH", help="file or directory; - for stdin")
    add("reference", metavar="REFERENCE", nargs="?", default="", help="name for an image whose archive has none")


def import_images(context: Context) -> int:
    """Import images."""
    args = context.args
    answer = _import(context, args.path, args.reference)
    if context.as_json:
        output.json_line(answer)
    else:
        for row in answer["images"]:
            whole = f"{row['reference'].partition('@')[0]}@{row['digest']}"
            print(output.visible(short_id(row["id"] or row["digest"]) if args.quiet else whole))
    return exits.OK


def load_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe load`."""
    parser.description = "Read images from an archive that `hythe save` or `docker save` wrote, from stdin by default."
    add = parser.add_argument
    add("-i", "--input", default=STDIO, metavar="FILE", help="in place of stdin")
    add("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="take the image for this platform alone")
    add("-q", "--quiet", action="store_true", help="show no progress")


def load(context: Context) -> int:
    """Load images."""
    answer = _import(context, context.args.input, "")
    if context.as_json:
        output.json_line(answer)
    else:
        for row in answer["images"]:
            unnamed = row["reference"].startswith(DANGLING)
            name = f"image ID: {row['id'] or row['digest']}" if unnamed else f"image: {familiar(row['reference'])}"
            print(output.visible(f"Loaded {name}"))
    return exits.OK


def _import(context: Context, path: str, reference: str) -> dict[str, Any]:
    """Send an archive to the distribution service and return its answer (`hythe.wire.images.ImageImported`)."""
    from hythe.client.transfer import upload  # http.client takes 10 ms

    platform = context.args.platform
    chunks, total_bytes = _source(path)
    body = {"reference": reference, "platform": platform, "all_platforms": not platform}
    address = context.bus.call(context.subject("distribution", "image", "import"), body, timeout_s=ADDRESS_S)
    with _Transfer(context, "POST", "send archive", "`hythe images` shows what is registered") as transfer:
        counted = archive_file.counted(chunks, "Sending", total_bytes, quiet=context.args.quiet)
        return upload(address["url"], counted, transfer.headers)


def _source(path: str) -> tuple[Iterator[bytes], int]:
    """Return an archive piece by piece, and how many bytes it has; 0 where nobody knows."""
    if path == STDIO:
        return archive_file.read_stdin(), 0
    if os.path.isdir(path):  # noqa: PTH112 (no pathlib here)
        from hythe.cli.archive_directory import pack  # tarfile is not for those who have an archive already

        return pack(path), 0
    return archive_file.read_file(path)


def export_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images export`."""
    parser.description = (
        "Write images into an archive: an OCI layout that Docker reads as well. A directory, existing or with / at the end of "
        "its name, gets the layout itself."
    )
    parser.epilog = (
        "examples:\n  hythe images export -o images.tar busybox alpine\n  hythe images export -o layout/ busybox\n"
        "  hythe images export -o - busybox | ssh other hythe images import -"
    )
    parser.add_argument("-o", "--output", required=True, metavar="PATH", help="file or directory; - for stdout")
    _export_arguments(parser)


def save_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe save`."""
    parser.description = "Write images into an archive that `hythe load` and `docker load` read, to stdout by default."
    parser.add_argument("-o", "--output", default=STDIO, metavar="FILE", help="in place of stdout")
    _export_arguments(parser)


def _export_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--type", choices=("oci", "docker"), default="oci", help="form of the archive; docker is Docker's old one alone"
    )
    add("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="instead of the host's own")
    add("--all-platforms", action="store_true", help="the images for every platform")
    add("-q", "--quiet", action="store_true", help="show no progress")
    add("images", metavar="IMAGE", nargs="+", help="reference or id")


def export(context: Context) -> int:
    """Export images."""
    from hythe.client.transfer import download  # http.client takes 10 ms

    args = context.args
    if args.output == STDIO:
        archive_file.check_stdout()
    body = {
        "images": args.images,
        "format": args.type,
        "platform": args.platform,
        "all_platforms": args.all_platforms,
    }
    address = context.bus.call(context.subject("distribution", "image", "export"), body, timeout_s=ADDRESS_S)
    with _Transfer(context, "GET", "fetch archive", "nothing of it is kept") as transfer:
        chunks = download(address["url"], transfer.headers)
        _write(archive_file.counted(chunks, "Writing", quiet=args.quiet), args.output)
    return exits.OK


def save(context: Context) -> int:
    """Save images."""
    return export(context)


def _write(chunks: Iterable[bytes], path: str) -> None:
    if path == STDIO:
        archive_file.write_stdout(chunks)
    elif path.endswith("/") or os.path.isdir(path):  # noqa: PTH112 (no pathlib here)
        from hythe.cli.archive_directory import unpack  # tarfile is not for those who want an archive

        unpack(chunks, path)
    else:
        archive_file.write_file(chunks, path)


class _Transfer:
    """The span of one transfer, and the headers that make it the parent of what the service does; says so when cancelled."""

    def __init__(self, context: Context, method: str, name: str, when_cancelled: str) -> None:
        self.headers: dict[str, str] = {}
        self._when_cancelled = when_cancelled
        self._span: CommandSpan | None = None
        trace = context.trace
        if trace is not None:
            self._span = trace.begin_request(name, "")
            self._span.attributes = {"http.request.method": method}
            self.headers = trace.headers(self._span)

    def __enter__(self) -> _Transfer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from hythe.errors import HytheError

        if self._span is not None:
            self._span.end(error if isinstance(error, HytheError) else None)
        if kind is KeyboardInterrupt:
            print(f"cancelled; {self._when_cancelled}", file=sys.stderr)
