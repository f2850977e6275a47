"""Stands for the bundle service where snapshots are asked for: two layers, and what is prepared on top of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg

from hythe import subjects
from tests.fixtures.secured_bus import Responder


class SnapshotDesk:
    """Committed ``layer``, active ``open`` on top of it, active ``whole`` on nothing, all with real directories.

    Attributes:
        known: snapshots by name: kind, parent and labels.
        directory: where their files lie, a directory each.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.known: dict[str, dict[str, Any]] = {}
        for name in ("base", "layer", "open", "whole"):
            (directory / name / "fs").mkdir(parents=True)
            (directory / name / "work").mkdir()
            (directory / name / "fs" / name).write_text(name)
        self._add("base", "committed", "")
        self._add("layer", "committed", "base")
        self._add("open", "active", "layer")
        self._add("whole", "active", "")

    def _add(self, name: str, kind: str, parent: str, labels: dict[str, str] | None = None) -> None:
        self.known[name] = {"name": name, "kind": kind, "parent": parent, "labels": labels or {}}

    @property
    def views(self) -> dict[str, dict[str, str]]:
        """Labels of the views that are there, by parent."""
        return {found["parent"]: found["labels"] for found in self.known.values() if found["kind"] == "view"}

    async def answer(self, message: Msg, service: Responder) -> None:
        """Answer one request."""
        verb, body = subjects.parse_rpc(message.subject).verb, json.loads(message.data)
        name = body["name"]
        if verb == "view" and name not in self.known:
            self._add(name, "view", body["parent"], body["labels"])
            await service.say(message.reply, "done", {"mounts": self.mounts(name)})
        elif verb == "view":
            await service.refuse(message.reply, code="AlreadyExists", message=f"add snapshot {name}: it exists")
        elif verb in ("prepare", "commit"):
            kind = "active" if verb == "prepare" else "committed"
            self._add(name, kind, body.get("parent", ""), body["labels"])
            await service.say(message.reply, "done", {"mounts": self.mounts(name)} if verb == "prepare" else {})
        elif name not in self.known:
            await service.refuse(message.reply, code="NotFound", message=f"find snapshot {name}: there is none")
        elif verb == "mounts":
            await service.say(message.reply, "done", {"mounts": self.mounts(name)})
        elif verb == "remove":
            del self.known[name]
            await service.say(message.reply, "done", {})
        else:
            await service.say(message.reply, "done", self.known[name])

    def mounts(self, name: str) -> list[dict[str, Any]]:
        """Return the mounts of an active snapshot or view, as they are on the wire."""
        found = self.known[name]
        if not found["parent"]:
            return [{"type": "bind", "source": self._fs(name), "options": ["rw", "rbind"]}]
        lower, parent = [], found["parent"]
        while parent:
            lower.append(self._fs(parent))
            parent = self.known[parent]["parent"]
        if found["kind"] == "view" and len(lower) == 1:
            return [{"type": "bind", "source": lower[0], "options": ["ro", "rbind"]}]
        options = [f"lowerdir={':'.join(lower)}"]
        if found["kind"] == "active":
            options += [f"upperdir={self._fs(name)}", f"workdir={self.directory / name / 'work'}"]
        else:
            options.insert(0, "ro")
        return [{"type": "overlay", "source": "overlay", "options": options}]

    def _fs(self, name: str) -> str:
        return str(self.directory / name / "fs")
