"""How HYTHE_METADATA_URL is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hythe.errors import InvalidArgument
from hythe_metadata.adapters.store_url import Place, RedisPlace, SqlitePlace, read_url

DEFAULT = Path("/var/lib/hythe/metadata/metadata.db")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("", SqlitePlace(DEFAULT)),
        ("sqlite:///srv/a%20b.db", SqlitePlace(Path("/srv/a b.db"))),
        ("redis://r.lab", RedisPlace(host="r.lab")),
        ("redis://r.lab:7000/3?prefix=x.y-z", RedisPlace(host="r.lab", port=7000, db=3, prefix="x.y-z")),
        ("redis://:p%40ss@r.lab/", RedisPlace(host="r.lab", password="p@ss")),
        ("redis://[::1]:7000", RedisPlace(host="::1", port=7000)),
        (
            "rediss://me:pw@r.lab/0?ca=/etc/ca.pem",
            RedisPlace(host="r.lab", user="me", password="pw", tls=True, ca="/etc/ca.pem"),
        ),
        ("unix:///run/r.sock?db=2&prefix=x", RedisPlace(socket="/run/r.sock", db=2, prefix="x")),
        ("unix://me:pw@/run/r.sock", RedisPlace(socket="/run/r.sock", user="me", password="pw")),
    ],
)
def test_url_names_a_place(url: str, place: Place) -> None:
    """Each form of URL that the documentation gives is understood."""
    assert read_url(url, DEFAULT) == place


@pytest.mark.parametrize(
    "url",
    [
        *("metadata.db", "/srv/metadata.db", "sqlite://host/a.db", "sqlite:///", "sqlite:///a.db?x=1", "mysql://h/db"),
        *(
            "redis://",
            "redis://h:0",
            "redis://h:99999",
            "redis://h/x",
            "redis://h/1/2",
            "redis://h?prefix=",
            "redis://h a",
        ),
        *("redis://h?prefix=a&prefix=b", "redis://h?other=1", "redis://h?prefix", "redis://h?ca=/x", "rediss://h?ca=x"),
        *("redis://sesame@h", "redis://u:sesame#1@h", "unix://h/run/r.sock", "unix:///run/", "redis://h?prefix={x}"),
    ],
)
def test_url_that_names_no_place_is_refused_without_repeating_it(url: str) -> None:
    """A URL with a mistake is refused with the forms that there are, and a password in it isn't shown."""
    with pytest.raises(InvalidArgument) as caught:
        read_url(url, DEFAULT)
    assert "redis://" in caught.value.next_step
    assert "sesame" not in caught.value.message + caught.value.cause


@pytest.mark.parametrize("url", ["redis://u:sesame@h:1/2", "rediss://:sesame@h", "unix://u:sesame@/s"])
def test_place_is_shown_without_its_password(url: str) -> None:
    """However a place is shown, its password isn't, and what is shown names the same place."""
    place = read_url(url, DEFAULT)
    assert isinstance(place, RedisPlace)
    assert "sesame" not in f"{place} {place!r}"
    shown = read_url(str(place), DEFAULT)
    assert isinstance(shown, RedisPlace)
    assert (shown.host, shown.port, shown.socket, shown.db) == (place.host, place.port, place.socket, place.db)
