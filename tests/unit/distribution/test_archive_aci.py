"""App Container Images, as rkt had them, become OCI images whose layer is their rootfs."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable

import pytest

from hythe.digest import digest_of
from hythe.errors import InvalidArgument, Unimplemented
from hythe.oci import ImageConfig, Manifest, default_platform, parse_config, parse_document
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.archive.importing import Imported, ImportOptions, import_archive
from scripts.lab.images import Layer
from tests.fakes.archives import aci, aci_manifest, tar_of
from tests.fakes.tars import entry, sealed

ROOTFS = Layer().directory("rootfs").directory("rootfs/bin").file("rootfs/bin/worker", b"#!/bin/sh\n", mode=0o755)


class Taken:
    """An ACI that was imported into a store of its own."""

    def __init__(self, archive: bytes) -> None:
        self.content = MemoryContent()
        self.imported: Imported = import_archive(io.BytesIO(archive), self.content, ImportOptions())
        self.target = self.imported.images[0].target

    @property
    def manifest(self) -> Manifest:
        """The manifest that was made."""
        document = parse_document(b"".join(self.content.read(self.target.digest)), self.target.media_type)
        assert isinstance(document, Manifest)
        return document

    @property
    def config(self) -> ImageConfig:
        """The config that was made."""
        return parse_config(b"".join(self.content.read(self.manifest.config.digest)))

    @property
    def layer(self) -> bytes:
        """The uncompressed layer."""
        return gzip.decompress(b"".join(self.content.read(self.manifest.layers[0].digest)))

    @property
    def entries(self) -> dict[str, tarfile.TarInfo]:
        """The entries of the layer by name."""
        with tarfile.open(fileobj=io.BytesIO(self.layer)) as opened:
            return {entry.name: entry for entry in opened}


@pytest.mark.parametrize("manifest_first", [True, False])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_aci_becomes_an_image_of_one_layer(compress: Callable[[bytes], bytes], manifest_first: bool) -> None:
    """An ACI, however compressed and in whatever order, is an OCI image with its rootfs as a gzip layer."""
    taken = Taken(compress(aci(aci_manifest(), ROOTFS, manifest_first=manifest_first)))
    assert taken.imported.format == "aci"
    assert str(taken.imported.images[0].reference) == "example.com/worker:latest"
    assert set(taken.entries) == {"bin", "bin/worker"}
    assert taken.config.diff_ids == (digest_of(taken.layer),)
    layer = taken.manifest.layers[0]
    assert layer.media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
    labels = {publication.digest: publication.labels for publication in taken.imported.publications}
    assert labels[layer.digest] == {"containerd.io/uncompressed": str(digest_of(taken.layer))}
    assert labels[taken.target.digest]["containerd.io/gc.ref.content.l.0"] == str(layer.digest)
    assert taken.imported.blobs == 3


def test_same_aci_gives_the_same_digest() -> None:
    """Importing an ACI again, from whatever compression, gives the very same image."""
    archive = aci(aci_manifest(), ROOTFS)
    assert Taken(archive).target == Taken(gzip.compress(archive)).target


def test_entries_keep_everything_but_their_place() -> None:
    """Owners, modes, times, extended attributes, links, devices and names of any kind and length arrive unchanged."""
    long = "d" * 90 + "/" + "f" * 150
    rootfs = (
        Layer()
        .file("rootfs/owned", b"x", mode=0o4750, uid=3_000_000, gid=7, mtime_s=1_700_000_000, xattrs={"user.k": "v"})
        .symlink("rootfs/absolute", "/rootfs/owned")
        .symlink("rootfs/relative", "../owned")
        .hardlink("rootfs/second", "rootfs/owned")
        .device("rootfs/null", "char", 1, 3, mode=0o666)
        .fifo("rootfs/pipe")
        .file(f"rootfs/{long}", b"y" * 513)
        .file("rootfs/ümlaut", b"")
    )
    entries = Taken(aci(aci_manifest(), rootfs)).entries
    owned = entries["owned"]
    assert (owned.mode, owned.uid, owned.gid, owned.mtime, owned.size) == (0o4750, 3_000_000, 7, 1_700_000_000, 1)
    assert owned.pax_headers["SCHILY.xattr.user.k"] == "v"
    assert (entries["absolute"].linkname, entries["relative"].linkname) == ("/rootfs/owned", "../owned")
    assert entries["second"].islnk() and entries["second"].linkname == "owned"
    assert (entries["null"].ischr(), entries["null"].devmajor, entries["null"].devminor) == (True, 1, 3)
    assert entries["pipe"].isfifo()
    assert entries[long].size == 513
    assert "ümlaut" in entries


def test_headers_of_every_tar_are_understood() -> None:
    """GNU's long names and link targets, v7's directories, and times before 1970 are read as the tools mean them."""
    long, manifest = "l" * 200, aci_manifest()
    blocks = [
        entry(f"rootfs/{long}").tobuf(tarfile.GNU_FORMAT),
        entry("rootfs/s", tarfile.SYMTYPE, linkname=f"/{long}").tobuf(tarfile.GNU_FORMAT),
        entry("rootfs/t", tarfile.SYMTYPE, linkname=f"/{long}").tobuf(tarfile.PAX_FORMAT),
        entry("rootfs/old", mtime=-1).tobuf(tarfile.GNU_FORMAT),
        entry("rootfs/earlier", pax_headers={"mtime": "-1.5"}).tobuf(tarfile.PAX_FORMAT),
        entry("rootfs/v7/", tarfile.AREGTYPE).tobuf(tarfile.USTAR_FORMAT),
        entry("manifest", size=len(manifest)).tobuf(tarfile.USTAR_FORMAT),
    ]
    taken = Taken(b"".join(blocks) + manifest.ljust(512, b"\0") + bytes(1024))
    entries = taken.entries
    assert entries["s"].linkname == entries["t"].linkname == f"/{long}"
    assert (entries["old"].mtime, entries["earlier"].mtime) == (0, 0)
    assert entries["v7"].isdir() and long in entries


def test_times_below_a_second_are_kept() -> None:
    """A time with nanoseconds, as pax writes it, arrives as precise as it was."""
    entry = tarfile.TarInfo("rootfs/a")
    entry.pax_headers = {"mtime": "1700000000.123456789"}
    assert Taken(aci(aci_manifest(), Layer().raw(entry))).entries["a"].pax_headers["mtime"] == "1700000000.123456789"


def test_app_of_an_aci_is_what_a_container_runs() -> None:
    """Program, user, directory, environment, ports, mount points, labels and annotations become the image's config."""
    app = {
        "exec": ["/bin/worker", "--quiet"],
        "user": "100",
        "group": "300",
        "workingDirectory": "/opt/work",
        "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "=2"}],
        "mountPoints": [{"name": "work", "path": "/var/lib/work", "readOnly": False}],
        "ports": [
            {"name": "a", "port": 4000, "protocol": "tcp"},
            {"name": "b", "port": 9, "protocol": "udp", "count": 2},
        ],
        "isolators": [{"name": "resource/memory", "value": {"limit": "2G"}}],
    }
    labels = [
        {"name": "version", "value": "1.0.0"},
        {"name": "os", "value": "linux"},
        {"name": "arch", "value": "armv7l"},
    ]
    annotations = [
        {"name": "created", "value": "2014-10-27T19:32:27Z"},
        {"name": "authors", "value": "A. Uthor"},
    ]
    taken = Taken(aci(aci_manifest(app=app, labels=labels, annotations=annotations), ROOTFS))
    config = taken.config
    assert str(taken.imported.images[0].reference) == "example.com/worker:1.0.0"
    assert (str(config.platform), config.created) == ("linux/arm/v7", "2014-10-27T19:32:27Z")
    assert (config.entrypoint, config.cmd) == (("/bin/worker", "--quiet"), ())
    assert (config.user, config.working_dir, config.env) == ("100:300", "/opt/work", ("A=1", "B==2"))
    assert (config.volumes, set(config.exposed_ports)) == (("/var/lib/work",), {"4000/tcp", "9/udp", "10/udp"})
    assert json.loads(config.raw)["author"] == "A. Uthor"
    assert config.labels == {"version": "1.0.0", "created": "2014-10-27T19:32:27Z", "authors": "A. Uthor"}


