"""Cases of how archives are written: pax, GNU, ustar and older headers, names of any bytes, holes, ends."""

from __future__ import annotations

from collections.abc import Mapping

from scripts.lab.raw_tars import GNU, V7, Tar, sparse_0, sparse_1_0, sparse_old

_LONG = "d" * 120 + "/" + "n" * 130
_PIECES = [(8192, b"a" * 5000), (1 << 20, b"b" * 4096), (3 << 20, b"")]
_MANY = [(i * 16384, b"%d" % (i % 10) * 4096) for i in range(60)]


def cases() -> Mapping[str, tuple[bytes, ...]]:
    """Return the cases of this module."""
    return {name: (archive,) for name, archive in {**_names(), **_headers(), **_holes(), **_ends()}.items()}


def _names() -> Mapping[str, bytes]:
    return {
        "long names": (
            Tar()
            .pax(("path", _LONG))
            .file("short", b"1")
            .long(b"L", _LONG + "2")
            .file("short", b"2")
            .pax(("linkpath", _LONG))
            .symlink("l", "short")
            .long(b"K", _LONG)
            .symlink("m", "short")
            .long(b"L", _LONG + "3")
            .long(b"K", _LONG)
            .hardlink("short", "short")
            .file("short", b"3")
        ).end(),
        "ustar prefix": Tar().file("n" * 90, fields={345: b"p" * 100 + b"/q"}).end(),
        "star's prefix": Tar().file("name", fields={345: b"p" * 131, 508: b"tar\0"}).end(),
        "prefix in a GNU header, by old Go": Tar().file("name", magic=GNU, fields={345: b"some/long/prefix"}).end(),
        "times in a GNU header": Tar().file("name", magic=GNU, fields={345: b"00000000012\0" * 2}).end(),
        "names of any bytes": (
            Tar()
            .file(b"\xff\xfe\x80", b"1")
            .directory(b"caf\xe9")
            .file(b"caf\xe9/\xe4")
            .file("new\nline")
            .file("tab\t*?")
            .pax(("path", b"pax\xff\n="))
            .file("x")
            .symlink(b"l\x9c", b"\xff\xfe\x80")
            .file("ü" * 40)
            .file(" ")
            .file("\\")
        ).end(),
        "name of 255 bytes": Tar().pax(("path", "n" * 255)).file("x", b"1").end(),
        "name of 256 bytes": Tar().pax(("path", "n" * 256)).file("x", b"1").end(),
        "name with a NUL": Tar().pax(("path", b"a\0b")).file("x").end(),
        "link name with a NUL": Tar().pax(("linkpath", b"a\0b")).symlink("x", "y").end(),
        "attribute name with a NUL": Tar().pax((b"SCHILY.xattr.user.a\0b", "1")).file("x").end(),
        "name after a NUL in the header": Tar().file(b"a\0b", b"1").end(),
        "without a name": Tar().file("", b"1").file("f").end(),
    }


def _headers() -> Mapping[str, bytes]:
    return {
        "two pax headers": Tar().pax(("path", "one"), ("uid", "5")).pax(("gid", "6")).file("zero", b"1").end(),
        "pax and GNU name": Tar().pax(("path", "pax")).long(b"L", "gnu").file("zero", b"1").end(),
        "pax value taken back": Tar().pax(("path", "one"), ("path", ""), ("uid", "5"), ("uid", "")).file("zero").end(),
        "pax value twice": Tar().pax(("path", "one"), ("path", "two")).file("zero").end(),
        "pax size": Tar().pax(("size", "5")).entry("f", b"0", b"12345", size=0).file("g", b"g").end(),
        "pax number with a sign": Tar().pax(("uid", "+5"), ("size", "+3")).file("f", b"123").end(),
        "pax names of owners": Tar()
        .pax(("uname", "root"), ("gname", b"\xff"), ("comment", "x"))
        .file("f", uid=7)
        .end(),
        "pax record malformed": Tar().entry("pax", b"x", b"7 path=x\n").file("f").end(),
        "pax time malformed": Tar().pax(("mtime", "x")).file("f").end(),
        "global header": Tar().pax(("path", "all"), ("uid", "9"), kind=b"g", name="global/x").file("f", b"1").end(),
        "global header named as a file": Tar()
        .file("f", b"1")
        .pax(("comment", "x"), kind=b"g", name="f")
        .file("g")
        .end(),
        "global header after a pax header": Tar().pax(("path", "one")).pax(("comment", "x"), kind=b"g").file("f").end(),
        "version 7": (
            Tar()
            .entry("d/", b"\0", magic=V7, mode=0o755)
            .entry("f", b"\0", b"1", magic=V7)
            .entry("l", b"2", magic=V7, link="f")
        ).end(),
        "device in a version 7 header": Tar().entry("c", b"3", magic=V7, fields={329: b"0000001\x000000003"}).end(),
        "old type with a slash": Tar().entry("d/", b"\0", mode=0o711).file("f/", b"file").end(),
        "numbers with spaces": Tar().file("f", b"12", fields={100: b"   644 \0", 124: b"          2 "}).end(),
        "number that is none": Tar().file("f", fields={100: b"9999999"}).end(),
        "size beyond 63 bits": Tar().file("f", fields={124: b"\x80\xff" + b"\xff" * 10}).end(),
        "size below 0": Tar().file("f", fields={124: b"\xff" * 12}).end(),
        "checksum of signed bytes": _signed(),
        "checksum wrong": Tar().file("f").end().replace(b"f\0", b"g\0", 1),
    }


