"""What Redis's errors mean to those who ask the store."""

from __future__ import annotations

from redis import exceptions

from hythe.errors import DataLoss, FailedPrecondition, HytheError, Internal, ResourceExhausted, Unavailable
from hythe_metadata.dump import moved

_OURS = "HYTHE"
"""Begins the errors of our own functions."""


def away(step: str, place: object, cause: object) -> Unavailable:
    """Return the error for a Redis that can't be reached; nothing was done."""
    return Unavailable(
        f"{step} {place}: Redis is away",
        service="metadata",
        cause=str(cause),
        next_step="see whether redis-server runs and listens there; hythe-metadata goes on by itself when it is back",
    )


def unknown(step: str, place: object, cause: object) -> Unavailable:
    """Return the error for a change whose answer was lost, and of which nothing could be found out."""
    return Unavailable(
        f"{step} {place}: Redis went away before it answered",
        service="metadata",
        cause=str(cause),
        outcome="unknown",
        next_step="repeat the request with the same request id when redis-server is back: it takes effect once",
    )


def translate(error: exceptions.RedisError, step: str, place: object) -> HytheError:
    """Return the error of the closed set that a refusal by Redis, met in `step` on the store at `place`, stands for."""
    said = f"{error.status_code} {error}" if getattr(error, "status_code", None) else str(error)
    word, _, rest = said.partition(" ")
    if word.startswith(_OURS):
        return _ours(word, rest, step, place)
    match word:
        case "OOM":
            return ResourceExhausted(
                f"{step} {place}: Redis has no memory left; nothing was changed",
                cause=said,
                next_step="raise maxmemory of redis-server",
            )
        case "MISCONF":
            return ResourceExhausted(
                f"{step} {place}: Redis can't write to its disk; nothing was changed",
                cause=said,
                next_step="make room on the file system of redis-server's directory, and look into its log",
            )
        case "NOAUTH" | "WRONGPASS" | "NOPERM":
            return FailedPrecondition(
                f"{step} {place}: Redis doesn't let us in",
                cause=said,
                next_step="write user and password into HYTHE_METADATA_URL (redis://USER:PASSWORD@HOST), "
                "and allow that user all keys of the prefix, the channel, FCALL, FUNCTION LOAD, CONFIG GET and INFO",
            )
        case "READONLY":
            return FailedPrecondition(
                f"{step} {place}: this Redis is a replica that can't be written",
                cause=said,
                next_step="name the primary in HYTHE_METADATA_URL",
            )
        case "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN":
            return away(step, place, said)
    if isinstance(error, exceptions.AuthenticationError):
        return translate(exceptions.ResponseError(f"WRONGPASS {said}"), step, place)
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError):
        return away(step, place, said)
    return Internal(f"{step} {place}: Redis was used wrongly", cause=said)


def _ours(word: str, rest: str, step: str, place: object) -> HytheError:
    match word.removeprefix(_OURS):
        case "REPLACED":
            return FailedPrecondition(
                f"{step} {place}: another store is there now than when it was opened",
                cause="it is empty" if rest == "empty" else f"store {rest}",
                next_step="if Redis was emptied or restored on purpose, start hythe-metadata again",
            )
        case "MOVED":
            return moved(f"{step} {place}", rest)
        case "FOREIGN":
            return FailedPrecondition(
                f"{step} {place}: something else is under this prefix",
                cause=rest,
                next_step="choose another prefix (?prefix=NAME) or another database",
            )
        case "DAMAGED":
            return DataLoss(
                f"{step} {place}: a part of the store is missing",
                cause=rest,
                next_step="nothing was overwritten: put a copy of redis-server's data back, or choose another prefix",
            )
    return Internal(f"{step} {place}: {word}", cause=rest)
