"""What one tree changes of another, in the order of the names, one directory after the other."""

from __future__ import annotations

import os
import stat

from hythe.archive.failures import ArchiveError
from hythe.archive.tar import show
from hythe_bundle.worker.diff_tree import Directory, Root, same
from hythe_bundle.worker.marks import OPAQUE_XATTR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ADDED, CHANGED, DELETED = b"A", b"C", b"D"
OPAQUE = b"O"
"""Of all that a directory had in the other tree nothing is left; said instead of each name."""
SAME = b"S"
"""An unchanged file with several names, one of which may be new; for who writes links."""

OPEN_FRAMES = 12
RUNTIME_MADE = frozenset((b"dev", b"etc", b"etc/hostname", b"etc/hosts", b"etc/resolv.conf", b"proc", b"sys"))
"""What a runtime makes, empty, to mount something on it; Docker keeps these in a layer that it never shows."""
_FOREIGN_XATTRS = frozenset(("trusted.overlay.redirect", "trusted.overlay.metacopy"))


class Event:
    """One change.

    Attributes:
        kind: `ADDED`, `CHANGED`, `DELETED`, `OPAQUE` or `SAME`.
        path: relative, without a slash in front; of `OPAQUE` the directory's.
        found: what the new tree has there; None where it has nothing.
        directory, name: where the new tree has it; good until the next event is asked for.
        replaces: whether the other tree has something there.
    """

    __slots__ = ("directory", "found", "kind", "name", "path", "replaces")

    def __init__(
        self,
        kind: bytes,
        path: bytes,
        found: os.stat_result | None = None,
        directory: Directory | None = None,
        name: bytes = b"",
        *,
        replaces: bool = False,
    ) -> None:
        self.kind = kind
        self.path = path
        self.found = found
        self.directory = directory
        self.name = name
        self.replaces = replaces


class _Frame:
    """A directory that is being walked. Its descriptors may be closed while others further down are open."""

    __slots__ = ("announced", "base", "complete", "found", "has_base", "name", "new", "path", "waiting")

    def __init__(
        self, path: bytes, name: bytes, found: os.stat_result | None, *, has_base: bool, complete: bool, announced: bool
    ) -> None:
        self.path = path
        self.name = name
        self.found = found
        self.has_base = has_base
        self.complete = complete
        self.announced = announced
        self.new: Directory | None = None
        self.base: Directory | None = None
        self.waiting: list[tuple[bytes, bool]] = []

    def close(self) -> None:
        for directory in (self.new, self.base):
            if directory is not None:
                directory.close()
        self.new = self.base = None


