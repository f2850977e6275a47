"""containerd's filter language."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.errors import InvalidArgument
from hythe.filters import MAX_FILTER_LENGTH, MAX_FILTERS, fields_of, parse_filters

# As in containerd's own examples: names, one other field, and labels.
THINGS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "plain": ({"name": "foo"}, {"foo": "true"}),
    "bare": ({"name": "bar"}, {}),
    "spaced": ({"name": "foo"}, {"foo": "present", "more complex label": "present"}),
    "quoted": ({"name": "fooer"}, {'label with \\ and "': "present"}),
    "dotted": ({"name": "fooer"}, {'label with \\ and ".post': "present", "a.b/c": ""}),
    "listed": ({"name": "baz", "other": "too complex, yo"}, {}),
    "compound": ({"name": "compound"}, {"foo": "omg_asdf.asdf-qwer"}),
}


def matching(*filters: str) -> list[str]:
    """Return the names of the things that `filters` ask for."""
    wanted = parse_filters(filters)
    return [name for name, (values, labels) in THINGS.items() if wanted.matches(fields_of(values, labels.get))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", list(THINGS)),
        ("name", list(THINGS)),
        ("other", ["listed"]),
        ("nothing", []),
        ("name.foo", []),
        ("labels", []),
        ("labels.foo", ["plain", "spaced", "compound"]),
        ("labels.foo==true", ["plain"]),
        ("labels.foo==omg_asdf.asdf-qwer", ["compound"]),
        ("name==bar", ["bare"]),
        ("name!=foo", ["bare", "quoted", "dotted", "listed", "compound"]),
        ("nothing!=x", list(THINGS)),
        ("nothing==x", []),
        ('other=="too complex, yo"', ["listed"]),
        ("name==foo,labels.foo==present", ["spaced"]),
        (" name == foo , labels.foo ", ["plain", "spaced"]),
        ('name==foo,labels."more complex label"', ["spaced"]),
        (r'labels."label with \\ and \""==present', ["quoted"]),
        (r'labels."label with \\ and \"".post', ["dotted"]),
        ('labels."a.b/c"', ["dotted"]),
        (r'labels."\x66\157\u006f"==true', ["plain"]),
        ("name~=^fo+$", ["plain", "spaced"]),
        ("name~=o", ["plain", "spaced", "quoted", "dotted", "compound"]),
        ("other~=.*", ["listed"]),
        ("name~=/^[a-b]{1,2}a/", ["bare", "listed"]),
        ("name~=|^(foo,\\|bar)$|", ["bare"]),
        (r"other~=/\w+, \w+/", ["listed"]),
        (r"other~=/\\w+, \\w+/", ["listed"]),
    ],
)
def test_filter_matches_what_it_asks_for(text: str, expected: list[str]) -> None:
    """Presence, equality, expressions, commas and quotes mean what they mean in containerd."""
    assert matching(text) == expected


def test_several_filters_ask_for_what_one_of_them_matches() -> None:
    """Commas narrow, more filters widen, and none at all asks for everything."""
    assert matching("name==bar", "labels.foo==true,name==foo") == ["plain", "bare"]
    assert matching() == list(THINGS)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("name==foo,", 10),
        ("labels.", 7),
        ("labels.|foo|==x", 7),
        ("labels.?foo", 7),
        ("labels.ns/key==value", 9),
        ("labels.key==/value", 12),
        ("labels.key==/value/", 12),
        ("image~=,id", 7),
        ("a=b", 1),
        ("a===b", 1),
        ("a == b c", 7),
        ('a=="b', 3),
        ('a=="b"c', 6),
        (r'a=="\q"', 3),
        (r'a=="\ud800"', 3),
        (r'a=="\U00110000"', 3),
        ("a~=/b", 3),
        ("a~=(b", 3),
        ("é", 0),
    ],
)
def test_filter_that_cannot_be_read_is_refused_at_its_position(text: str, position: int) -> None:
    """A mistake is told with the place where it is."""
    with pytest.raises(InvalidArgument, match=f"position {position}:"):
        parse_filters([text])


def test_filters_are_bounded() -> None:
    """Neither many nor long filters cost the store its time."""
    parse_filters(["a" * MAX_FILTER_LENGTH] * MAX_FILTERS)
    for filters in (["a" * (MAX_FILTER_LENGTH + 1)], ["a"] * (MAX_FILTERS + 1)):
        with pytest.raises(InvalidArgument):
            parse_filters(filters)


def quoted(text: str) -> str:
    """Spell any text as JSON does, whose escapes Go has, too."""
    return json.dumps(text, ensure_ascii=False)


@given(st.text(min_size=1), st.text())
def test_whatever_is_quoted_is_found(key: str, value: str) -> None:
    """Each label can be asked for by its exact key and value, whatever characters they have."""
    field = fields_of({}, {key: value}.get)
    assert parse_filters([f"labels.{quoted(key)}=={quoted(value)}"]).matches(field)
    assert not parse_filters([f"labels.{quoted(key)}!={quoted(value)}"]).matches(field)
    assert not parse_filters([f"labels.{quoted(key)}=={quoted(value + 'x')}"]).matches(field)


@given(st.text(alphabet='ab.,=!~"/|\\ \n{[(*', max_size=40))
def test_any_text_is_a_filter_or_a_mistake(text: str) -> None:
    """No text does anything else than to be read or to be refused."""
    try:
        wanted = parse_filters([text])
    except InvalidArgument:
        return
    assert wanted.matches(fields_of({"a": "b"}, lambda key: None)) in (True, False)
