"""Cases of layers over each other: whiteouts, opaque directories, directories that a layer doesn't name, links, types."""

from __future__ import annotations

from collections.abc import Mapping

from scripts.lab.raw_tars import Tar


def base() -> Tar:
    """Return a lower layer with something of everything."""
    tar = Tar().directory("etc", mtime_s=1000).file("etc/passwd", b"inside", mtime_s=1001, uid=1, gid=2)
    tar.file("etc/shadow", b"secret", mode=0o640, gid=42).directory("tmp", 0o1777, mtime_s=1002)
    tar.directory("home").directory("home/u", 0o700, uid=1000, gid=1001, mtime_s=1003).file("home/u/f", b"mine")
    tar.xattrs(user__a="1", user__b="two").directory("var", mtime_s=1004)
    tar.directory("var/mail", 0o2775, gid=8, mtime_s=1005).directory("var/old", 0o750).file("var/old/x", b"x")
    tar.directory("usr").directory("usr/bin", 0o711, uid=3, gid=4, mtime_s=1006).file("usr/bin/sh", b"#!", mode=0o755)
    tar.symlink("bin", "usr/bin", mtime_s=1007).symlink("abs", "/var/old").symlink("lost", "nowhere/at/all")
    return tar.hardlink("usr/bin/bash", "usr/bin/sh", 0o755).device("pipe", b"6", 0, 0)


def cases() -> Mapping[str, tuple[bytes, ...]]:
    """Return the cases of this module."""
    return {name: (base().end(), *(tar.end() for tar in upper)) for name, upper in _upon_base().items()} | {
        name: tuple(tar.end() for tar in tars) for name, tars in _alone().items()
    }


