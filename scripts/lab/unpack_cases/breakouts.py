"""containerd's own set of archives that try to get out (its test TestBreakouts), each twice: what lies in the root before
as a layer below, and as the first entries of the same archive."""

from __future__ import annotations

from collections.abc import Mapping

from scripts.lab.raw_tars import Tar, Text

_OUTSIDE = "/perm400"


def cases() -> Mapping[str, tuple[bytes, ...]]:
    """Return the cases of this module."""
    found: dict[str, tuple[bytes, ...]] = {}
    for name, (before, attack) in _set().items():
        found[f"{name}, over a layer"] = (before.end(), attack.end())
        found[f"{name}, in one layer"] = (before.unfinished() + attack.end(),)
    return found


def _etc(mode: int = 0o755, content: bytes = b"inside") -> Tar:
    return Tar().directory("etc", mode).file("/etc/passwd", content)


def _linked(target: Text, name: Text = "localetc") -> Tar:
    return _etc(content=b"all users").symlink(name, target)


def _set() -> Mapping[str, tuple[Tar, Tar]]:
    etc, dummy = Tar().directory("etc"), Tar().directory("etc").directory("dummy")
    unbroken = ("/localetc/unbroken", b"unbroken")
    nested = ("/dummy/etc/unbroken", b"unbroken")
    local = "/localetc/localpasswd"
    found = {
        "SymlinkAbsolute": (etc, Tar().symlink("localetc", "/etc").file(*unbroken)),
        "SymlinkUpAndOut": (dummy, Tar().symlink("localetc", "/dummy/../etc").file(*unbroken)),
        "SymlinkMultipleAbsolute": (
            dummy,
            Tar().symlink("/dummy/etc", "/etc").symlink("localetc", "/dummy/etc").file(*nested),
        ),
        "SymlinkMultipleRelative": (
            dummy,
            Tar().symlink("/dummy/etc", "/etc").symlink("localetc", "./dummy/etc").file(*nested),
        ),
        "SymlinkEmptyFile": (
            Tar().directory("etc").file("etc/emptied", b"notempty"),
            Tar().symlink("localetc", "/etc").file("/localetc/emptied"),
        ),
        "SymlinkParentDirectory": (_etc(0o770), Tar().symlink("..", "/etc/").hardlink("localpasswd", "/etc/passwd")),
        "SymlinkEmptyFilename": (_etc(0o770), Tar().symlink("", "/etc/").hardlink("localpasswd", "/etc/passwd")),
        "SymlinkParentRelative": (
            _etc(0o770),
            Tar().symlink("localetc/sub/..", "/etc/").hardlink(local, "/etc/passwd"),
        ),
        "SymlinkSlashEnded": (_etc(0o770), Tar().directory("localetc/", 0o770).hardlink(local, "/etc/passwd")),
        "SymlinkOverrideDirectory": (
            _etc().directory("/localetc/"),
            Tar().symlink("localetc", "/etc").hardlink(local, "/etc/passwd"),
        ),
        "SymlinkOverrideDirectoryRelative": (
            _etc().directory("/localetc/"),
            Tar().symlink("localetc", "../../etc").hardlink(local, "/etc/passwd"),
        ),
        "DirectoryOverrideSymlink": (
            _linked("/etc"),
            Tar().directory("/localetc/").hardlink(local, "/etc/passwd"),
        ),
        "DirectoryOverrideSymlinkAndHardlink": (
            _linked("etc").hardlink(local, "/etc/passwd"),
            Tar().directory("/localetc/").file(local, b"different"),
        ),
        "WhiteoutRootParent": (_etc(), Tar().file(".wh...")),
        "WhiteoutParent": (_etc(), Tar().file("etc/.wh...")),
        "WhiteoutRoot": (_etc(), Tar().file(".wh..")),
        "WhiteoutCurrentDirectory": (_etc(), Tar().file("etc/.wh..")),
        "WhiteoutSymlink": (_linked("/etc"), Tar().file(".wh.localetc")),
        "WhiteoutSymlinkPath": (
            _linked("/etc").file("/etc/whitedout", b"ahhhh whiteout"),
            Tar().file("localetc/.wh.whitedout"),
        ),
        "WhiteoutDirectoryName": (
            _linked("/etc").file("/etc/whitedout", b"ahhhh whiteout"),
            Tar().file(".wh.etc/somefile", b"non-empty"),
        ),
        "WhiteoutDeadSymlinkParent": (_linked("/dne"), Tar().file("localetc/.wh.etc")),
        "WhiteoutRelativePath": (_linked("/dne"), Tar().file("dne/../.wh.etc")),
    }
    return {**found, **_hard_links()}


def _hard_links() -> Mapping[str, tuple[Tar, Tar]]:
    through = Tar().directory("breakouts")
    mine, local = ("breakouts/mypasswd", "/breakouts/d1/passwd"), ("localpasswd", "/localetc/passwd")
    return {
        "HardlinkRelative": (_etc(0o770), through.symlink("breakouts/d1", "../../etc").hardlink(*mine)),
        "HardlinkDownAndOut": (
            _etc(0o770).directory("downandout"),
            Tar().directory("breakouts").symlink("breakouts/d1", "../downandout/../../etc").hardlink(*mine),
        ),
        "HardlinkAbsolute": (_etc(0o770), Tar().symlink("localetc", "/etc").hardlink(*local)),
        "HardlinkRelativeLong": (_etc(0o770), Tar().symlink("localetc", "../../../../../../../etc").hardlink(*local)),
        "HardlinkRelativeUpAndOut": (_etc(0o770), Tar().symlink("localetc", "upandout/../../../etc").hardlink(*local)),
        "HardlinkDirectRelative": (_etc(0o770), Tar().hardlink("localpasswd", "../../../../../etc/passwd")),
        "HardlinkDirectAbsolute": (_etc(0o770), Tar().hardlink("localpasswd", "/etc/passwd")),
        "HardlinkSymlinkBeforeCreateTarget": (
            Tar().directory("etc", 0o770),
            Tar()
            .symlink("localpasswd", "/etc/passwd")
            .hardlink("localpasswd-dup", "localpasswd", 0o777)
            .file("etc/passwd"),
        ),
        "HardlinkSymlinkRelative": (
            _etc(0o770),
            Tar().symlink("passwdlink", "../../../../../etc/passwd").hardlink("localpasswd", "/passwdlink", 0o777),
        ),
        "HardlinkSymlinkAbsolute": (
            _etc(0o770),
            Tar().symlink("passwdlink", "/etc/passwd").hardlink("localpasswd", "/passwdlink", 0o777),
        ),
        "HardlinkSymlinkChmod": (
            Tar().directory("d"),
            Tar()
            .symlink("also-exists-outside-root", _OUTSIDE)
            .hardlink("sketchylink", "also-exists-outside-root", 0o777),
        ),
    }
