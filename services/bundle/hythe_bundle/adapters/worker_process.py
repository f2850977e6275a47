"""What all workers have in common: how they are started, how they say that they failed, and how they end."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import signal
from dataclasses import dataclass
from pathlib import Path

import hythe
import hythe_bundle
from hythe.archive import starting
from hythe.errors import Internal

log = logging.getLogger(__name__)

MAX_COMPLAINT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Failed:
    """The last line of a worker that failed."""

    kind: str
    number: int
    text: str


def parse_failed(rest: bytes) -> Failed:
    """Return what the last line of a worker that failed says, but for its first word.

    Raises:
        ValueError: it breaks its form.
    """
    why, number, text = rest.split(b" ")
    return Failed(why.decode(), int(number), bytes.fromhex(text.decode()).decode(errors="replace"))


def worker_command(module: str) -> tuple[str, ...]:
    """Return how the worker that `module` has the function ``run`` of is started; its arguments follow.

    It sees no site packages but the decompressor.

    Raises:
        Internal: the decompressor is not installed.
    """
    found = importlib.util.find_spec("isal")
    if found is None or found.origin is None:
        raise Internal("start bundle: the Python package isal is not installed", next_step="install hythe[bundle]")
    return starting.worker_command(module, (hythe, hythe_bundle), [Path(found.origin).parent.parent])


async def read_some(stream: asyncio.StreamReader) -> bytes:
    """Return what comes up to the end, at most 4 KiB of it."""
    data = b""
    while len(data) < MAX_COMPLAINT_BYTES and (more := await stream.read(MAX_COMPLAINT_BYTES - len(data))):
        data += more
    return data


def ended(step: str, name: str, code: int, complaint: bytes) -> Internal:
    """Return the error for a worker that ended without a report; `step` is what it was to do to `name`."""
    text = complaint.decode(errors="replace").strip()
    if text:
        log.error("a worker failed", extra={"step": step, "stderr": text})
    if code < 0:
        return Internal(
            f"{step} {name}: the worker was killed by {_signal_name(-code)}",
            phase=step,
            cause=text[-200:],
            next_step="try again; if the kernel killed it for want of memory, `dmesg` says so",
        )
    return Internal(f"{step} {name}: the worker ended with exit code {code}", phase=step, cause=text[-200:])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


async def finish(process: asyncio.subprocess.Process, patience_s: float = 0.0) -> None:
    """Let a worker that has said its last word end within `patience_s`, and make it end otherwise; leave no zombie."""
    try:
        if patience_s:
            async with asyncio.timeout(patience_s):
                await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            try:
                process.kill()
            except ProcessLookupError:
                pass
            await asyncio.shield(process.wait())
