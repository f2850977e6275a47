"""What is believed of an answer before its first byte is read: status, size, digest, type and range."""

from __future__ import annotations

import re
from types import TracebackType

from hythe.digest import Digest, parse_digest
from hythe.errors import DataLoss, InvalidArgument, OutOfRange, Unavailable
from hythe.oci import Descriptor
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES, Kind, refusal
from hythe_distribution.adapters.registry.response import Response

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_NO_RANGE = re.compile(r"bytes \*/(\d{1,19})")


class Blob:
    """A body of `hythe_distribution.registry.Body`."""

    def __init__(self, response: Response, offset: int, ranged: bool) -> None:
        self.offset = offset
        self.ranged = ranged
        self._response = response

    def readinto(self, buffer: memoryview) -> int:
        """See `hythe_distribution.registry.Body.readinto`."""
        return self._response.readinto(buffer)

    def __enter__(self) -> Blob:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()


def range_header(step: str, descriptor: Descriptor, offset: int, length: int | None) -> dict[str, str]:
    """Return the header that asks for a part of a blob; none for the whole.

    Raises:
        OutOfRange: the blob has no such part.

    Spec: RFC 9110, 14.1.2.
    """
    size_bytes = descriptor.size_bytes
    if offset == 0 and length is None:
        return {}
    if offset < 0 or offset >= size_bytes or (length is not None and not 0 < length <= size_bytes - offset):
        raise OutOfRange(f"{step}: it has {size_bytes} bytes, none of which are {length or 'all'} from {offset} on")
    last = size_bytes - 1 if length is None else offset + length - 1
    return {"Range": f"bytes={offset}-{last}"}


def body_of(step: str, response: Response, descriptor: Descriptor, wanted: dict[str, str], kind: Kind) -> Blob:
    """Return the body of an answer that is good for `descriptor`.

    Args:
        wanted: what `range_header` gave for the request.

    Raises:
        NotFound: there is no such blob.
        DataLoss: another size, digest or range is offered.
        Unavailable: the bytes come encoded, or the server cannot give the range.
        HytheError: any other refusal, see `refusal`.
    """
    if response.status == 206 and wanted:
        require_plain(step, response)
        first, last = (int(text) for text in wanted["Range"].removeprefix("bytes=").split("-"))
        _require_range(step, response, descriptor, first, last)
        return Blob(response, first, True)
    if response.status == 416 and wanted:
        raise _no_range(step, response, descriptor)
    require_success(step, response, kind)
    size_bytes, stated = response.size_bytes, stated_digest(step, response)
    if size_bytes is not None and size_bytes != descriptor.size_bytes:
        raise DataLoss(f"{step}: expected {descriptor.size_bytes} bytes, {response.endpoint} offers {size_bytes}")
    if stated is not None and stated != descriptor.digest:
        raise DataLoss(f"{step}: {response.endpoint} offers {stated}")
    return Blob(response, 0, False)


def require_success(step: str, response: Response, kind: Kind) -> None:
    """Return if the answer is the whole of what was asked for, as it is.

    Raises:
        Unavailable: it comes encoded.
        HytheError: it is a refusal, see `refusal`.
    """
    if response.status != 200:
        body = response.read_front(MAX_PROBLEM_BYTES)
        raise refusal(step, response.endpoint, response.status, body, kind)
    require_plain(step, response)


def require_plain(step: str, response: Response) -> None:
    """Return if the bytes come as they are.

    Raises:
        Unavailable: they come encoded, which would break every digest.
    """
    encoding = response.header("Content-Encoding").strip().lower()
    if encoding not in ("", "identity"):
        raise Unavailable(f"{step}: {response.endpoint} sends the bytes encoded as {encoding[:50]!r}, unasked")


def require_type(step: str, response: Response, descriptor: Descriptor) -> None:
    """Return if a manifest is offered as what its descriptor says.

    Raises:
        InvalidArgument: it is offered as another type.
    """
    media_type = media_type_of(response)
    if media_type != descriptor.media_type:
        raise InvalidArgument(
            f"{step}: its descriptor says {descriptor.media_type}, {response.endpoint} says {media_type!r}"
        )


def media_type_of(response: Response) -> str:
    """Return the type that an answer says its body has, without parameters."""
    return response.header("Content-Type").partition(";")[0].strip().lower()


def stated_digest(step: str, response: Response) -> Digest | None:
    """Return the digest that a registry states; one in another algorithm than sha256 is as good as none.

    Raises:
        DataLoss: it states one that is none.
    """
    stated = response.header("Docker-Content-Digest").strip()
    if not stated.startswith("sha256:"):
        return None
    try:
        return parse_digest(stated)
    except InvalidArgument as error:
        raise DataLoss(f"{step}: {response.endpoint} states a digest that is none", cause=error.message) from None


def _require_range(step: str, response: Response, descriptor: Descriptor, first: int, last: int) -> None:
    text = response.header("Content-Range")
    found = _CONTENT_RANGE.fullmatch(text.strip())
    length = last - first + 1
    if (
        found is None
        or (int(found[1]), int(found[2])) != (first, last)
        or found[3] not in ("*", str(descriptor.size_bytes))
        or response.size_bytes not in (None, length)
    ):
        raise DataLoss(
            f"{step}: asked for bytes {first}-{last} of {descriptor.size_bytes}, {response.endpoint} offers others",
            cause=text[:100],
        )


def _no_range(step: str, response: Response, descriptor: Descriptor) -> DataLoss | Unavailable:
    found = _NO_RANGE.fullmatch(response.header("Content-Range").strip())
    if found and int(found[1]) != descriptor.size_bytes:
        return DataLoss(f"{step}: expected {descriptor.size_bytes} bytes, {response.endpoint} has {found[1]}")
    return Unavailable(
        f"{step}: {response.endpoint} cannot give that part of it", cause="HTTP 416 Range Not Satisfiable"
    )
