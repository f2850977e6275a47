"""Cases of entries within a layer: links, types, modes, owners, times, attributes, devices, the root directory."""

from __future__ import annotations

from collections.abc import Mapping

from scripts.lab.raw_tars import Tar, Text

_CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
_ACL = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000400ffffffff20000400ffffffff")


def cases() -> Mapping[str, tuple[bytes, ...]]:
    """Return the cases of this module."""
    return {name: (tar.end(),) for name, tar in {**_links(), **_types(), **_numbers(), **_attributes()}.items()}


def _links() -> Mapping[str, Tar]:
    return {
        "hard links": (
            Tar().directory("d").file("d/f", b"data", mode=0o640, uid=5, gid=6, mtime_s=9).hardlink("h", "d/f", 0o4755)
        ).hardlink("d/i", "/h", 0o600, uid=7, gid=8, mtime_s=10),
        "hard links by odd names": (
            Tar()
            .directory("d")
            .file("d/f", b"1")
            .hardlink("a", "./d/f")
            .hardlink("b", "d//f")
            .hardlink("c", "d/../d/f")
        ),
        "hard link to a link": Tar().symlink("s", "f").hardlink("h", "s", 0o600, uid=3, mtime_s=8).file("f", b"later"),
        "hard link to a dangling link": Tar().symlink("s", "no/where", uid=1).hardlink("h", "s", 0o777, uid=2, gid=2),
        "hard link to a device and a pipe": (
            Tar().device("c", b"3", 1, 3).hardlink("c2", "c", 0o666).device("p", b"6", 0, 0).hardlink("p2", "p", 0o622)
        ),
        "hard link over a file": Tar().file("a", b"a").file("b", b"b").hardlink("b", "a"),
        "hard link over a tree": Tar().file("a", b"a").directory("b/c").file("b/c/d").hardlink("b", "a"),
        "hard link before its target": Tar().hardlink("h", "f").file("f", b"late"),
        "hard link to itself": Tar().file("f", b"f").hardlink("f", "f"),
        "hard link to a directory": Tar().directory("d").hardlink("h", "d"),
        "hard link to nothing": Tar().hardlink("h", "none"),
        "hard link to the root": Tar().hardlink("h", "/"),
        "hard link without a target": Tar().hardlink("h", ""),
        "hard link through a link": Tar().directory("d").file("d/f", b"f").symlink("l", "/d").hardlink("h", "l/f"),
        "file replaced of which a hard link stays": Tar().file("a", b"1").hardlink("b", "a").file("a", b"2"),
        "symbolic links of all sorts": (
            Tar().symlink("a", "b", uid=4, gid=5, mtime_s=99).symlink("up", "../../../x").symlink("self", "self")
        )
        .symlink("space", " x ")
        .symlink("slash", "d/")
        .directory("d"),
        "symbolic link without a target": Tar().symlink("l", ""),
    }


def _types() -> Mapping[str, Tar]:
    return {
        "file twice": Tar().file("f", b"first", mode=0o4755, uid=1).file("f", b"2", mode=0o600),
        "directory twice": (
            Tar()
            .xattrs(user__a="1")
            .directory("d", 0o700, uid=1, mtime_s=5)
            .file("d/f")
            .directory("d", 0o2711, mtime_s=6)
        ),
        "file, then directory, then link": (
            Tar()
            .file("a")
            .directory("a", 0o711, mtime_s=8)
            .file("a/f")
            .file("b")
            .symlink("b", "a")
            .directory("c", 0o700)
        ).symlink("c", "a"),
        "directory, then file": Tar().directory("d", mtime_s=8).file("d/x").file("d", b"file", mtime_s=9),
        "directory with one in it, then file": Tar().directory("d/e", mtime_s=8).file("d", b"file", mtime_s=9),
        "file used as a directory": Tar().file("f", b"f").file("f/x"),
        "pipe used as a directory": Tar().device("p", b"6", 0, 0).file("p/x"),
        "devices and pipes": (
            Tar()
            .device("null", b"3", 1, 3, 0o666)
            .device("loop", b"4", 7, 200, uid=1, gid=6)
            .device("p", b"6", 0, 0, 0o4)
        ).device("large", b"4", 4095, 1048575),
        "device 0:0": Tar().directory("d").device("d/x", b"3", 0, 0).file("d/y"),
        "device number beyond all bounds": Tar().device("c", b"3", 5000, 1),
        "contiguous file": Tar().entry("f", b"7", b"data"),
        "socket": Tar().entry("s", b"s", b""),
        "unknown type": Tar().entry("s", b"Z", b"data"),
        "directory and link with a size": (
            Tar().entry("d", b"5", size=4096, mode=0o755).entry("l", b"2", size=99, link="d").file("f", b"after")
        ),
        "setgid directories": (
            Tar().directory("g", 0o2755, gid=50).file("g/f", gid=1).directory("g/d", 0o755, gid=2).file("g/n/e/f")
        )
        .device("g/p", b"6", 0, 0)
        .symlink("g/l", "f"),
        "the root directory": (
            Tar().xattrs(user__root="1").directory("./", 0o711, uid=5, gid=6, mtime_s=7).directory("/", 0o700, uid=8)
        )
        .directory(".", 0o1777)
        .directory("d/..", 0o500)
        .file("f", b"f"),
        "names in many spellings": (
            Tar()
            .file("./a", b"a")
            .file("/b")
            .file("//c")
            .directory("d//e/")
            .file("d/./f")
            .file("d/e/../g")
            .file("../h")
        )
        .file("../../i")
        .file("d/../../j")
        .file("k/")
        .file("./l/./m/"),
    }


