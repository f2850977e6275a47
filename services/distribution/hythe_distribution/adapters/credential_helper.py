"""Programs that keep logins: Docker's ``docker-credential-…``, spoken to over their standard input and output."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import time

from hythe import setting_list
from hythe.errors import FailedPrecondition
from hythe_distribution.credentials import Credentials, without_secrets

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1 << 20
TOKEN_USER = "<token>"
_PIECE_BYTES = 64 << 10

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_NONE = "credentials not found"
_NOT_FOR_IT = frozenset(setting.variable for setting in setting_list.ALL if setting.secret)


class CredentialHelper:
    """One helper by its short name, e.g. ``pass`` for ``docker-credential-pass``. Every call may take up to 10 s.

    All raise FailedPrecondition: there is no such program, it fails, takes longer, or answers nonsense or too much. It gets
    the environment of this process without our own secrets.
    """

    def __init__(self, name: str, named_by: str, timeout_s: float = TIMEOUT_S) -> None:
        """Start nothing yet; `named_by` is the file that names the helper, for error messages."""
        self.program = f"docker-credential-{name}"
        self._named_by = named_by
        self._timeout_s = timeout_s
        if not _NAME.fullmatch(name):
            raise FailedPrecondition(
                f"read {named_by}: {name[:100]!r} is no name of a credential helper", next_step="mend the file"
            )

    def get(self, server: str) -> Credentials | None:
        """Return the login kept for a server, or None."""
        answer = self._run("get", server.encode())
        if answer is None:
            return None
        try:
            found = json.loads(answer)
            username, secret = found["Username"], found["Secret"]
        except (ValueError, KeyError, TypeError, RecursionError):
            username = secret = None
        if not isinstance(username, str) or not isinstance(secret, str):
            raise self._failed("get", "its answer is no login")
        if username == TOKEN_USER:
            return Credentials("", "", secret)
        return Credentials(username, secret) if username or secret else None

    def store(self, server: str, credentials: Credentials) -> None:
        """Keep a login, in the place of any before."""
        token = credentials.identity_token
        login = {
            "ServerURL": server,
            "Username": TOKEN_USER if token else credentials.username,
            "Secret": token or credentials.password,
        }
        self._run("store", json.dumps(login).encode(), credentials.secrets)

    def erase(self, server: str) -> None:
        """Forget a login, if there is one."""
        self._run("erase", server.encode())

    def _run(self, action: str, given: bytes, secrets: tuple[str, ...] = ()) -> bytes | None:
        """Return what the helper answers; None if it says that it has no such login."""
        question = os.memfd_create("question")
        try:
            os.write(question, given)
            os.lseek(question, 0, os.SEEK_SET)
            process = subprocess.Popen(
                [self.program, action],
                stdin=question,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={name: value for name, value in os.environ.items() if name not in _NOT_FOR_IT},
                start_new_session=True,
            )
        except OSError as error:
            raise self._failed(action, error.strerror or str(error)) from error
        finally:
            os.close(question)
        with process:
            try:
                answer, complaint = self._listen(action, process)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # what it has started too, which may hold its output open
                raise
        if process.returncode == 0:
            return answer
        said = b"" if answer.lstrip().startswith(b"{") else answer  # a login that it gives all the same is not shown
        text = without_secrets(said + b" " + complaint, secrets).decode(errors="replace").strip()
        if _NONE in text.lower():
            return None
        shown = "".join(c if c.isprintable() else " " for c in text)[:300]
        raise self._failed(action, shown or f"exit code {process.returncode}")

    def _listen(self, action: str, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        """Return all of stdout and of stderr once the helper has ended."""
        assert process.stdout is not None and process.stderr is not None
        said = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        give_up = time.monotonic() + self._timeout_s
        with selectors.DefaultSelector() as selector:
            for fd in said:
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(0.0, give_up - time.monotonic()))
                if not ready:
                    raise self._failed(action, f"no answer within {self._timeout_s:g} s")
                for key, _ in ready:
                    data = os.read(key.fd, _PIECE_BYTES)
                    said[key.fd] += data
                    if not data:
                        selector.unregister(key.fd)
                    elif len(said[key.fd]) > MAX_ANSWER_BYTES:
                        raise self._failed(action, f"it says more than {MAX_ANSWER_BYTES} bytes")
        try:
            process.wait(max(0.0, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._failed(action, f"no end within {self._timeout_s:g} s") from None
        answer, complaint = said.values()
        return bytes(answer), bytes(complaint)

    def _failed(self, action: str, cause: str) -> FailedPrecondition:
        return FailedPrecondition(
            f"{action} a login by {self.program}",
            cause=cause,
            next_step=f"make it work for the user of the distribution service, or take it out of {self._named_by}",
        )
