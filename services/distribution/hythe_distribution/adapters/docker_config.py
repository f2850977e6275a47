"""Logins in Docker's ``config.json``, and in the helpers that it names."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from pathlib import Path
from typing import Any

from hythe.durable import write_atomic
from hythe.errors import FailedPrecondition
from hythe.reference import DEFAULT_HOST
from hythe_distribution.adapters.credential_helper import TIMEOUT_S, CredentialHelper
from hythe_distribution.credentials import Credentials
from hythe_distribution.hosts import DOCKER_HUB

MAX_FILE_BYTES = 4 << 20

_HUB_KEY = "https://index.docker.io/v1/"

_Config = dict[str, Any]


class DockerConfig:
    """A body of `hythe_distribution.credentials.CredentialStore`; safe to use from several threads.

    A helper for the registry alone (``credHelpers``) comes before one for all (``credsStore``), and that before what the
    file itself keeps (``auths``). The file is read anew each time.
    """

    def __init__(self, directory: Path, helper_timeout_s: float = TIMEOUT_S) -> None:
        """Use the ``config.json`` in `directory`; neither has to be there.

        Args:
            helper_timeout_s: seconds after which a helper that doesn't answer is stopped.
        """
        self._path = directory / "config.json"
        self._helper_timeout_s = helper_timeout_s
        self._lock = threading.Lock()

    def find(self, host: str) -> Credentials | None:
        """See `hythe_distribution.credentials.CredentialStore.find`."""
        config = self._read()
        helper = self._helper(config, host)
        found = helper.get(_key(host)) if helper else None
        return found or self._in_file(config, host)

    def keep(self, host: str, credentials: Credentials) -> str:
        """See `hythe_distribution.credentials.CredentialStore.keep`."""
        with self._lock:
            config = self._read()
            helper = self._helper(config, host)
            entry: dict[str, str] = {}
            if helper:
                helper.store(_key(host), credentials)
            else:
                # with a token Docker keeps the user's name and an empty password
                password = "" if credentials.identity_token else credentials.password
                entry["auth"] = base64.b64encode(f"{credentials.username}:{password}".encode()).decode()
                if credentials.identity_token:
                    entry["identitytoken"] = credentials.identity_token
            auths = self._table(config, "auths")
            kept = {key: value for key, value in auths.items() if not _matches(key, host)}
            self._write({**config, "auths": {**kept, _key(host): entry}})
            return helper.program if helper else str(self._path)

    def forget(self, host: str) -> bool:
        """See `hythe_distribution.credentials.CredentialStore.forget`."""
        with self._lock:
            config = self._read()
            helper = self._helper(config, host)
            had = helper is not None and helper.get(_key(host)) is not None
            if helper and had:
                helper.erase(_key(host))
            auths = self._table(config, "auths")
            kept = {key: value for key, value in auths.items() if not _matches(key, host)}
            if len(kept) != len(auths):
                had = had or self._in_file(config, host) is not None
                self._write({**config, "auths": kept})
            return had

    def _in_file(self, config: _Config, host: str) -> Credentials | None:
        auths = self._table(config, "auths")
        keys = sorted((key for key in auths if _matches(key, host)), key=lambda key: key != _key(host))
        for key in keys:
            found = self._login(key, auths[key])
            if found is not None:
                return found
        return None

    def _login(self, key: str, entry: object) -> Credentials | None:
        if not isinstance(entry, dict):
            raise self._broken(f'auths."{key}" is no object')
        texts = {name: entry.get(name) or "" for name in ("auth", "username", "password", "identitytoken")}
        for name, text in texts.items():
            if not isinstance(text, str):
                raise self._broken(f'auths."{key}".{name} is no text')
        username, password = texts["username"], texts["password"]
        if texts["auth"]:
            try:
                username, colon, password = base64.b64decode(texts["auth"], validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                colon = ""
            if not colon:
                raise self._broken(f'auths."{key}".auth is not USER:PASSWORD in base64')
            password = password.strip("\0")
        if not password and not texts["identitytoken"]:
            return None
        return Credentials(username, password, texts["identitytoken"])

    def _helper(self, config: _Config, host: str) -> CredentialHelper | None:
        helpers = self._table(config, "credHelpers")
        keys = sorted((key for key in helpers if _matches(key, host)), key=lambda key: key != _key(host))
        name = helpers[keys[0]] if keys else config.get("credsStore") or ""
        if not isinstance(name, str):
            raise self._broken(f"{'credHelpers' if keys else 'credsStore'} names no helper")
        return CredentialHelper(name, str(self._path), self._helper_timeout_s) if name else None

    def _table(self, config: _Config, name: str) -> dict[str, Any]:
        table = config.get(name) or {}
        if not isinstance(table, dict):
            raise self._broken(f"{name} is no object")
        return table

    def _read(self) -> _Config:
        try:
            if self._path.stat().st_size > MAX_FILE_BYTES:
                raise self._broken(f"it has more than {MAX_FILE_BYTES} bytes")
            raw = self._path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise self._broken("it cannot be read", error.strerror or str(error)) from error
        try:
            config = json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError):
            raise self._broken("it is no JSON") from None  # the cause could quote what it has
        if not isinstance(config, dict):
            raise self._broken("it is no JSON object")
        return config

    def _write(self, config: _Config) -> None:
        path = self._path.resolve()  # a link stays one
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(path, json.dumps(config, indent="\t").encode() + b"\n", mode=0o600)
        except OSError as error:
            raise FailedPrecondition(
                f"write {self._path}",
                cause=error.strerror or str(error),
                next_step="let the distribution service write it, or set DOCKER_CONFIG to another directory",
            ) from error

    def _broken(self, what: str, cause: str = "") -> FailedPrecondition:
        return FailedPrecondition(f"read {self._path}: {what}", cause=cause, next_step="mend or remove the file")


def _key(host: str) -> str:
    """Return the key under which Docker keeps the login of a registry."""
    return _HUB_KEY if host == DEFAULT_HOST else host


def _matches(key: str, host: str) -> bool:
    """Tell whether a key of the file is about the registry `host`: with or without scheme and path, as Docker matches."""
    name = key.removeprefix("https://").removeprefix("http://").partition("/")[0].lower()
    return name in DOCKER_HUB if host == DEFAULT_HOST else name == host.lower()
