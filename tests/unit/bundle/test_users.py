"""As whom a container runs: Docker's rules for names and numbers, and none of the known ways to become root by them."""

from __future__ import annotations

import pytest

from hythe.errors import InvalidArgument
from hythe_bundle.users import MAX_GROUPS, MAX_LINE_BYTES, User, resolve

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# a comment: not:an:account
app:x:1000:1001:App:/home/app:/bin/sh
+bad:x:0:0::/:
4294967296:x:0:0:a name of digits:/:/bin/sh
wrapped:x:4294967296:0::/:
negative:x:-1:-1::/:
broken line
nogid:x:7
"""
GROUP = b"""root:x:0:
wheel:x:10:root,app
app:x:1001:
video:x:44:app,other
huge:x:99999999999:app
"""


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User(0, 0, (0, 10))),
        ("root", User(0, 0, (0, 10))),
        ("0", User(0, 0, (0, 10))),
        ("app", User(1000, 1001, (1001, 10, 44))),
        ("1000", User(1000, 1001, (1001, 10, 44))),
        ("app:video", User(1000, 44, (44,))),
        ("app:5", User(1000, 5, (5,))),
        ("4242", User(4242, 0, (0,))),
        ("4242:4243", User(4242, 4243, (4243,))),
        ("2147483647", User(2147483647, 0, (0,))),
        ("007", User(7, 0, (0,))),
    ],
)
def test_user_is_found_by_name_or_number(text: str, user: User) -> None:
    """A name or number gives the account's group and memberships; a group that is named gives that alone."""
    assert resolve(text, PASSWD, GROUP) == user


@pytest.mark.parametrize(
    "text",
    [
        "4294967296",
        "2147483648",
        "99999999999999999999",
        "-1",
        "+0",
        "+bad",
        "0x0",
        "\uff11",
        "\u0663",
        ":0",
        ":",
        "app:",
        "0:4294967296",
        "0:-1",
        "0:\uff11",
        "nobody",
        "wrapped",
        "negative",
        "nogid",
        "app:nogroup",
        "app:huge",
        " 0",
        "#",
    ],
)
def test_user_that_is_none_is_refused(text: str) -> None:
    """No text falls back to another user: not by wrapping round, not by taking digits for a name, not by an empty part."""
    with pytest.raises(InvalidArgument, match="look up user") as raised:
        resolve(text, PASSWD, GROUP)
    assert raised.value.next_step


@pytest.mark.parametrize(
    ("text", "groups", "expected"),
    [
        ("app", ("wheel", "7"), (1001, 10, 44, 7)),
        ("app:app", ("video", "44", "1001"), (1001, 44)),
        ("4242", ("0", "2147483647"), (0, 2147483647)),
        ("", ("video",), (0, 10, 44)),
    ],
)
def test_groups_are_added_by_name_or_number(text: str, groups: tuple[str, ...], expected: tuple[int, ...]) -> None:
    """Groups beside the user's own are looked up as its own is, and each is there once."""
    assert resolve(text, PASSWD, GROUP, groups).additional_gids == expected


@pytest.mark.parametrize(
    "group",
    ["", "4294967296", "2147483648", "-1", "+0", "0x0", "\uff11", "\u0663", "nogroup", "huge", " 0", ":0", "video:0"],
)
def test_group_that_is_none_is_refused(group: str) -> None:
    """No group's text wraps round, falls back to a name, or means none."""
    with pytest.raises(InvalidArgument, match="look up group") as raised:
        resolve("app", PASSWD, GROUP, ("video", group))
    assert raised.value.next_step


def test_more_groups_than_a_process_can_have_are_refused() -> None:
    """A hostile /etc/group makes no request that fails half-way in the runtime."""
    many = b"".join(b"g:x:%d:app\n" % number for number in range(MAX_GROUPS))
    with pytest.raises(InvalidArgument, match="more than 65536"):
        resolve("app", PASSWD, many, ("70000",))


def test_image_without_files_has_root_and_numbers() -> None:
    """An image of one static program needs no /etc/passwd."""
    assert resolve("", None, None) == User(0, 0, (0,))
    assert resolve("5:6", None, None) == User(5, 6, (6,))
    with pytest.raises(InvalidArgument, match="/etc/passwd"):
        resolve("app", None, None)


def test_endless_line_is_refused() -> None:
    """A line that never ends is refused, not read into memory again and again."""
    with pytest.raises(InvalidArgument, match="longer"):
        resolve("app", b"x" * (MAX_LINE_BYTES + 1), None)


def test_bytes_that_are_no_text_do_no_harm() -> None:
    """Files in another encoding are read as far as they go."""
    assert resolve("app", b"\xff\xfe:x:1:1::/:\n" + PASSWD, None).uid == 1000
