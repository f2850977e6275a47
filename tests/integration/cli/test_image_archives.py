"""`hythe images import` and `export`, `load` and `save`, against a made-up service that speaks HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hythe.errors import InvalidArgument, NotFound
from hythe.wire import images
from tests.fakes.archive_server import ArchiveServer
from tests.fakes.distribution_desk import DIGEST, ID, Distribution, summary
from tests.integration.cli.conftest import Desk

IMPORTED = images.ImageImported(
    format="oci",
    images=[summary("docker.io/library/busybox:1.36"), summary(f"hythe.invalid/x@{DIGEST}", dangling=True)],
    blobs=3,
    size_bytes=5,
)


@pytest.fixture
def server(distribution: Distribution) -> Iterator[ArchiveServer]:
    """Where the made-up service sends those who import and export."""
    made = ArchiveServer()
    made.answers = IMPORTED
    address = images.TransferAddress(url=made.url, lifetime_s=30)
    distribution.answers["image.import"] = address
    distribution.answers["image.export"] = address
    yield made
    made.close()


def _layout_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("blobs/sha256/" + "a" * 64, "index.json", "oci-layout"):
            entry = tarfile.TarInfo(name)
            entry.size = 2
            archive.addfile(entry, io.BytesIO(b"{}"))
    return out.getvalue()


def _files(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in (path / "layout").rglob("*") if found.is_file())


async def test_import_sends_a_file_and_prints_what_it_held(
    desk: Desk, distribution: Distribution, server: ArchiveServer, tmp_path: Path
) -> None:
    """An archive becomes images, whose names and digests are printed; the transfer is part of the trace."""
    (tmp_path / "a.tar").write_bytes(b"archive" * 100_000)
    code, out, err = await desk.run("images", "import", "--platform", "linux/arm64", str(tmp_path / "a.tar"), "x:1")
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"docker.io/library/busybox:1.36@{DIGEST}", f"hythe.invalid/x@{DIGEST}"]
    assert distribution.asked == [images.ImageImport(reference="x:1", platform="linux/arm64", all_platforms=False)]
    assert server.received == [b"archive" * 100_000]
    assert server.headers["traceparent"].startswith("00-")
    assert (await desk.run("images", "import", "-q", str(tmp_path / "a.tar")))[1] == f"{ID[7:19]}\n" * 2
    answer = json.loads((await desk.run("images", "import", "--json", str(tmp_path / "a.tar")))[1])
    assert answer == IMPORTED.model_dump(mode="json")


async def test_load_reads_stdin_and_speaks_as_docker_does(
    desk: Desk, distribution: Distribution, server: ArchiveServer
) -> None:
    """`docker save … | hythe load` works."""
    code, out, _ = await desk.run("load", stdin=b"archive")
    assert (code, out.splitlines()) == (0, ["Loaded image: busybox:1.36", f"Loaded image ID: {ID}"])
    assert server.received == [b"archive"]
    assert distribution.asked == [images.ImageImport()]


async def test_import_of_a_directory_sends_it_as_a_tar(
    desk: Desk, distribution: Distribution, server: ArchiveServer, tmp_path: Path
) -> None:
    """An OCI layout need not be packed first."""
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_text("{}")
    assert (await desk.run("images", "import", str(layout)))[0] == 0
    with tarfile.open(fileobj=io.BytesIO(server.received[0])) as archive:
        assert archive.getnames() == ["oci-layout"]


@pytest.mark.parametrize(("name", "code"), [("missing.tar", 3), ("directory", 2)])
async def test_import_of_what_is_no_archive_asks_no_service(
    desk: Desk, distribution: Distribution, server: ArchiveServer, tmp_path: Path, name: str, code: int
) -> None:
    """A wrong path is told before anything is sent."""
    (tmp_path / "directory").mkdir()
    found, _, err = await desk.run("images", "import", str(tmp_path / name))
    assert (found, name in err, distribution.asked) == (code, True, [])


async def test_archive_that_the_service_refuses_is_told_in_its_words(
    desk: Desk, distribution: Distribution, server: ArchiveServer
) -> None:
    """The reason and the exit code are the service's."""
    server.answers = InvalidArgument("import archive: no tar", next_step="name an archive")
    code, out, err = await desk.run("load", stdin=b"x")
    assert (code, out, "import archive: no tar" in err, "name an archive" in err) == (2, "", True, True)


