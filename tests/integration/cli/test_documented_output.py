"""docs/output.md names every field that commands print as JSON, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from hythe.cli import image_show, images
from hythe.cli import snapshots as snapshot_commands
from hythe.cli import volumes as volume_list
from hythe.cli.filters_docker import LIST_KEYS
from hythe.wire import content, garbage, snapshots, volumes
from hythe.wire import images as wire
from hythe.wire.bundle import Mount
from hythe.wire.distribution import BlobPush, LayerProgress, PullProgress, PushProgress
from scripts.lab.stack import Stack
from tests.fakes.distribution_desk import DIGEST, ID, Distribution, descriptor, summary
from tests.integration.cli.conftest import Desk

PAGE = Path(__file__).resolve().parents[3] / "docs" / "output.md"


def _documented(heading: str) -> set[str]:
    """Return the names in backquotes in the section whose heading contains `heading`."""
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    section = next(text for text in sections if heading in text.splitlines()[0])
    return set(re.findall(r"`([A-Za-z_]+)`", section))


@pytest.mark.parametrize(
    ("heading", "arguments"),
    [
        ("hythe ps", ["ps", "-a"]),
        ("hythe ps", ["inspect", "documented"]),
        ("hythe run -d", ["run", "-d", "--rm", "IMAGE", "true"]),
        ("hythe images", ["images"]),
        ("hythe pull", ["pull", "IMAGE"]),
        ("hythe bundle ls", ["bundle", "ls"]),
        ("hythe bundle inspect", ["bundle", "inspect", "documented"]),
        ("hythe status", ["status"]),
        ("hythe events", ["events", "--since", "1h", "--no-follow"]),
        ("hythe events", ["events", "--from-seq", "1", "-A", "--no-follow"]),
        ("hythe ps --diff", ["ps", "--diff", "1h", "0s"]),
        ("hythe trace ls", ["trace", "ls"]),
        ("hythe trace show", ["trace", "show", "last"]),
        ("hythe doctor", ["doctor"]),
        ("hythe config", ["config"]),
        ("hythe config", ["version"]),
    ],
)
def test_every_field_that_is_printed_is_documented(
    stack: Stack, busybox: str, heading: str, arguments: list[str]
) -> None:
    """Who reads JSON Lines finds each field explained."""
    assert stack.hythe("run", "--name", "documented", busybox, "true").code == 0
    try:
        done = stack.hythe(*(busybox if word == "IMAGE" else word for word in ["--json", *arguments]))
        assert done.code == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert rows
        assert {name for row in rows for name in row} - _documented(heading) == set()
    finally:
        assert stack.hythe("rm", "-f", "documented").code == 0


def test_fields_of_past_containers_are_those_of_present_ones_and_what_is_said_of_them(
    stack: Stack, busybox: str
) -> None:
    """`ps --at` prints what `ps` prints, and the one field that its own section explains."""
    assert stack.hythe("run", "--name", "documented", busybox, "true").code == 0
    try:
        (row, *_) = map(json.loads, stack.hythe("--json", "ps", "-a", "--at", "0s").stdout.splitlines())
        (present, *_) = map(json.loads, stack.hythe("--json", "ps", "-a").stdout.splitlines())
        assert set(row) == {*present, "complete"}
        assert {"complete", "change", "before", "after"} <= _documented("hythe ps --at")
    finally:
        assert stack.hythe("rm", "-f", "documented").code == 0


def test_documented_fields_of_a_container_are_all_printed(stack: Stack, busybox: str) -> None:
    """The table of `ps` promises nothing that is not there."""
    assert stack.hythe("run", "--name", "documented", busybox, "true").code == 0
    try:
        row = json.loads(stack.hythe("inspect", "documented", "--json").stdout)
        section = PAGE.read_text().split("## hythe ps")[1].split("## ")[0]
        promised = {
            name
            for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", cell)
        }
        assert promised | {"spec"} == set(row)
    finally:
        assert stack.hythe("rm", "-f", "documented").code == 0


SUMMARY = summary("docker.io/library/busybox:1", labels={"k": "v"})
MANIFEST = wire.ManifestDetails(
    platform="linux/amd64",
    manifest=descriptor("a"),
    config=descriptor("b"),
    layers=[descriptor("c")],
    diff_ids=[DIGEST],
    size_bytes=1,
    present_bytes=1,
)
DETAILS = wire.ImageDetails(
    summary=SUMMARY, target=descriptor("a"), names=[], manifest=MANIFEST, config="{}", manifests=[MANIFEST]
)
CHECKED = wire.ImageCheckResult(
    reference="x", digest=DIGEST, complete=True, blobs=1, present_blobs=1, size_bytes=1, present_bytes=1
)
USED = wire.ImageUsageRow(references=[], digest=DIGEST, size_bytes=1, shared_bytes=1, unique_bytes=1, blobs=1)
REFERRER = wire.Referrer(digest=DIGEST, media_type="x", size_bytes=1)


@pytest.mark.parametrize(
    ("heading", "arguments", "kind", "answer"),
    [
        ("hythe images", ["images"], "image.list", wire.ImageSummaryPage(images=[SUMMARY])),
        ("hythe images", ["tag", "x", "y"], "image.tag", SUMMARY),
        ("hythe push", ["push", "x"], "image.push", [wire.ImagePushed(reference="x", digest=DIGEST)]),
        ("hythe rmi", ["rmi", "x"], "image.remove", wire.ImageRemoved(untagged=[], deleted=[])),
        (
            "hythe rmi",
            ["images", "prune", "-f"],
            "image.prune",
            wire.ImagePruned(untagged=[], deleted=[], reclaimable_bytes=0),
        ),
        ("hythe images inspect", ["images", "inspect", "x"], "image.inspect", DETAILS),
        (
            "hythe images history",
            ["images", "history", "x"],
            "image.history",
            wire.ImageSteps(id=ID, steps=[wire.ImageStep()]),
        ),
        ("hythe images check", ["images", "check"], "image.check", wire.ImageChecks(images=[CHECKED])),
        (
            "hythe images usage",
            ["images", "usage"],
            "image.usage",
            wire.ImageUsages(images=[USED], total_bytes=1, reclaimable_bytes=1, unreferenced_bytes=1),
        ),
        (
            "hythe images referrers",
            ["images", "referrers", "x"],
            "image.referrers",
            wire.ImageReferrerList(subject=DIGEST, referrers=[REFERRER]),
        ),
        (
            "hythe login",
            ["login", "-u", "me", "-p", "x"],
            "registry.login",
            wire.RegistryLoggedIn(host="x", kept_in="y"),
        ),
        ("hythe login", ["logout"], "registry.logout", wire.RegistryLoggedOut(host="x", removed=True)),
    ],
)
async def test_every_field_of_images_is_documented(
    desk: Desk,
    distribution: Distribution,
    heading: str,
    arguments: list[str],
    kind: str,
    answer: BaseModel | list[BaseModel],
) -> None:
    """Who reads what image commands print finds each field explained, also those inside of others."""
    distribution.answers[kind] = answer
    code, out, err = await desk.run(*arguments, "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows
    assert _names(rows) - {"k"} - _documented(heading) == set()


def _names(value: object) -> set[str]:
    """Return the names of all fields in a value, inner ones too."""
    if isinstance(value, dict):
        return set(value) | {name for inner in value.values() for name in _names(inner)}
    return {name for inner in value for name in _names(inner)} if isinstance(value, list) else set()


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("hythe images import", wire.ImageImported),
        ("Progress", LayerProgress),
        ("Progress", BlobPush),
        ("Progress", PullProgress),
        ("Progress", PushProgress),
        ("hythe volume ls", volumes.VolumeInfo),
        ("hythe volume prune", volumes.VolumesPruned),
        ("hythe content ls", content.ContentInfo),
        ("hythe content active", content.IngestState),
        ("hythe content check", content.ContentChecked),
        ("hythe content check", content.ContentFinding),
        ("hythe snapshot ls", snapshots.SnapshotInfo),
        ("hythe snapshot usage", snapshots.SnapshotUsage),
        ("hythe snapshot mounts", snapshots.SnapshotMounts),
        ("hythe snapshot mounts", Mount),
        ("hythe snapshot rm", snapshots.SnapshotCleaned),
        ("hythe gc", garbage.GcReport),
        ("hythe gc", garbage.GcItem),
        ("hythe gc", garbage.GcHostReport),
        ("hythe gc why", garbage.GcAnswer),
        ("hythe gc why", garbage.GcStep),
        ("hythe system df", garbage.Usage),
        ("hythe system df", garbage.UsageRow),
        ("hythe system df", garbage.UsageImage),
        ("hythe metadata graph", garbage.GraphNode),
        ("hythe metadata graph", garbage.GraphEdge),
    ],
)
def test_every_field_that_is_passed_on_is_documented(heading: str, model: type[BaseModel]) -> None:
    """What a service says is printed as it is, and explained."""
    assert set(model.model_fields) - _documented(heading) == set()


def test_every_field_of_a_template_is_documented() -> None:
    """The list of fields is the one that the commands know, no more and no less."""
    for command, headers in (
        ("hythe images", images.HEADERS),
        ("hythe images history", image_show.HISTORY_HEADERS),
        ("hythe volume ls", volume_list.HEADERS),
        ("hythe snapshot ls", snapshot_commands.HEADERS),
    ):
        (cells,) = re.findall(rf"^\| `{command}` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
        assert re.findall(r"`(\w+)`", cells) == list(headers)


def test_every_filter_is_documented() -> None:
    """The table has the keys that are known, no more and no less."""
    section = PAGE.read_text().split("## Filters of images")[1].split("## ")[0]
    keys = {key for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for key in re.findall(r"`(\w+)`", cell)}
    assert keys == set(LIST_KEYS)


def test_every_field_of_changes_and_commits_is_documented(stack: Stack, busybox: str) -> None:
    """Who reads what a container changed, or the image made of it, finds each field explained."""
    assert stack.hythe("run", "--name", "documented", busybox, "touch", "/x").code == 0
    try:
        for heading, arguments in (("hythe diff", ["diff"]), ("hythe commit", ["commit"])):
            names = ["documented", "local/documented"] if heading == "hythe commit" else ["documented"]
            done = stack.hythe("--json", *arguments, *names)
            assert done.code == 0, done.stderr
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            assert rows and _names(rows) - _documented(heading) == set()
    finally:
        assert stack.hythe("rm", "-f", "documented").code == 0