class Walk:
    """Compares two trees. Memory is bounded by the largest directory, not by the tree."""

    def __init__(
        self, base: Root | None, new: Root, *, changes_only: bool, for_layer: bool, runtime_made: frozenset[bytes]
    ) -> None:
        """Prepare a walk.

        Args:
            base: what `new` is compared with; None for nothing at all.
            changes_only: `new` has overlayfs's form: what it does not have is unchanged, what is gone has a mark.
            for_layer: say what is gone first of each directory, short where everything is; leave sockets out; tell of
                unchanged files with several names.
            runtime_made: names that are passed over where they are new and empty.
        """
        self._base = base
        self._new = new
        self._changes_only = changes_only
        self._for_layer = for_layer
        self._runtime_made = runtime_made
        self._frames: list[_Frame] = []

    def events(self) -> Iterator[Event]:
        """Yield each change; a directory comes before what is in it, also one that only holds a change.

        The root itself is never among them: it belongs to the container, not to a layer.

        Raises:
            ArchiveError: `new` has a mark of overlayfs that means data elsewhere.
            LimitError: a path is too long.
            OSError: the disk fails.
        """
        self._frames = [
            _Frame(b"", b"", None, has_base=self._base is not None, complete=not self._changes_only, announced=True)
        ]
        yield from self._enter(self._frames[0])
        while self._frames:
            frame = self._frames[-1]
            if not frame.waiting:
                self._frames.pop().close()
                continue
            name, gone = frame.waiting.pop()
            path = frame.path + b"/" + name if frame.path else name
            if gone:
                yield from self._announced(Event(DELETED, path, replaces=True))
            else:
                yield from self._look(frame, name, path)

    def _enter(self, frame: _Frame) -> Iterator[Event]:
        """List the top frame's directory; yield what is gone of it, where that comes first."""
        if not self._open(frame):
            return
        assert frame.new is not None
        names, whiteouts = frame.new.names(sockets=not self._for_layer)
        gone = self._gone(frame, names, whiteouts)
        if self._for_layer:
            yield from self._whiteouts(frame, gone)
            frame.waiting = [(name, False) for name in sorted(names, reverse=True)]
        else:
            both = [*((name, False) for name in names), *((name, True) for name in gone)]
            frame.waiting = sorted(both, reverse=True)

    def _gone(self, frame: _Frame, names: list[bytes], whiteouts: list[bytes]) -> list[bytes]:
        if frame.base is None:
            return []
        if not frame.complete:
            return [name for name in whiteouts if frame.base.stat(name) is not None]
        here = set(names)
        return [name for name in frame.base.names(sockets=True)[0] if name not in here]

    def _whiteouts(self, frame: _Frame, gone: list[bytes]) -> Iterator[Event]:
        if len(gone) > 1 and frame.path and self._is_all(frame, gone):
            yield from self._announced(Event(OPAQUE, frame.path, replaces=True))
            return
        for name in sorted(gone):
            path = frame.path + b"/" + name if frame.path else name
            yield from self._announced(Event(DELETED, path, replaces=True))

    def _is_all(self, frame: _Frame, gone: list[bytes]) -> bool:
        return frame.base is not None and len(gone) == len(frame.base.names(sockets=True)[0])

    def _look(self, frame: _Frame, name: bytes, path: bytes) -> Iterator[Event]:
        """Yield what is to be said of one name of the new tree, and go down into a directory."""
        if not self._open(frame):
            frame.waiting = []  # the directory itself vanished
            return
        assert frame.new is not None
        found = frame.new.stat(name)
        before = frame.base.stat(name) if frame.base is not None else None
        if found is None:
            if before is not None:
                yield from self._announced(Event(DELETED, path, replaces=True))
            return
        if before is None:
            if path in self._runtime_made and self._is_runtime_made(path, found):
                return
            kind = ADDED
        else:
            assert frame.base is not None
            kind = SAME if same(frame.base, before, frame.new, found, name) else CHANGED
        overlaid = self._changes_only and self._overlaid(frame.new, name, path, found)
        if not stat.S_ISDIR(found.st_mode):
            if kind != SAME:
                yield from self._announced(Event(kind, path, found, frame.new, name, replaces=before is not None))
            elif self._for_layer and found.st_nlink > 1:
                yield Event(SAME, path, found, frame.new, name, replaces=True)
            return
        if kind != SAME:
            yield from self._announced(Event(kind, path, found, frame.new, name, replaces=before is not None))
        has_base = before is not None and stat.S_ISDIR(before.st_mode)
        complete = frame.complete or overlaid or not has_base
        below = _Frame(path, name, found, has_base=has_base, complete=complete, announced=kind != SAME)
        self._frames.append(below)
        if len(self._frames) > OPEN_FRAMES:
            self._frames[-OPEN_FRAMES - 1].close()
        yield from self._enter(below)

    def _announced(self, event: Event) -> Iterator[Event]:
        """Yield `event` after the directories above it that were not told of yet."""
        for above, frame in zip(self._frames, self._frames[1:], strict=False):
            if frame.announced:
                continue
            frame.announced = True
            was_closed = above.new is None
            if self._open(above):
                yield Event(CHANGED, frame.path, frame.found, above.new, frame.name, replaces=True)
                if was_closed:
                    above.close()
        yield event

    def _open(self, frame: _Frame) -> bool:
        """Have the descriptors of a frame open; tell whether the directory is still there."""
        if frame.new is None:
            frame.new = self._new.directory(frame.path)
            if frame.has_base and self._base is not None:
                frame.base = self._base.directory(frame.path)
        return frame.new is not None

    def _overlaid(self, directory: Directory, name: bytes, path: bytes, found: os.stat_result) -> bool:
        """Tell whether what is in a directory with overlayfs's form hides what lies below it.

        Raises:
            ArchiveError: it has marks that lead elsewhere.
        """
        if not stat.S_ISDIR(found.st_mode) and not stat.S_ISREG(found.st_mode):
            return False
        marks = directory.overlay_marks(name)
        for key in _FOREIGN_XATTRS.intersection(marks):
            raise ArchiveError(f"{show(path)} has {key}: its data lies elsewhere")
        if OPAQUE_XATTR not in marks or not stat.S_ISDIR(found.st_mode):
            return False
        if (value := directory.xattr(name, OPAQUE_XATTR)) not in (None, b"y"):
            raise ArchiveError(f"{show(path)} has {OPAQUE_XATTR} {value[:20]!r}, which is unknown")
        return value is not None

    def _is_runtime_made(self, path: bytes, found: os.stat_result) -> bool:
        """Tell whether this is an empty file or directory, or one that holds nothing but such."""
        if stat.S_ISREG(found.st_mode):
            return found.st_size == 0
        directory = self._new.directory(path) if stat.S_ISDIR(found.st_mode) else None
        if directory is None:
            return False
        try:
            for name in directory.names(sockets=True)[0]:
                below, inside = path + b"/" + name, directory.stat(name)
                if inside is None:
                    continue
                if below not in self._runtime_made or not self._is_runtime_made(below, inside):
                    return False
            return True
        finally:
            directory.close()