async def test_export_writes_a_file_that_is_whole(
    desk: Desk, distribution: Distribution, server: ArchiveServer, tmp_path: Path
) -> None:
    """The archive is there under its name when the command ends, for its owner alone, and nothing else is."""
    server.gives = os.urandom(1_000_000)
    target = tmp_path / "out"
    target.mkdir()
    (target / "a.tar").write_bytes(b"old")
    code, out, err = await desk.run(
        "images", "export", "--type", "docker", "--all-platforms", "-o", str(target / "a.tar"), "busybox", "x"
    )
    assert (code, out, err) == (0, "", "")
    assert (target / "a.tar").read_bytes() == server.gives
    assert (target / "a.tar").stat().st_mode & 0o777 == 0o600
    assert [found.name for found in target.iterdir()] == ["a.tar"]
    assert distribution.asked == [
        images.ImageExport(images=["busybox", "x"], format="docker", all_platforms=True),
    ]


async def test_save_writes_to_stdout_when_no_file_is_named(
    desk: Desk, distribution: Distribution, server: ArchiveServer, tmp_path: Path
) -> None:
    """`hythe save busybox > a.tar` works as in Docker."""
    server.gives = b"archive"
    assert await desk.run("save", "busybox") == (0, "archive", "")


async def test_save_into_a_pipe_writes_to_it_and_leaves_it_a_pipe(
    desk: Desk, distribution: Distribution, server: ArchiveServer, tmp_path: Path
) -> None:
    """What is no file, such as /dev/null, is not replaced by one."""
    server.gives = b"archive"
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR)
    assert (await desk.run("save", "-o", str(path), "busybox"))[0] == 0
    assert os.read(reader, 100) == b"archive"
    os.close(reader)
    assert path.is_fifo()


async def test_save_to_a_terminal_is_refused(desk: Desk, distribution: Distribution, server: ArchiveServer) -> None:
    """Nobody wants an archive on the screen."""
    process, terminal = desk.start_on_terminal("save", "busybox")
    assert await asyncio.to_thread(process.wait, 10) == 6
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "stdout is a terminal" in shown
    assert distribution.asked == []


async def test_export_into_a_directory_writes_the_layout(
    desk: Desk, distribution: Distribution, server: ArchiveServer, tmp_path: Path
) -> None:
    """A name with / at its end, or a directory, gets the layout itself."""
    server.gives = _layout_tar()
    assert (await desk.run("images", "export", "-o", f"{tmp_path}/layout/", "busybox"))[0] == 0
    assert _files(tmp_path) == ["layout/blobs/sha256/" + "a" * 64, "layout/index.json", "layout/oci-layout"]


@pytest.mark.parametrize("output", ["a.tar", "layout/"])
async def test_export_that_breaks_off_leaves_no_file(
    desk: Desk, distribution: Distribution, server: ArchiveServer, tmp_path: Path, output: str
) -> None:
    """Half an archive is an error with a next step, and not a file."""
    server.gives, server.ending = _layout_tar(), "broken"
    target = tmp_path / "out"
    target.mkdir()
    code, _, err = await desk.run("images", "export", "-o", f"{target}/{output}", "busybox")
    assert (code, "broke before the end" in err, "next:  try again" in err) == (10, True, True)
    assert list(target.iterdir()) == []
    assert "t1cket" not in err


async def test_export_of_what_is_not_here_makes_no_file(
    desk: Desk, distribution: Distribution, server: ArchiveServer, tmp_path: Path
) -> None:
    """What cannot be exported leaves no empty file behind."""
    distribution.answers["image.export"] = NotFound("export no: there is no such image")
    assert (await desk.run("save", "-o", str(tmp_path / "a.tar"), "no"))[0] == 3
    assert not (tmp_path / "a.tar").exists()


async def test_export_into_a_missing_directory_says_so(
    desk: Desk, distribution: Distribution, server: ArchiveServer, tmp_path: Path
) -> None:
    """A mistyped path is told as such."""
    code, _, err = await desk.run("save", "-o", str(tmp_path / "no" / "a.tar"), "busybox")
    assert (code, "there is no such directory" in err) == (3, True)


async def test_interrupted_export_removes_what_it_wrote(
    desk: Desk, distribution: Distribution, server: ArchiveServer, tmp_path: Path
) -> None:
    """Ctrl-C leaves no partial file."""
    target = tmp_path / "out"
    target.mkdir()
    held = asyncio.Event()
    loop = asyncio.get_running_loop()
    interrupted = loop.create_future()

    def hold() -> None:
        loop.call_soon_threadsafe(held.set)
        asyncio.run_coroutine_threadsafe(asyncio.wait_for(asyncio.shield(interrupted), 20), loop).result()

    server.gives, server.on_chunk = b"a" * 600_000, hold
    process = desk.start("save", "-o", str(target / "a.tar"), "busybox")
    await asyncio.wait_for(held.wait(), 10)
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.to_thread(process.communicate, None, 10)
    interrupted.set_result(None)
    assert (process.returncode, err) == (130, b"cancelled; nothing of it is kept\n")
    assert list(target.iterdir()) == []
