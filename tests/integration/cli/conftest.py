"""A bus with the keys of a stack and made-up services, for commands as processes."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType

import pytest
from nats.aio.msg import Msg

from hythe import settings, subjects
from hythe.cli import main
from hythe.cli.context import Context
from hythe.stack.streams import ensure_streams
from tests.fakes.distribution_desk import Distribution
from tests.fixtures.secured_bus import HOST, Responder, SecuredBus
from tests.fixtures.servers import NatsServer

Answer = Callable[[Msg, Responder], Awaitable[None]]


class Desk:
    """Runs `hythe` commands against services that a test makes up.

    Attributes:
        bus: the bus; its streams are there.
    """

    def __init__(self, directory: Path, start: Callable[[str], NatsServer]) -> None:
        self.directory = directory
        (directory / "root").mkdir()
        (directory / "state").mkdir()
        self.bus = SecuredBus(directory / "root", start)
        (directory / "state" / "bus.json").write_text(json.dumps({"url": self.bus.url}))
        (directory / "hythe.toml").touch()
        client = self.bus.sync("streams")
        ensure_streams(client)
        client.close()
        self._services: list[Responder] = []

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a command."""
        return {
            "PATH": os.defpath,
            "HYTHE_ROOT": str(self.directory / "root"),
            "HYTHE_STATE": str(self.directory / "state"),
            "HYTHE_CONFIG": str(self.directory / "hythe.toml"),
        }

    @property
    def program(self) -> Path:
        """The command."""
        return Path(sys.executable).parent / "hythe"

    def run_here(self, module: ModuleType, noun: str, verb: str, *arguments: str) -> None:
        """Run `hythe NOUN VERB` of a module in this process, on a host of its own; it must succeed. Blocks."""
        parser = argparse.ArgumentParser()
        getattr(module, f"{verb}_arguments")(parser)
        main.add_global_flags(parser)
        loaded = settings.load(environment={**self.environment, "HYTHE_HOST": HOST})
        context = Context(f"{noun} {verb}", loaded, parser.parse_args(arguments), time.time_ns())
        try:
            assert getattr(module, verb)(context) == 0
        finally:
            context.close()

    async def serve(self, service: str, answer: Answer) -> Responder:
        """Answer all requests to `service` with one function."""
        made = Responder(await self.bus.client(service), answer)
        await made.listen(subjects.rpc_of_service(service))
        self._services.append(made)
        return made

    async def agent(self) -> Responder:
        """Return a connection with the rights of an agent, which may publish on io channels."""

        async def nothing(message: Msg, service: Responder) -> None:
            pass

        made = Responder(await self.bus.client("agent"), nothing)
        self._services.append(made)
        return made

    def start(
        self,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        stdout: str = "",
        stderr: int = subprocess.PIPE,
        **variables: str,
    ) -> subprocess.Popen[bytes]:
        """Start a command with its output in pipes, or its stdout in a file, or its stderr on a descriptor."""
        out = os.open(stdout, os.O_WRONLY) if stdout else subprocess.PIPE
        try:
            return subprocess.Popen(
                [self.program, *arguments],
                stdin=stdin,
                stdout=out,
                stderr=stderr,
                env={**self.environment, **variables},
            )
        finally:
            if stdout:
                os.close(out)

    def start_on_terminal(self, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
        """Start a command whose terminal the returned descriptor is the other side of; close it afterwards."""
        terminal, inside = os.openpty()
        try:
            command = ["setsid", "--ctty", "--wait", str(self.program), *arguments]
            process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, env=self.environment)
        finally:
            os.close(inside)
        return process, terminal

    async def run(self, *arguments: str, stdin: bytes | None = None, **variables: str) -> tuple[int, str, str]:
        """Run a command to its end and return exit code, stdout and stderr."""
        given = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        process = self.start(*arguments, stdin=given, stdout="", stderr=subprocess.PIPE, **variables)
        out, err = await asyncio.to_thread(process.communicate, stdin, 30)
        return process.returncode, out.decode(), err.decode()

    async def close(self) -> None:
        """Close the connections of the services."""
        for service in self._services:
            await service.client.close()


@pytest.fixture
async def desk(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> AsyncIterator[Desk]:
    """A bus and an empty set of services."""
    made = Desk(tmp_path, start_nats)
    yield made
    await made.close()


@pytest.fixture
async def distribution(desk: Desk) -> Distribution:
    """A distribution service that has no answers yet; it pulls in place of runtime as well."""
    made = Distribution()
    await desk.serve("distribution", made.answer)
    await desk.serve("runtime", made.answer)
    return made
