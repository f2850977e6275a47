"""`hythe images inspect`, `history`, `check`, `usage` and `referrers`: Docker's shapes and words."""

from __future__ import annotations

import json

import pytest

from hythe.errors import NotFound
from hythe.wire import images
from tests.fakes.distribution_desk import DIGEST, ID, Distribution, descriptor, summary
from tests.integration.cli.conftest import Desk


def _details(config: str) -> images.ImageDetails:
    manifest = images.ManifestDetails(
        platform="linux/amd64",
        manifest=descriptor("a"),
        config=descriptor("b"),
        layers=[descriptor("c", 100)],
        diff_ids=["sha256:" + "9" * 64],
        size_bytes=110,
        present_bytes=10,
        missing=["sha256:" + "c" * 64],
    )
    return images.ImageDetails(
        summary=summary("docker.io/library/busybox:1.36"),
        target=descriptor("d"),
        names=["docker.io/library/busybox:1.36", f"docker.io/library/busybox@{DIGEST}"],
        manifest=manifest,
        config=config,
        manifests=[manifest],
    )


async def test_inspect_shows_dockers_shape(desk: Desk, distribution: Distribution) -> None:
    """Scripts written for `docker image inspect` find the fields they look for; what is missing is said beside."""
    config = {"os": "linux", "architecture": "amd64", "config": {"Env": ["A=1"], "Labels": {"k": "v"}, "Cmd": None}}
    distribution.answers["image.inspect"] = _details(json.dumps(config))
    code, out, _ = await desk.run("images", "inspect", "busybox")
    (found,) = json.loads(out)
    assert code == 0
    assert (found["Id"], found["RepoTags"], found["RepoDigests"]) == (ID, ["busybox:1.36"], [f"busybox@{DIGEST}"])
    assert (found["Os"], found["Architecture"], found["Size"]) == ("linux", "amd64", 2_000_000)
    assert (found["Config"]["Env"], found["Config"]["Cmd"], found["Config"]["User"]) == (["A=1"], [], "")
    assert found["RootFS"] == {"Type": "layers", "Layers": ["sha256:" + "9" * 64]}
    assert found["Manifests"][0]["Missing"] == ["sha256:" + "c" * 64]
    text = "{{.Id}} {{.Config.Env}} {{json .Config.Labels}} {{.Config.Labels.none}}"
    out = (await desk.run("image", "inspect", "--format", text, "busybox"))[1]
    assert out == f'{ID} [A=1] {{"k":"v"}} <no value>\n'
    code, _, err = await desk.run("images", "inspect", "--format", "{{.Config.Nope}}", "busybox")
    assert (code, ".Config.Env" in err) == (2, True)


@pytest.mark.parametrize("config", ["", "no json", "[]", "[" * 5000, '{"config": 5}', '{"a":' * 60 + "1" + "}" * 60])
async def test_inspect_of_an_image_with_a_hostile_config_still_shows_the_rest(
    desk: Desk, distribution: Distribution, config: str
) -> None:
    """An image says in its config what it likes; what is known without it is shown."""
    distribution.answers["image.inspect"] = _details(config)
    code, out, err = await desk.run("images", "inspect", "busybox")
    assert (code, err) == (0, "")
    assert json.loads(out)[0]["Config"]["Env"] == []


async def test_inspect_shows_what_it_finds_and_ends_with_what_it_does_not(
    desk: Desk, distribution: Distribution
) -> None:
    """The array has the images that exist; the exit code is that of the one that does not."""
    distribution.answers["image.inspect"] = lambda request: (
        _details("") if request.image == "busybox" else NotFound(f"find image {request.image}: there is none")
    )
    code, out, err = await desk.run("images", "inspect", "no1", "busybox", "no2")
    assert (code, len(json.loads(out))) == (3, 1)
    assert "find image no1" in err and "find image no2" in err


