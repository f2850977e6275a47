"""The one translation of what an S3 store, or the way to it, refuses into the closed error set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree import ElementTree

import urllib3.exceptions
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from hythe.errors import (
    FailedPrecondition,
    HytheError,
    Internal,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)

MISSING = frozenset(("NoSuchKey", "NoSuchVersion", "NoSuchUpload"))
_DENIED = frozenset(
    ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccountProblem", "ExpiredToken", "InvalidToken")
)
_FULL = frozenset(("XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "XMinioAdminBucketQuotaExceeded"))
_BUSY = frozenset(("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted"))
_MISUSED = frozenset(("NoSuchBucket", "InvalidBucketName", "AuthorizationHeaderMalformed", "PermanentRedirect"))


@contextmanager
def translated(step: str, endpoint: str) -> Iterator[None]:
    """Run a block; what the store at `endpoint` refuses becomes an error that begins with `step`.

    Raises:
        Unavailable: it is away, too slow or too busy, or is no S3 store.
        PermissionDenied: it doesn't accept the keys, or they may not do this.
        FailedPrecondition: it has no such bucket, its clock is another, or its certificate isn't trusted.
        ResourceExhausted: it is full.
        NotFound: there is no such object (details ``kind=blob``).
        Internal: anything else that it says.
    """
    try:
        yield
    except S3Error as error:
        raise _of_code(error, f"{step}: S3 at {endpoint}") from error
    except ServerError as error:
        where = f"{step}: S3 at {endpoint}"
        if error.status_code == 507:
            raise _full(where, str(error)) from error
        raise Unavailable(f"{where} fails", cause=str(error), next_step=_look(endpoint)) from error
    except (InvalidResponseError, ElementTree.ParseError, ValueError) as error:
        raise Unavailable(
            f"{step}: what answers at {endpoint} does not speak S3",
            cause=str(error)[:200],
            next_step="correct HYTHE_CONTENT_URL",
        ) from error
    except urllib3.exceptions.HTTPError as error:
        raise _of_connection(error, step, endpoint) from error
    except MinioException as error:
        raise Internal(f"{step}: S3 at {endpoint} fails", cause=str(error)) from error


def _of_code(error: S3Error, where: str) -> HytheError:
    cause = f"{error.code}: {error.message}"
    if error.code == "NoSuchUpload":
        return Unavailable(f"{where} has dropped the upload", cause=cause, next_step="try again")
    if error.code in MISSING:
        return NotFound(f"{where} has no such object", cause=cause, details={"kind": "blob"})
    if error.code in _DENIED:
        return PermissionDenied(
            f"{where} denies it",
            cause=cause,
            next_step="check HYTHE_S3_ACCESS_KEY, HYTHE_S3_SECRET_KEY, and what they may do in the bucket",
        )
    if error.code in _FULL:
        return _full(where, cause)
    if error.code in _BUSY:
        return Unavailable(f"{where} is not able to", cause=cause, next_step="try again in a while")
    if error.code in _MISUSED:
        return FailedPrecondition(f"{where} has no such bucket", cause=cause, next_step="correct HYTHE_CONTENT_URL")
    if error.code == "RequestTimeTooSkewed":
        return FailedPrecondition(f"{where} has another time", cause=cause, next_step="set the clock of this host")
    return Internal(f"{where} fails", cause=cause)


def _of_connection(error: urllib3.exceptions.HTTPError, step: str, endpoint: str) -> HytheError:
    reason = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason else error
    cause = str(reason)
    if isinstance(reason, urllib3.exceptions.SSLError):
        return FailedPrecondition(
            f"{step}: no secure connection to S3 at {endpoint}",
            cause=cause,
            next_step="let this host trust the store's certificate (SSL_CERT_FILE), or put ?secure=0 for plain HTTP",
        )
    return Unavailable(f"{step}: S3 at {endpoint} does not answer", cause=cause, next_step=_look(endpoint))


def _full(where: str, cause: str) -> ResourceExhausted:
    return ResourceExhausted(f"{where} is full", cause=cause, next_step="free some space there, then try again")


def _look(endpoint: str) -> str:
    return f"see whether the store at {endpoint} runs, then try again"
