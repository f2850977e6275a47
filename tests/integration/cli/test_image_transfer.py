"""`hythe pull`, `push` and `images copy` against made-up services: what they ask, show and print."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

from nats.aio.msg import Msg

from hythe.wire import distribution as wire
from hythe.wire import images
from tests.fakes.distribution_desk import DIGEST, Distribution, descriptor
from tests.fixtures.secured_bus import Responder
from tests.fixtures.waiting import eventually_async
from tests.integration.cli.conftest import Desk


async def test_push_shows_blobs_and_prints_reference_and_digest(desk: Desk, distribution: Distribution) -> None:
    """stdout is for scripts; stderr has one line for each change of a blob."""
    blob: dict[str, Any] = {"digest": "sha256:" + "b" * 64, "done_bytes": 5, "total_bytes": 10}
    states: list[Any] = ["checking", "pushing", "pushed"]
    distribution.answers["image.push"] = [
        *(wire.PushProgress(blob=wire.BlobPush(state=state, **blob)) for state in states),
        wire.PushProgress(blob=wire.BlobPush(digest=DIGEST, state="exists", total_bytes=7)),
        images.ImagePushed(reference="localhost:5000/x:1", digest=DIGEST, sent_bytes=10),
    ]
    code, out, err = await desk.run("push", "--plain-http", "--referrers", "busybox", "localhost:5000/x:1")
    assert (code, out) == (0, f"localhost:5000/x:1@{DIGEST}\n")
    assert err.splitlines() == [
        "bbbbbbbbbbbb: Checking",
        "bbbbbbbbbbbb: Pushing 10 B",
        "bbbbbbbbbbbb: Pushed 10 B",
        "dddddddddddd: Already there",
    ]
    assert distribution.asked[0] == images.ImagePush(
        image="busybox", target="localhost:5000/x:1", plain_http=True, referrers=True
    )


async def test_progress_as_json_is_the_message_with_its_time(desk: Desk, distribution: Distribution) -> None:
    """Programs read progress from stderr, one object a line, and the result from stdout."""
    blob = wire.PushProgress(blob=wire.BlobPush(digest=DIGEST, state="pushing", done_bytes=1, total_bytes=2))
    pushed = images.ImagePushed(reference="r.example/x:1", digest=DIGEST)
    distribution.answers["image.copy"] = [blob, pushed]
    code, out, err = await desk.run(
        "images", "copy", "--json", "--progress", "json", "--plain-http", "a.example/x", "r.example/x:1"
    )
    line = json.loads(err)
    assert (code, json.loads(out)) == (0, pushed.model_dump(mode="json"))
    assert {"blob": line["blob"]} == blob.model_dump(mode="json")
    assert line["time"].endswith("Z")
    asked = distribution.asked[0]
    assert (asked.source, asked.target) == ("a.example/x", "r.example/x:1")
    assert asked.source_plain_http and asked.target_plain_http


async def test_every_flag_of_pull_reaches_the_request(desk: Desk, distribution: Distribution) -> None:
    """What the user says is what the service is asked."""
    image = wire.ImageResolved(
        reference="docker.io/library/x:1",
        target=descriptor("a"),
        manifest=descriptor("b"),
        config=descriptor("c"),
        layers=[],
        platform="linux/arm64",
    )
    distribution.answers["image.pull"] = [wire.ImagePulled(image=image, fetched_bytes=3, platforms=["linux/arm64"])]
    flags = ["--platform", "linux/arm64", "--all-platforms", "--no-unpack", "--plain-http", "--foreign-layers", "fetch"]
    code, out, err = await desk.run("images", "pull", *flags, "--referrers", "--progress", "quiet", "--json", "x:1")
    assert (code, err) == (0, "")
    assert json.loads(out)["platforms"] == ["linux/arm64"]
    asked = distribution.asked[0]
    assert (asked.reference, asked.platform, asked.foreign_layers) == ("x:1", "linux/arm64", "fetch")
    assert (asked.all_platforms, asked.unpack, asked.plain_http, asked.referrers) == (True, False, True, True)


async def test_interrupted_pull_says_what_is_kept(desk: Desk) -> None:
    """Ctrl-C ends a pull with 130 and leaves the terminal in order."""
    begun = asyncio.Event()

    async def answer(message: Msg, service: Responder) -> None:
        await service.say(message.reply, "accepted", {})
        layer = wire.LayerProgress(digest=DIGEST, state="fetching", done_bytes=1, total_bytes=2)
        await service.say(message.reply, "progress", wire.PullProgress(layer=layer).model_dump(mode="json"))
        begun.set()

    await desk.serve("runtime", answer)
    terminal, inside = os.openpty()
    process = desk.start("pull", "x", stderr=inside)
    os.close(inside)
    await asyncio.wait_for(begun.wait(), 10)
    shown = b""

    async def drawn() -> bool:
        nonlocal shown
        shown += await asyncio.to_thread(os.read, terminal, 1 << 16)
        return b"Fetching" in shown

    await eventually_async(drawn)
    process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(process.wait, 10) == 130
    shown += os.read(terminal, 1 << 16)
    os.close(terminal)
    assert "cancelled; what was fetched is kept for the next pull" in shown.decode()
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") > 0