async def test_history_shows_steps_as_docker_does(desk: Desk, distribution: Distribution) -> None:
    """The newest step has the image's id; commands are cut, unless whole ones are asked for."""
    steps = [
        images.ImageStep(
            created_at="2026-01-02T03:04:05Z", created_by="CMD " + "x" * 60, empty_layer=True, comment="c"
        ),
        images.ImageStep(
            created_at="2026-01-01T03:04:05Z", created_by="ADD\trootfs", size_bytes=2_000_000, layer=DIGEST
        ),
    ]
    distribution.answers["image.history"] = images.ImageSteps(id=ID, steps=steps)
    code, out, _ = await desk.run("images", "history", "busybox")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert lines[1].startswith("1234567890ab ") and "CMD " + "x" * 40 + "…" in lines[1] and lines[1].endswith(" c")
    assert lines[2].startswith("<missing> ") and "ADD rootfs" in lines[2] and lines[2].endswith("2.0 MB")
    assert (await desk.run("images", "history", "-q", "busybox"))[1] == "1234567890ab\n"
    text = "{{.CreatedSince}} {{.Size}} {{.CreatedBy}}"
    out = (await desk.run("images", "history", "--human=false", "--no-trunc", "--format", text, "busybox"))[1]
    assert out.splitlines()[0] == "2026-01-02T03:04:05Z 0 CMD " + "x" * 60


async def test_check_ends_with_12_when_something_is_missing(desk: Desk, distribution: Distribution) -> None:
    """A script learns from the exit code that an image is not whole, a person from the counts."""
    whole = images.ImageCheckResult(
        reference="docker.io/library/busybox:1.36",
        digest=DIGEST,
        platform="linux/amd64",
        complete=True,
        blobs=3,
        present_blobs=3,
        size_bytes=2_000_000,
        present_bytes=2_000_000,
    )
    part = whole.model_copy(update={"complete": False, "present_blobs": 1, "present_bytes": 1000, "missing": [DIGEST]})
    bad = whole.model_copy(update={"corrupt": [DIGEST], "reference": "r.example/bad:1"})
    distribution.answers["image.check"] = images.ImageChecks(images=[whole])
    code, out, _ = await desk.run("images", "check")
    assert (code, out.splitlines()[1].split()[3:]) == (0, ["complete", "(3/3)", "2.0", "MB/2.0", "MB"])
    distribution.answers["image.check"] = images.ImageChecks(images=[whole, part, bad])
    code, out, _ = await desk.run("images", "check", "--verify", "busybox", "x")
    assert code == 12
    assert "incomplete (1/3)" in out and "1.0 kB/2.0 MB" in out and "corrupt (1)" in out
    assert distribution.asked[-1] == images.ImageCheck(images=["busybox", "x"], verify=True)
    code, out, _ = await desk.run("images", "check", "-q")
    assert (code, out) == (12, "busybox:1.36\nr.example/bad:1\n")


async def test_usage_shows_each_image_and_the_whole(desk: Desk, distribution: Distribution) -> None:
    """What would be gained is told per image and in all."""
    row = images.ImageUsageRow(
        references=["docker.io/library/busybox:1.36", "docker.io/library/busybox:latest"],
        digest=DIGEST,
        id=ID,
        size_bytes=3000,
        shared_bytes=1000,
        unique_bytes=2000,
        blobs=3,
        containers=1,
    )
    answer = images.ImageUsages(images=[row], total_bytes=3000, reclaimable_bytes=2000, unreferenced_bytes=5)
    distribution.answers["image.usage"] = answer
    out = (await desk.run("images", "usage"))[1].splitlines()
    assert out[1].split() == [
        *("1234567890ab", "3.0", "kB", "1.0", "kB", "2.0", "kB", "3", "1", "busybox:1.36,", "busybox:latest"),
    ]
    assert out[-1].startswith("total 3.0 kB; 2.0 kB could be reclaimed")
    assert json.loads((await desk.run("images", "usage", "--json"))[1]) == answer.model_dump(mode="json")


async def test_referrers_are_listed_with_their_type(desk: Desk, distribution: Distribution) -> None:
    """What a registry says about an image is shown for people, scripts and programs."""
    found = images.Referrer(
        digest=DIGEST, media_type="application/vnd.oci.image.manifest.v1+json", artifact_type="x/sbom", size_bytes=1000
    )
    distribution.answers["image.referrers"] = images.ImageReferrerList(subject=ID, referrers=[found])
    out = (await desk.run("images", "referrers", "--artifact-type", "x/sbom", "busybox"))[1]
    assert out.splitlines()[1].split() == [DIGEST, "x/sbom", "1.0", "kB"]
    assert distribution.asked[0].artifact_type == "x/sbom"
    assert (await desk.run("images", "referrers", "-q", "busybox"))[1] == f"{DIGEST}\n"
    assert json.loads((await desk.run("images", "referrers", "--json", "busybox"))[1])["subject"] == ID