def test_aci_for_no_particular_platform_is_one_for_this_host() -> None:
    """An image that doesn't say where it runs is taken to run here; a name that registries don't take names nothing."""
    taken = Taken(aci(aci_manifest(name="example.com/with~tilde"), Layer().directory("rootfs")))
    assert taken.config.platform == default_platform()
    assert taken.imported.images[0].reference is None
    assert not taken.entries


def whiteout(name: str) -> bytes:
    """Return an ACI with an empty file called `name`."""
    return aci(aci_manifest(), Layer().file(name))


def device(major: bytes) -> bytes:
    """Return an ACI with a device whose header has `major` as its major number."""
    block = bytearray(entry("rootfs/d", tarfile.CHRTYPE).tobuf(tarfile.USTAR_FORMAT))
    block[329:337] = major
    return sealed(block) + bytes(1024)


@pytest.mark.parametrize(
    ("archive", "kind", "text"),
    [
        (aci(aci_manifest(dependencies=[{"imageName": "x"}]), ROOTFS), Unimplemented, "has dependencies"),
        (aci(aci_manifest(pathWhitelist=["/bin"]), ROOTFS), Unimplemented, "has a path whitelist"),
        (aci(aci_manifest(app={"eventHandlers": [{}]}), ROOTFS), Unimplemented, "has event handlers"),
        (aci(aci_manifest(app={"user": "/bin/ping"}), ROOTFS), Unimplemented, "owner of a file"),
        (aci(aci_manifest(acKind="PodManifest"), ROOTFS), InvalidArgument, "acKind is 'PodManifest'"),
        (aci(aci_manifest(app={"ports": [{"port": 65000, "count": 1000}]}), ROOTFS), InvalidArgument, "port and count"),
        (aci(aci_manifest(app={"ports": [{"port": 1, "count": 65535}] * 2}), ROOTFS), InvalidArgument, "65535 ports"),
        (device(b"\x80\0\0\0\x7f\0\0\0"), InvalidArgument, "device number"),
        (aci(aci_manifest(app={"ports": [{"count": 1}]}), ROOTFS), InvalidArgument, "port is not a whole number"),
        (aci(aci_manifest(app={"workingDirectory": "opt"}), ROOTFS), InvalidArgument, "'opt' is not absolute"),
        (aci(aci_manifest(app={"mountPoints": [{"path": "a"}]}), ROOTFS), InvalidArgument, "'a' is not absolute"),
        (aci(aci_manifest(app={"environment": [{"name": "A=B"}]}), ROOTFS), InvalidArgument, "'=' in it"),
        (aci(aci_manifest(labels=[{"value": "1"}]), ROOTFS), InvalidArgument, "item without a name"),
        (aci(aci_manifest(labels=[{"name": "a"}, {"name": "a"}]), ROOTFS), InvalidArgument, "'a' twice"),
        (aci(b"{", ROOTFS), InvalidArgument, "ACI manifest: not JSON"),
        (tar_of({"manifest": aci_manifest()}), InvalidArgument, "nothing else"),
        (ROOTFS.tar(), InvalidArgument, "nothing else"),
        (aci(aci_manifest(), Layer().file("rootfs/a").file("other")), InvalidArgument, "nothing else"),
        (aci(aci_manifest(), Layer().file("rootfs")), InvalidArgument, "rootfs is no directory"),
        (whiteout("rootfs/etc/.wh.passwd"), InvalidArgument, "would delete one"),
        (whiteout("rootfs/.wh.dir/file"), InvalidArgument, "would delete one"),
        (whiteout("rootfs/../../etc/passwd"), InvalidArgument, "leaves the archive"),
        (aci(aci_manifest(), Layer().hardlink("rootfs/a", "manifest")), InvalidArgument, "not in rootfs"),
        (aci(aci_manifest(), Layer().hardlink("rootfs/a", "rootfs/../x")), InvalidArgument, "leaves the archive"),
        (aci(aci_manifest(), Layer().hardlink("rootfs/a", "/rootfs/b")), InvalidArgument, "absolute"),
    ],
)
def test_aci_that_no_oci_image_can_stand_for_is_refused(archive: bytes, kind: type[Exception], text: str) -> None:
    """What would change its meaning, or is broken, is refused with the reason, and nothing is left half written."""
    content = MemoryContent()
    with pytest.raises(kind, match=text):
        import_archive(io.BytesIO(archive), content, ImportOptions())
    assert not list(content.ingests())
