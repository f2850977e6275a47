"""`hythe images` against a made-up distribution service: what it lists, for whom, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from hythe.wire import images
from tests.fakes.distribution_desk import DIGEST, ID, Distribution, summary
from tests.integration.cli.conftest import Desk

BUSYBOX = summary("docker.io/library/busybox:1.36")
TEAM = summary(
    "localhost:5000/team/app:latest",
    id="sha256:" + "7" * 64,
    digest="sha256:" + "e" * 64,
    image_created_at="2026-03-01T00:00:00Z",
    labels={"tier": "web", "team": "a"},
    complete=False,
)
DANGLING = summary(
    f"hythe.invalid/dangling@{'sha256:' + 'f' * 64}",
    id="",
    digest="sha256:" + "f" * 64,
    dangling=True,
    size_bytes=None,
    image_created_at="",
)
ALIAS = summary("docker.io/library/busybox:latest")


@pytest.fixture(autouse=True)
def listing(distribution: Distribution) -> None:
    """Four names of three images."""
    distribution.answers["image.list"] = images.ImageSummaryPage(images=[BUSYBOX, ALIAS, DANGLING, TEAM])


async def test_images_lists_as_docker_does_the_youngest_first(desk: Desk, distribution: Distribution) -> None:
    """Docker's columns and short names; what is dangling has no name, what is not whole says so."""
    code, out, err = await desk.run("images")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["localhost:5000/team/app", "latest", "7" * 12],
        ["busybox", "1.36", "1234567890ab"],
        ["busybox", "latest", "1234567890ab"],
        ["<none>", "<none>", "f" * 12],
    ]
    assert lines[1].endswith("2.0 MB (incomplete)")
    assert " ago " in lines[2]
    assert "N/A" in lines[4]


async def test_images_follows_pages_to_the_end(desk: Desk, distribution: Distribution) -> None:
    """A namespace with more images than fit into one message is listed in full."""

    def page(request: images.ImageList) -> images.ImageSummaryPage:
        number = int(request.after or 0)
        name = f"docker.io/library/x:{number}"
        return images.ImageSummaryPage(images=[summary(name)], next=str(number + 1) if number < 3 else "")

    distribution.answers["image.list"] = page
    assert (await desk.run("images", "--format", "{{.Tag}}"))[1].split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["-q"], ["7" * 12, "1234567890ab", "f" * 12]),
        (["-q", "--no-trunc"], ["sha256:" + "7" * 64, ID, "sha256:" + "f" * 64]),
        (["-q", "busybox"], ["1234567890ab"]),
        (["ls", "-q", "--filter", "dangling=true"], ["f" * 12]),
        (["-q", "--filter", "label=tier=web", "--filter", "label=team"], ["7" * 12]),
        (["-q", "--filter", "since=busybox:1.36"], ["7" * 12]),
        (["-q", "--filter", "before=" + "7" * 6], ["1234567890ab"]),
        (["--format", "{{.Repository}}:{{.Tag}} {{json .ID}}", "busybox"],
         ['busybox:1.36 "1234567890ab"', 'busybox:latest "1234567890ab"']),
    ],
)  # fmt: skip
async def test_images_shows_what_is_asked_for(
    desk: Desk, distribution: Distribution, arguments: list[str], shown: list[str]
) -> None:
    """Scripts get ids, each once, or what their template says; filters choose the images."""
    code, out, err = await desk.run("images", *arguments)
    assert (code, out.splitlines(), err) == (0, shown, "")


async def test_images_for_programs_are_the_summaries(desk: Desk, distribution: Distribution) -> None:
    """JSON Lines hold everything that is known, in lower snake case."""
    rows = [json.loads(line) for line in (await desk.run("images", "--json"))[1].splitlines()]
    assert rows[0] == TEAM.model_dump(mode="json")
    assert len(rows) == 4


async def test_images_with_digests_and_a_table_of_ones_own(desk: Desk, distribution: Distribution) -> None:
    """`--digests` adds a column; `table` takes any columns, with Docker's headers."""
    out = (await desk.run("images", "--digests"))[1].splitlines()
    assert out[0].split() == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]
    assert out[2].split()[2] == DIGEST
    out = (await desk.run("images", "--format", r"table {{.ID}}\t{{.Tag}}"))[1].splitlines()
    assert out[0] == "IMAGE ID       TAG"
    assert out[2] == "1234567890ab   1.36"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--filter", "size=1"], "before, dangling, label, reference, since, until"),
        (["--filter", "dangling"], "dangling=VALUE"),
        (["--format", "{{.Nope}}"], ".Repository"),
        (["--format", "x {{upper .ID}}"], "column 3"),
        (["--format", "jsn"], "neither json nor table"),
    ],
)
async def test_images_refuses_what_it_does_not_know_and_says_what_it_does(
    desk: Desk, distribution: Distribution, arguments: list[str], word: str
) -> None:
    """A filter, field or template that does not exist is wrong use, and the answer lists what there is."""
    code, out, err = await desk.run("images", *arguments)
    assert (code, out, word in err) == (2, "", True), err


async def test_word_that_is_no_command_and_no_image_gets_a_hint(desk: Desk, distribution: Distribution) -> None:
    """Who mistypes a command of `images` learns that it was taken for a name."""
    code, out, err = await desk.run("images", "prun")
    assert (code, len(out.splitlines())) == (0, 1)
    assert "no image matches 'prun'" in err


async def test_hostile_names_reach_the_terminal_escaped(desk: Desk, distribution: Distribution) -> None:
    """What images and services say of themselves cannot steer the terminal."""
    row = summary("docker.io/library/x:1", platform="\x1b[2J\x9b2J", labels={"a": "\x9b1m"})
    distribution.answers["image.list"] = images.ImageSummaryPage(images=[row])
    for arguments in (["--format", "{{.Platform}}"], ["--format", "{{json .Platform}}"], ["--json"]):
        out = (await desk.run("images", *arguments))[1]
        assert not {"\x1b", "\x9b"} & set(out), arguments


async def test_empty_list_says_on_a_terminal_where_it_looked(desk: Desk, distribution: Distribution) -> None:
    """Who looks into the wrong namespace sees it at once."""
    distribution.answers["image.list"] = images.ImageSummaryPage(images=[])
    process, terminal = desk.start_on_terminal("images", "-n", "other")
    assert await asyncio.to_thread(process.wait, 10) == 0
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "no images in namespace other" in shown