def _upon_base() -> Mapping[str, tuple[Tar, ...]]:
    return {
        "base alone": (),
        "whiteouts of a file, a tree, a link and a pipe": (
            Tar().file("etc/.wh.passwd").file("home/.wh.u").file(".wh.bin").file(".wh.pipe").file(".wh.lost"),
        ),
        "whiteout with owner, mode and data": (Tar().file(".wh.tmp", b"data", mode=0o777, uid=9, gid=9, mtime_s=5),),
        "whiteout of a hard link": (Tar().file("usr/bin/.wh.sh"),),
        "whiteout of nothing": (Tar().file("etc/.wh.none").file("new/dir/.wh.none").file(".wh.none"),),
        "whiteout that is a directory or link": (Tar().directory("etc/.wh.passwd").symlink(".wh.tmp", "x"),),
        "whiteout, then the file anew": (Tar().file("etc/.wh.passwd").file("etc/passwd", b"new"),),
        "whiteout, then the directory anew": (Tar().file("var/.wh.old").directory("var/old").file("var/old/new"),),
        "whiteout, then something below it": (Tar().file("var/.wh.old").file("var/old/new", b"new"),),
        "whiteout after the file": (Tar().file("etc/passwd", b"new").file("etc/.wh.passwd"),),
        "whiteout after the directory": (Tar().directory("var/old").file("var/old/new").file("var/.wh.old"),),
        "whiteout in a layer, name again in the next": (
            Tar().file("var/.wh.old").file(".wh.tmp"),
            Tar().file("var/old/again", b"3").directory("tmp", 0o755, mtime_s=7),
        ),
        "whiteout in a layer, below its name in the next": (
            Tar().file(".wh.home"),
            Tar().file("home/u/f", b"again"),
        ),
        "opaque directory that is named": (Tar().directory("var", mtime_s=9).file("var/.wh..wh..opq").file("var/n"),),
        "opaque directory that is not named": (Tar().file("home/u/.wh..wh..opq").file("home/u/n", b"n"),),
        "opaque mark after what is in it": (Tar().directory("etc").file("etc/n").file("etc/.wh..wh..opq"),),
        "opaque directory, unnamed one in it": (
            Tar().directory("home", 0o755).file("home/.wh..wh..opq").file("home/u/n", b"n"),
        ),
        "opaque in a layer, unnamed below it in the next": (
            Tar().directory("home", 0o755).file("home/.wh..wh..opq"),
            Tar().file("home/u/n", b"n"),
        ),
        "aufs's own names": (
            Tar().file(".wh..wh.aufs").directory(".wh..wh.plnk", 0o700).directory("etc/.wh..wh.orph", 0o700),
        ),
        "unnamed directories": (
            Tar().file("tmp/n", b"1").file("home/u/n").file("var/n").file("var/mail/n", gid=5).file("usr/bin/n"),
        ),
        "unnamed directories over two layers": (
            Tar().directory("home/u", 0o711, uid=7, gid=7, mtime_s=44).file("tmp/one"),
            Tar().file("home/u/n").file("tmp/two").directory("home/u/d/e"),
        ),
        "unnamed directories of nothing below": (Tar().file("n/e/w").directory("n2/d", 0o700, uid=5),),
        "unnamed directory that is named later": (
            Tar()
            .file("var/n")
            .directory("var", 0o700, uid=5, mtime_s=77)
            .file("home/u/n")
            .directory("home", mtime_s=78),
        ),
        "unnamed directory where a file lies below": (Tar().file("etc/passwd/n"),),
        "unnamed directory where a file lies below, and one in it": (Tar().file("etc/passwd/n/o"),),
        "unnamed directory in one that gets the setgid bit": (Tar().file("var/mail/n/o").directory("var/mail/p/q"),),
        "named directories change what lies below": (
            Tar().directory("home/u", 0o755, mtime_s=5).directory("var", 0o701, uid=2, gid=3).directory("tmp", 0o1770),
        ),
        "link in the lower layer is a parent": (Tar().file("bin/new", b"n").file("abs/new", b"n"),),
        "dangling link in the lower layer is a parent": (Tar().file("lost/new", b"n"),),
        "link in the same layer is a parent": (
            Tar().directory("real", 0o750, mtime_s=6).symlink("l", "real").file("l/n").symlink("m", "/l").file("m/k/n"),
        ),
        "dangling link in the same layer is a parent": (
            Tar().symlink("l", "made/up").file("l/n").symlink("a", "/made/too").directory("a/d"),
        ),
        "link over a link's directory": (Tar().directory("usr/bin").symlink("bin", "elsewhere").file("bin/n", b"n"),),
        "directory over link, file over directory": (
            Tar().directory("bin", 0o700).file("bin/n").file("tmp", b"file").file("home", b"file"),
        ),
        "link over directory, directory over file": (
            Tar().symlink("tmp", "etc").directory("etc/passwd", 0o711).file("etc/passwd/n").symlink("etc/shadow", "x"),
        ),
        "file over link, device over file": (
            Tar().file("bin", b"f").device("etc/passwd", b"3", 1, 3).file("pipe", b"no pipe").symlink("lost", "found"),
        ),
        "types changed and changed back": (
            Tar().file("home", b"file").directory("etc/passwd"),
            Tar().directory("home", 0o711).file("home/n").file("etc/passwd", b"again"),
        ),
        "hard link to a file below": (Tar().hardlink("h", "etc/passwd"),),
        "file replaced of which a link exists": (Tar().file("usr/bin/sh", b"new"),),
        "links to what this layer replaces": (
            Tar().file("usr/bin/sh", b"new", mode=0o755).hardlink("usr/bin/dash", "usr/bin/sh", 0o755),
        ),
    }


def _alone() -> Mapping[str, tuple[Tar, ...]]:
    deep = "/".join(f"d{i}" for i in range(120))
    return {
        "whiteouts in the lowest layer": (
            Tar().directory("d").file("d/.wh.x").file("d/y").file(".wh.z").file("e/.wh..wh..opq").file("e/f"),
        ),
        "whiteout of a file of the lowest layer itself": (Tar().file("a", b"a").file(".wh.a").file("b"),),
        "opaque mark after a file of the lowest layer": (Tar().directory("d").file("d/a").file("d/.wh..wh..opq"),),
        "opaque root": (
            Tar().file("below").directory("d"),
            Tar().file(".wh..wh..opq").file("only", b"this").file("d/n"),
        ),
        "whiteouts in a layer whose root is opaque": (
            Tar().file("below"),
            Tar().directory("d").file("d/.wh.x").file("d/y").file(".wh..wh..opq").file("d/.wh.z").file("e/.wh.y"),
        ),
        "lowest layer empty": (Tar(), Tar().file("a", b"a")),
        "no layer but an empty one": (Tar(),),
        "deep nesting": (Tar().file(f"{deep}/f", b"deep"), Tar().file(f"{deep}/g", b"deep"), Tar().file("d0/.wh.d1")),
        "twelve layers": tuple(
            Tar().file("same", b"%d" % i, mode=0o600 + i).file(f"own/{i}").directory(f"dir{i % 3}", 0o700 + i, uid=i)
            for i in range(12)
        ),
    }
