"""What a trace shows of imports and exports."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hythe import tracing
from hythe.telemetry import Telemetry
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.archive.exportable import ExportOptions
from hythe_distribution.archive.exporting import export_archive
from hythe_distribution.archive.importing import ImportOptions, import_archive
from tests.fakes.archives import docker_archive, tar_of
from tests.unit.distribution.test_archive_import import an_image


@pytest.fixture
def telemetry(monkeypatch: pytest.MonkeyPatch) -> Telemetry:
    """The tracing of a process that is flushed by hand; the backend that was installed before comes back."""
    monkeypatch.setattr(tracing, "_backend", tracing._backend)
    return Telemetry("distribution", "h1")


async def test_import_and_export_are_spans_below_their_callers(telemetry: Telemetry) -> None:
    """A trace shows form, blobs and size of an import, and an export as one span, though many threads took its chunks."""
    published: list[dict[str, Any]] = []

    async def publish(subject: str, data: bytes) -> None:
        published.extend(json.loads(data)["spans"])

    content = MemoryContent()
    with tracing.span("serve"):
        imported = import_archive(io.BytesIO(tar_of(docker_archive((an_image(), ["app:1"])))), content, ImportOptions())
        chunks = export_archive([(None, imported.images[0].target)], content, ExportOptions())
    done = False
    while not done:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(next, chunks, None).result() is None

    await telemetry.outbox.flush(publish)
    spans = {span["name"]: span for span in published}
    assert set(spans) == {"serve", "import archive", "export archive"}
    assert {span["parent_span_id"] for name, span in spans.items() if name != "serve"} == {spans["serve"]["span_id"]}
    assert spans["import archive"]["attributes"] == {
        "archive.format": "docker",
        "archive.blobs": 4,
        "archive.size_bytes": imported.size_bytes,
    }
    assert spans["export archive"]["attributes"] == {"archive.images": 1, "archive.files": 9}