def _signed() -> bytes:
    data = bytearray(Tar().file("ä" * 10, b"1").end())
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(byte - 256 if byte > 127 else byte for byte in data[:512])
    return bytes(data)


def _holes() -> Mapping[str, bytes]:
    whole = 3 << 20
    swapped = [_PIECES[1], _PIECES[0]]
    return {
        "holes, pax 1.0": Tar()
        .raw(sparse_1_0("f", whole, _PIECES))
        .raw(sparse_1_0("g", 1 << 20, _MANY))
        .file("h", b"h")
        .end(),
        "holes, pax 0.1": Tar().raw(sparse_0("f", whole, _PIECES, minor=1)).file("h", b"h").end(),
        "holes, pax 0.0": Tar().raw(sparse_0("f", whole, _PIECES, minor=0)).file("h", b"h").end(),
        "holes, old GNU": Tar()
        .raw(sparse_old("f", whole, _PIECES))
        .raw(sparse_old("g", 1 << 20, _MANY))
        .file("h")
        .end(),
        "holes alone": Tar().raw(sparse_1_0("f", 1 << 20, [])).raw(sparse_0("g", 77, [(77, b"")], minor=1)).end(),
        "holes in an unknown version": (
            Tar()
            .pax(("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "f"))
            .file("plain", b"x")
            .end()
        ),
        "holes out of order": Tar().raw(sparse_1_0("f", whole, swapped)).end(),
        "holes beyond the end": Tar().raw(sparse_1_0("f", 100, [(99, b"xx")])).end(),
        "holes with less data": Tar()
        .raw(sparse_0("f", 100, [(0, b"x")], minor=1).replace(b"map=0,1", b"map=0,9"))
        .end(),
        "holes with more data": Tar()
        .raw(sparse_0("f", 100, [(0, b"xx")], minor=1).replace(b"map=0,2", b"map=0,1"))
        .end(),
        "holes in a link": Tar().pax(("GNU.sparse.map", "0,0"), ("GNU.sparse.numblocks", "1")).symlink("l", "x").end(),
    }


def _ends() -> Mapping[str, bytes]:
    one = Tar().file("f", b"x" * 700)
    return {
        "nothing at all": b"",
        "one block of zeros": bytes(512),
        "no end mark": one.unfinished(),
        "half an end mark": one.unfinished() + bytes(512),
        "rubbish after the end mark": one.end() + b"rubbish" * 100,
        "entry after the end mark": one.end() + Tar().file("hidden").end(),
        "entry after one block of zeros": one.unfinished() + bytes(512) + Tar().file("hidden").end(),
        "cut in the data": one.unfinished()[:1000],
        "cut in the padding": one.unfinished()[:1400],
        "cut in a header": one.unfinished() + Tar().file("g").unfinished()[:300],
        "cut in a pax header": Tar().pax(("path", "x" * 600)).unfinished()[:900],
        "pax header without an entry": one.unfinished() + Tar().pax(("path", "x")).end(),
    }
