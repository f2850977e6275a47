"""An App Container Image (rkt's) as an OCI image: what its manifest says, in the words of an image config."""

from __future__ import annotations

import json

from hythe.errors import InvalidArgument, Unimplemented
from hythe.labels import UNCOMPRESSED
from hythe.oci import Descriptor, Platform, default_platform
from hythe.oci.fields import Fields, load_object
from hythe.oci.media_types import OCI_CONFIG, OCI_MANIFEST
from hythe.oci.platform import normalised
from hythe.ports.content import Content
from hythe.reference import Reference, parse_reference
from hythe_distribution.archive.intake import Holdings, StoredBlob
from hythe_distribution.archive.rootfs import FinishedLayer
from hythe_distribution.archive.roots import Root
from hythe_distribution.documents import keep_document

MANIFEST_FILE = "manifest"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MAX_PORT = 65535


def is_aci(holdings: Holdings) -> bool:
    """Tell whether an archive has a ``manifest`` or a ``rootfs``, which no other form has."""
    return MANIFEST_FILE in holdings.documents or holdings.layer is not None


def aci_roots(holdings: Holdings, content: Content) -> tuple[Root, ...]:
    """Return the one image, named by name and label ``version``; its config and manifest are made and added to `holdings`.

    Isolators are left out: limits and capabilities are said when a container is made, not in an image. An image for no
    particular platform is one for this host's.

    Raises:
        InvalidArgument: there is no ``manifest``, no ``rootfs`` or something beside them, or the manifest is broken.
        Unimplemented: it has dependencies, a path whitelist, event handlers or a user told by a file: an OCI image
            cannot say so.
        HytheError: see `Content.open_ingest` and `Ingest.write`.

    Spec: App Container, "App Container Image".
    """
    if holdings.layer is None or set(holdings.documents) != {MANIFEST_FILE} or holdings.blobs or holdings.links:
        raise InvalidArgument("import archive: an ACI has a file manifest and a directory rootfs, and nothing else")
    fields = load_object(holdings.documents[MANIFEST_FILE], "ACI manifest")
    if fields.text("acKind") != "ImageManifest":
        raise fields.refuse("acKind", f"is {fields.text('acKind')[:50]!r}, not 'ImageManifest'")
    if fields.children("dependencies"):
        raise _unfit("dependencies")
    if fields.texts("pathWhitelist"):
        raise _unfit("a path whitelist")
    layer = holdings.layer.finished
    labels, annotations = _pairs(fields, "labels"), _pairs(fields, "annotations")
    config = _keep(holdings, content, _config(fields, labels, annotations, layer))
    manifest = _keep(
        holdings,
        content,
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": str(config.digest), "size": config.size_bytes},
            "layers": [{"mediaType": _LAYER, "digest": str(layer.digest), "size": layer.size_bytes}],
        },
    )
    holdings.blobs[f"blobs/sha256/{layer.digest.hex}"] = StoredBlob(layer.digest, layer.size_bytes)
    called = _name(fields.text("name"), labels.get("version", ""))
    return (
        Root(
            Descriptor(OCI_MANIFEST, manifest.digest, manifest.size_bytes),
            (called,) if called is not None else (),
            labels={layer.digest: {UNCOMPRESSED: str(layer.diff_id)}},
        ),
    )


def _config(
    fields: Fields, labels: dict[str, str], annotations: dict[str, str], layer: FinishedLayer
) -> dict[str, object]:
    platform = _platform(labels)
    config: dict[str, object] = {
        "architecture": platform.architecture,
        "os": platform.os,
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id)]},
    }
    if platform.variant:
        config["variant"] = platform.variant
    if created := annotations.get("created"):
        config["created"] = created
    if author := annotations.get("authors"):
        config["author"] = author
    said = {**annotations, **{name: value for name, value in labels.items() if name not in ("os", "arch")}}
    run: dict[str, object] = _app(fields.child("app")) if fields.has("app") else {}
    if said:
        run["Labels"] = said
    if run:
        config["config"] = run
    return config


def _app(app: Fields) -> dict[str, object]:
    if app.children("eventHandlers"):
        raise _unfit("event handlers")
    user, group, directory = app.text("user"), app.text("group"), app.text("workingDirectory")
    if user.startswith("/") or group.startswith("/"):
        raise _unfit("a user or group told by the owner of a file")
    environment = _pairs(app, "environment")
    if any("=" in name for name in environment):
        raise app.refuse("environment", "has a name with '=' in it")
    volumes = [mount.text("path") for mount in app.children("mountPoints")]
    for path in (*volumes, *((directory,) if directory else ())):
        if not path.startswith("/"):
            raise app.refuse("mountPoints or workingDirectory", f"{path[:100]!r} is not absolute")
    run: dict[str, object] = {
        "User": f"{user}:{group}" if user and group else user,
        "Entrypoint": list(app.texts("exec")),
        "WorkingDir": directory,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "ExposedPorts": {port: {} for port in _ports(app)},
        "Volumes": {path: {} for path in volumes},
    }
    return {key: value for key, value in run.items() if value}


def _ports(app: Fields) -> list[str]:
    found: list[str] = []
    for port in app.children("ports"):
        first, count = port.number("port", _MAX_PORT), port.number("count", _MAX_PORT) if port.has("count") else 1
        if first < 1 or first + count - 1 > _MAX_PORT:
            raise port.refuse("port and count", f"reach beyond 1 to {_MAX_PORT}")
        found += [f"{number}/{port.text('protocol') or 'tcp'}" for number in range(first, first + count)]
        if len(found) > _MAX_PORT:
            raise port.refuse("count", f"adds up to more than {_MAX_PORT} ports")
    return found


def _pairs(fields: Fields, name: str) -> dict[str, str]:
    """Return the list of name and value at `name` as a map."""
    found: dict[str, str] = {}
    for pair in fields.children(name):
        key = pair.text("name")
        if not key or key in found:
            raise fields.refuse(name, f"has the name {key[:100]!r} twice" if key else "has an item without a name")
        found[key] = pair.text("value")
    return found


def _platform(labels: dict[str, str]) -> Platform:
    here = default_platform()
    if "arch" not in labels:
        return Platform(labels.get("os", here.os), here.architecture, here.variant)
    return normalised(labels.get("os", here.os), labels["arch"])


def _name(name: str, version: str) -> Reference | None:
    """Return what an ACI is called, or None where that is no reference: appc allows characters that registries don't."""
    try:
        return parse_reference(f"{name}:{version}" if version else name)
    except InvalidArgument:
        return None


def _keep(holdings: Holdings, content: Content, value: dict[str, object]) -> StoredBlob:
    raw = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    digest = keep_document(content, raw)
    blob = holdings.blobs[f"blobs/sha256/{digest.hex}"] = StoredBlob(digest, len(raw))
    return blob


def _unfit(what: str) -> Unimplemented:
    return Unimplemented(
        f"import archive: the ACI has {what}, which an OCI image cannot say",
        next_step="render the image first (rkt image render), and import what comes out",
    )
