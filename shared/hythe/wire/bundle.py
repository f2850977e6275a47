"""Requests to the bundle service of one host: operations ``image.unpack``, ``bundle.prepare``; plain ``bundle.release``."""

from __future__ import annotations

from hythe.wire.base import ContainerId, DigestText, Reply, Request
from hythe.wire.container import ContainerSpec, ImageRef


class Mount(Reply):
    """One mount(2) call, containerd's form: `target` is relative to the root file system, empty for its root."""

    type: str
    source: str
    target: str = ""
    options: list[str] = []


class ImageUnpack(Request):
    """``image.unpack`` (operation): unpack all layers of an image into snapshots, asking ``content.ensure`` for each.

    Progress: `hythe.wire.distribution.LayerProgress`. Result: `ImageUnpacked`.
    """

    image: ImageRef
    platform: str = ""
    plain_http: bool = False


class ImageUnpacked(Reply):
    """Result of an unpack: the chain id of the top layer and the digest of the platform's manifest."""

    chain_id: str
    manifest_digest: DigestText
    unpacked_layers: int = 0


class BundlePrepare(Request):
    """``bundle.prepare`` (operation): make an active snapshot and the bundle of a container, unpacking first if needed.

    The request id is `id`; repeating it answers the same bundle.
    """

    id: ContainerId
    name: str
    image: ImageRef
    spec: ContainerSpec
    cgroup_path: str
    plain_http: bool = False


class BundlePrepared(Reply):
    """A bundle on disk: a directory with ``config.json``, ``mounts.json`` and the full record; `mounts` make its rootfs."""

    path: str
    rootfs: str
    mounts: list[Mount]
    args: list[str]
    stop_signal: str


class BundleRelease(Request):
    """``bundle.release``: the agent has unmounted and will not use the bundle again; remove it and its snapshot.

    Repeating it changes nothing. FailedPrecondition while something is mounted in it.
    """

    id: ContainerId
