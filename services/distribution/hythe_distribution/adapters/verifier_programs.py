"""Programs in a directory that must all allow an image, called as containerd's ``bindir`` image verifier calls them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from pathlib import Path

from hythe.errors import FailedPrecondition, HytheError, PermissionDenied
from hythe.oci import Descriptor

MAX_PROGRAMS = 10
TIMEOUT_S = 10.0
MAX_OUTPUT_BYTES = 16 * 1024
_DESCRIPTOR_TYPE = "application/vnd.oci.descriptor.v1+json"
_STDOUT, _STDERR = 1, 2
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}

log = logging.getLogger(__name__)


class VerifierPrograms:
    """A body of `hythe_distribution.verification.ImageVerifier`."""

    def __init__(self, directory: Path, timeout_s: float = TIMEOUT_S) -> None:
        """Ask the programs of `directory`, each for at most `timeout_s`; the directory is read at each question."""
        self._directory = directory
        self._timeout_s = timeout_s

    async def judge(self, name: str, target: Descriptor) -> None:
        """See `hythe_distribution.verification.ImageVerifier.judge`.

        All programs run at once, each with ``-name REFERENCE -digest DIGEST -stdin-media-type TYPE`` and the descriptor of
        the root as JSON on stdin. Exit code 0 allows; anything else, a signal or no end in time refuses.

        Spec: containerd, "Image Verification", Image Verifier Binary API.
        """
        step = f"verify image {name}"
        programs = await asyncio.to_thread(self._programs, step)
        answers = await asyncio.gather(
            *(self._ask(step, program, name, target) for program in programs), return_exceptions=True
        )
        for answer in answers:
            if answer is not None:
                raise answer

    def _programs(self, step: str) -> list[Path]:
        """Return the programs by name.

        A file that is not executable, or one too many, is a check that somebody wants and that would silently not be
        made: then nothing is allowed.
        """
        try:
            files = sorted(path for path in self._directory.iterdir() if not path.is_dir())
        except OSError as error:
            raise FailedPrecondition(
                f"{step}: the directory of verifiers {self._directory} cannot be read",
                cause=error.strerror or str(error),
                next_step="make the directory, or change the setting verifier_dir",
            ) from error
        for path in files:
            if not path.is_file() or not os.access(path, os.X_OK):
                raise FailedPrecondition(
                    f"{step}: {path} is no executable file",
                    next_step="make it executable, or take it out of the directory of verifiers",
                )
        if len(files) > MAX_PROGRAMS:
            raise FailedPrecondition(
                f"{step}: {self._directory} has {len(files)} verifiers, more than {MAX_PROGRAMS}",
                next_step="take some out, or let one program call several",
            )
        return files

    async def _ask(self, step: str, program: Path, name: str, target: Descriptor) -> HytheError | None:
        """Return why the program refuses, or None when it allows."""
        arguments = ("-name", name, "-digest", str(target.digest), "-stdin-media-type", _DESCRIPTOR_TYPE)
        question = _question(target)
        try:
            transport, conversation = await asyncio.get_running_loop().subprocess_exec(
                _Conversation,
                program,
                *arguments,
                stdin=question,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return FailedPrecondition(f"{step}: {program.name} cannot be run", cause=error.strerror or str(error))
        finally:
            os.close(question)
        try:
            async with asyncio.timeout(self._timeout_s):
                await conversation.ended
        except TimeoutError:
            return PermissionDenied(f"{step}: {program.name} has not answered within {self._timeout_s:g} s")
        finally:
            if not conversation.ended.done() or conversation.ended.cancelled():
                _kill_group(transport.get_pid())
            transport.close()
        if complaint := conversation.text(_STDERR):
            log.debug("image verifier %s: %s", program.name, complaint)
        returncode = transport.get_returncode()
        if returncode == 0:
            return None
        return PermissionDenied(f"{step}: {program.name} {_refusal(returncode)}", cause=conversation.text(_STDOUT))


class _Conversation(asyncio.SubprocessProtocol):
    """What a program says until it has ended and nobody holds its output any more; the rest of a long output is dropped.

    Attributes:
        ended: done when the program has ended and all of its output was read.
    """

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._said = {_STDOUT: bytearray(), _STDERR: bytearray()}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._said[fd] += data[: MAX_OUTPUT_BYTES - len(self._said[fd])]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def text(self, fd: int) -> str:
        """Return the start of what was said as one line of printable text."""
        words = self._said[fd].decode(errors="replace").split()
        return "".join(character if character.isprintable() else "?" for character in " ".join(words))


def _question(target: Descriptor) -> int:
    """Return a file with the descriptor, to be closed by the caller: a program may also open it as ``/dev/stdin``."""
    descriptor = {"mediaType": target.media_type, "digest": str(target.digest), "size": target.size_bytes}
    file = os.memfd_create("descriptor")
    os.write(file, json.dumps(descriptor).encode())
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _refusal(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"was ended by signal {-returncode}"
    return f"refuses it with exit code {returncode}"


def _kill_group(leader: int) -> None:
    """Kill a program with all that it started and that has not left its process group."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all have ended meanwhile