def _numbers() -> Mapping[str, Tar]:
    modes = Tar()
    for mode in (0, 0o7777, 0o4755, 0o2755, 0o1777, 0o6711, 0o100644, 0o7000):
        modes.file(f"f{mode:o}", b"x", mode=mode, uid=1, gid=1).directory(f"d{mode:o}", mode, uid=1, gid=1)
    times: tuple[Text, ...] = (
        "1.5",
        "1.000000001",
        "1.9999999999",
        "-1",
        "-0.5",
        "0",
        "253402300799",
        "10000000000.25",
    )
    many = Tar()
    for i, time in enumerate(times):
        many.pax(("mtime", time), ("atime", "5"), ("ctime", "6")).file(f"f{i}").pax(("mtime", time)).directory(f"d{i}")
        many.pax(("mtime", time)).symlink(f"l{i}", "x")
    return {
        "modes": modes,
        "owners": (Tar().file("nobody", uid=65534, gid=65534).file("large", uid=3_000_000, gid=2**31))
        .pax(("uid", str(2**32 - 2)), ("gid", "70000"))
        .directory("largest")
        .pax(("uid", "12"))
        .symlink("l", "x", gid=3),
        "owner beyond 32 bits": Tar().pax(("uid", str(2**32 + 5))).file("f"),
        "owner of 32 bits, all set": Tar().pax(("uid", str(2**32 - 1))).file("f"),
        "owner below 0": Tar().file("f", uid=-1),
        "times": many,
        "times in base 256": Tar().file("f", mtime_s=-5).file("g", mtime_s=2**35).directory("d", mtime_s=-(2**40)),
        "time beyond all bounds": Tar().pax(("mtime", "9223372036854775807")).file("f").pax(("mtime", "1e3")).file("g"),
    }


def _attributes() -> Mapping[str, Tar]:
    return {
        "attributes": (
            Tar().pax(("SCHILY.xattr.security.capability", _CAPABILITY), ("SCHILY.xattr.user.bin", b"\x00\xff=\n1"))
        )
        .file("f", b"x", mode=0o755, uid=3)
        .xattrs(user__a="1", user__b="2")
        .directory("d", uid=1),
        "attributes that are empty": Tar().xattrs(user__a="", user__b="2").file("f"),
        "attributes of overlayfs": (
            Tar().pax(("SCHILY.xattr.trusted.overlay.opaque", "y"), ("SCHILY.xattr.trusted.x", "1")).directory("d")
        )
        .xattrs(trusted__overlay__redirect="/etc")
        .directory("e"),
        "attributes in a namespace that doesn't exist": Tar().xattrs(foo__bar="1", user__ok="1").file("f"),
        "attributes of a link and a device": (
            Tar().xattrs(user__a="1").symlink("l", "x").xattrs(user__a="1").device("c", b"3", 1, 3)
        ),
        "access control list": Tar().pax(("SCHILY.xattr.system.posix_acl_access", _ACL)).file("f", mode=0o640),
        "attributes in forms that aren't read": (
            Tar().pax(
                ("LIBARCHIVE.xattr.user.a", "MQ"), ("SCHILY.acl.access", "user::rw-"), ("RHT.security.selinux", "x")
            )
        ).file("f"),
        "attributes of a hard link": Tar().file("f").xattrs(user__a="1").hardlink("h", "f"),
        "attribute larger than the file system takes": Tar().xattrs(user__a="x" * 70000).file("f"),
    }
