"""The connection to conmon's attach socket, for standard input.

conmon sends a copy of all output to whoever is connected, and waits for a reader that is slow: the container would wait
with it. So everything that arrives is read at once, whatever any client does, and dropped: the log has the same bytes.
"""

from __future__ import annotations

import asyncio
import os
import socket

from hythe.errors import FailedPrecondition, Unavailable
from hythe_runtime.agent.places import RunPlace

READ_BYTES = 16 << 10
WRITE_BYTES = 8 << 10
_READS_AT_ONCE = 64


class ConmonAttacher:
    """`hythe_runtime.agent.ports.Attacher`."""

    async def attach(self, place: RunPlace) -> ConmonAttachment:
        """Connect to the attach socket of a run; once for each run."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        directory = os.open(place.directory, os.O_PATH | os.O_CLOEXEC)
        try:
            # by way of the descriptor, for a socket's path may have at most 107 bytes
            connection.connect(f"/proc/self/fd/{directory}/attach")
        except OSError as error:
            connection.close()
            raise FailedPrecondition(
                f"start {place.name} failed",
                phase="attach",
                cause=str(error),
                details={"exit_code": "125"},
            ) from error
        finally:
            os.close(directory)
        return ConmonAttachment(connection)


class ConmonAttachment:
    """`hythe_runtime.agent.ports.Attachment`: one sequenced-packet connection, read all the time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._drop_what_arrives)
        self._reading = True

    def _drop_what_arrives(self) -> None:
        try:
            for _ in range(_READS_AT_ONCE):
                if not self._socket.recv(READ_BYTES):
                    self._stop_reading()
                    return
        except BlockingIOError:
            pass
        except OSError:
            self._stop_reading()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    async def write(self, data: bytes) -> None:
        """Write to the container's standard input, waiting until it takes it."""
        try:
            for start in range(0, len(data), WRITE_BYTES):
                await self._loop.sock_sendall(self._socket, data[start : start + WRITE_BYTES])
        except OSError as error:
            raise Unavailable("write to a container's standard input: nobody reads it any more") from error

    def end(self) -> None:
        """Let the container see the end of its input, after all that was written."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # conmon is gone, and so is the container's input

    def close(self) -> None:
        """Drop the connection."""
        self._stop_reading()
        self._socket.close()
