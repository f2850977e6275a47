"""What the commands of `hythe content` have in common: asking the service, and the digests and labels that people write."""

from __future__ import annotations

from hythe.cli import asking, output
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from hythe.cli.context import Context
    from hythe.client.content import BusContent
    from hythe.digest import Digest

MIN_PREFIX = 4


def content_of(context: Context) -> BusContent:
    """Return the content of the command's namespace on its host."""
    from hythe.client.content import BusContent

    return BusContent(context.bus, context.namespace, context.settings.host)


def ask(context: Context, noun: str, verb: str, **body: Any) -> dict[str, Any]:
    """Make one request to the host's distribution service and return its answer."""
    return content_of(context).ask(noun, verb, **body)


def pages(context: Context, noun: str, field: str, **body: Any) -> Iterator[dict[str, Any]]:
    """Yield what all pages of a list have in `field`, each asked for when it is needed."""
    return asking.pages(lambda after: ask(context, noun, "list", after=after, **body), field)


def find_digest(context: Context, text: str) -> Digest:
    """Return the digest that `text` spells or is the only one to begin with.

    Raises:
        InvalidArgument: it is none, or several blobs begin with it.
        NotFound: no blob begins with it.
    """
    from hythe.digest import parse_digest
    from hythe.errors import NotFound

    hex_digits = text.removeprefix("sha256:")
    if len(hex_digits) >= 64:
        return parse_digest(f"sha256:{hex_digits}")
    if len(hex_digits) < MIN_PREFIX or not set(hex_digits) <= set("0123456789abcdef"):
        raise InvalidArgument(f"read digest {text!r}: expected sha256: and hex digits, at least {MIN_PREFIX} of them")
    page = ask(context, "content", "list", filters=[f'digest~="^sha256:{hex_digits}"'], limit=5)
    found = [blob["digest"] for blob in page["blobs"]]
    if not found:
        raise NotFound(
            f"find blob {text}: there is none in namespace {context.namespace}",
            details={"kind": "blob"},
            next_step="`hythe content ls` lists them",
        )
    if len(found) > 1:
        raise InvalidArgument(
            f"find blob {text}: several begin with it", cause=", ".join(found), next_step="give more digits"
        )
    return parse_digest(found[0])


def parse_label(text: str) -> tuple[str, str]:
    """Return key and value of ``KEY=VALUE``.

    Raises:
        InvalidArgument: it is something else, or has no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidArgument(
            f"read label {text!r}: expected KEY=VALUE", next_step="write e.g. kept=yes; KEY= takes a label away"
        )
    return key, value


def show_labels(context: Context, found: dict[str, Any]) -> None:
    """Print what was answered to a change of labels: all of it as JSON, else the labels that there are now."""
    if context.as_json:
        output.json_line(found)
        return
    for key, value in sorted(found["labels"].items()):
        print(output.visible(f"{key}={value}"))
