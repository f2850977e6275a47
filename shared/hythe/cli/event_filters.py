"""`hythe events --filter`: Docker's ``key=value`` and containerd's language, told apart by the operator.

Of Docker's, several values of one key are alternatives and different keys must all hold. Of several filters in containerd's
language one must hold. Where both are given, both must.
"""

from __future__ import annotations

import re

from hythe import events
from hythe.cli.image_words import spellings
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hythe.client.event_reader import StoredEvent

    Test = Callable[[StoredEvent], bool]

DOCKER_WORDS = {"die": "exit", "destroy": "delete", "remove": "delete", "untag": "delete"}
_DOCKER = re.compile(r"([A-Za-z-]+)=(?!=)(.*)", re.DOTALL)


def read(texts: Sequence[str]) -> Test:
    """Return a test that events pass which all of `texts` together ask for.

    Raises:
        InvalidArgument: a text is neither Docker's nor containerd's kind of filter; the message has the position.
    """
    alternatives: dict[str, list[Test]] = {}
    language: list[str] = []
    for text in texts:
        found = _DOCKER.fullmatch(text)
        if found is None:
            language.append(text)
        else:
            alternatives.setdefault(found[1], []).append(_docker(text, found[1], found[2]))
    tests = [_any_of(given) for given in alternatives.values()]
    if language:
        tests.append(_containerd(language))
    return lambda event: all(test(event) for test in tests)


def _any_of(tests: Sequence[Test]) -> Test:
    return lambda event: any(test(event) for test in tests)


def _docker(text: str, key: str, value: str) -> Test:
    maker = _MAKERS.get(key)
    if maker is None:
        raise _wrong(
            text, 0, f"there is no filter {key!r}", f"filters are {', '.join(_MAKERS)}, or containerd's language"
        )
    if not value:
        raise _wrong(text, len(key) + 1, f"expected {key}=VALUE")
    try:
        return maker(value)
    except InvalidArgument as error:
        raise _wrong(text, len(key) + 1, error.message, error.next_step) from None


def _wrong(text: str, position: int, what: str, next_step: str = "") -> InvalidArgument:
    return InvalidArgument(f"read --filter {text!r}: position {position}: {what}", next_step=next_step)


def _type(value: str) -> Test:
    if value not in events.NOUNS:
        raise InvalidArgument(f"there is no type {value!r}", next_step=f"types are {', '.join(events.NOUNS)}")
    return lambda event: event.noun == value


def _event(value: str) -> Test:
    word = DOCKER_WORDS.get(value, value)
    known = {kind.topic.rpartition("/")[2] for kind in events.EVENTS} | {kind.past for kind in events.EVENTS}
    if word not in known:
        raise InvalidArgument(f"there is no event {value!r}", next_step=f"events are {', '.join(sorted(known))}")
    return lambda event: word in (event.body["topic"].rpartition("/")[2], event.past)


def _container(value: str) -> Test:
    return lambda event: (
        event.noun == "container"
        and (event.body["object_id"].startswith(value) or event.body["attributes"].get("name") == value)
    )


def _image(value: str) -> Test:
    def test(event: StoredEvent) -> bool:
        attributes = event.body["attributes"]
        reference = attributes.get("name" if event.noun == "image" else "image", "")
        return bool(reference) and value in (*spellings(reference), attributes.get("digest"))

    return test


def _label(value: str) -> Test:
    key, equals, wanted = value.partition("=")

    def test(event: StoredEvent) -> bool:
        found = event.body["attributes"].get(f"labels.{key}")
        return found is not None and (not equals or found == wanted)

    return test


def _host(value: str) -> Test:
    return lambda event: event.body["host"] == value


_MAKERS: dict[str, Callable[[str], Test]] = {
    "container": _container,
    "event": _event,
    "host": _host,
    "image": _image,
    "label": _label,
    "type": _type,
}
_PLAIN = ("topic", "namespace", "host", "object_id", "time", "caller", "request_id", "trace_id")


def _containerd(texts: Sequence[str]) -> Test:
    from hythe.filters import parse_filters  # only where that language is used

    for text in texts:
        if text in _MAKERS:
            raise _wrong(text, len(text), f"expected {text}=VALUE")
        if not text.strip():
            raise _wrong(text, 0, "it is empty")
    try:
        wanted = parse_filters(texts)
    except InvalidArgument as error:
        error.next_step = (
            f"write e.g. namespace==default,topic~=|^/tasks/|, or KEY=VALUE with one of {', '.join(_MAKERS)}"
        )
        raise

    def test(event: StoredEvent) -> bool:
        def field(path: tuple[str, ...]) -> tuple[str, bool]:
            found: str | None = None
            if path[0] in _PLAIN and len(path) == 1:
                found = event.body[path[0]]
            elif path[0] == "event":
                found = event.body["attributes"].get(".".join(path[1:]))
            elif path[0] == "labels":
                found = event.body["attributes"].get(".".join(path))
            return found or "", found is not None

        return wanted.matches(field)

    return test
