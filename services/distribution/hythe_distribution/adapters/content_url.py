"""The one reader of HYTHE_CONTENT_URL: which bodies keep blobs and records, and where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from hythe.errors import FailedPrecondition, InvalidArgument, Unavailable
from hythe.ports.content import Content
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.records_sqlite import SqliteRecords
from hythe_distribution.adapters.trust_local import LocalTrust
from hythe_distribution.ledger import TrustPlace
from hythe_distribution.records import Records

FORMS = "file:///DIRECTORY or s3://HOST[:PORT]/BUCKET[?secure=0|1&region=REGION]"

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\]")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")


class Opened(NamedTuple):
    """A store of blobs, the records of who sees which, and where it stands which metadata store may delete there."""

    content: Content
    records: Records
    trust: TrustPlace


def open_content(url: str, root: Path, reserve_bytes: int, access_key: str = "", secret_key: str = "") -> Opened:
    """Open the store that `url` names, and tidy up what a predecessor was killed over; one process owns it.

    An S3 store that is away is no error: its content says so when it is asked for something.

    Args:
        url: in one of the `FORMS`; S3 is spoken over TLS unless it says ``secure=0``.
        root: directory of the stack; ingests on their way to S3 are staged in ``<root>/content-staging``, and events of what
            was done there wait in ``<root>/content-ledger.db``.
        reserve_bytes: bytes that ingests must leave free on their file system.
        access_key, secret_key: for S3.

    Raises:
        InvalidArgument: `url` has another form.
        FailedPrecondition: the directory cannot be used, the keys are missing, or the bucket can't be.
        PermissionDenied: the keys are not accepted.
        DataLoss, ResourceExhausted: as `SqliteRecords` says.
    """
    parts = _split(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query:
            raise _wrong("a directory is an absolute path on this host")
        directory = Path(unquote(parts.path))
        content = DirectoryContent(directory, reserve_bytes)
        content.sweep()
        file = directory / "records.db"
        records = SqliteRecords(file, virgin=not file.exists() and next(content.walk(), None) is None)
        return Opened(content, records, LocalTrust(records.ledger))
    if parts.scheme != "s3":
        raise _wrong(f"scheme {parts.scheme!r} is not known")
    return _open_s3(parts, root, reserve_bytes, access_key, secret_key)


def _open_s3(parts: SplitResult, root: Path, reserve_bytes: int, access_key: str, secret_key: str) -> Opened:
    # The SDK takes 0.1 s and 7 MiB, which a directory has no use for.
    from hythe_distribution.adapters.records_s3 import S3Records
    from hythe_distribution.adapters.s3_bucket import S3Bucket
    from hythe_distribution.adapters.s3_store import S3Content
    from hythe_distribution.adapters.trust_s3 import S3Trust

    name = parts.path.removeprefix("/").removesuffix("/")
    if not _BUCKET.fullmatch(name) or ".." in name:
        raise _wrong("a bucket's name has 3 to 63 of a-z, 0-9, . and -")
    try:
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise _wrong("what stands behind ? must be key=value, joined by &") from None
    options = dict(given)
    if len(options) != len(given) or not options.keys() <= {"secure", "region"}:
        raise _wrong("only secure and region may stand behind ?, once each")
    secure, region = options.get("secure", "1"), options.get("region", "us-east-1")
    if secure not in ("0", "1"):
        raise _wrong("secure is 0 or 1")
    if not _REGION.fullmatch(region):
        raise _wrong("a region is letters, digits and -")
    if not access_key or not secret_key:
        raise FailedPrecondition(
            f"open content store s3://{parts.netloc}/{name}: it has no keys",
            next_step="set HYTHE_S3_ACCESS_KEY and HYTHE_S3_SECRET_KEY",
        )
    try:
        bucket = S3Bucket(parts.netloc, name, access_key, secret_key, secure=secure == "1", region=region)
    except ValueError:
        raise _wrong("the host is none") from None
    trust = S3Trust(bucket)
    bucket.on_open(trust.mark)
    content = S3Content(bucket, root / "content-staging", reserve_bytes)
    try:
        content.sweep()
    except Unavailable:
        pass  # the service serves what it can, and each answer says what is wrong
    return Opened(content, S3Records(bucket, root / "content-ledger.db"), trust)


def _split(url: str) -> SplitResult:
    """Return the parts of `url`; what it says is not repeated in errors, because people put keys into such URLs."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _wrong("it is no URL") from error
    if "@" in parts.netloc:
        raise _wrong("keys do not belong there; set HYTHE_S3_ACCESS_KEY and HYTHE_S3_SECRET_KEY")
    if parts.fragment or "#" in url:
        raise _wrong("nothing may stand behind #")
    host = parts.netloc.removesuffix(f":{port}") if port is not None else parts.netloc
    if parts.scheme == "s3" and not _HOST.fullmatch(host):
        raise _wrong("the host is missing or is none")
    return parts


def _wrong(what: str) -> InvalidArgument:
    return InvalidArgument(f"read HYTHE_CONTENT_URL: {what}", next_step=f"write {FORMS}")
