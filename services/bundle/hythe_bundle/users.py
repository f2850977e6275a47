"""As whom a container runs: what an image or a user writes as ``user[:group]``, looked up in the image's own files.

All of it is untrusted. Digits are always a number and never fall back to a name; a number beyond 2³¹-1 is refused, because
it would be cut to another one below (CVE-2024-40635).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hythe.errors import InvalidArgument

MAX_ID = 2**31 - 1
MAX_FILE_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 16
PASSWD = "/etc/passwd"
GROUP = "/etc/group"
MAX_GROUPS = 65536
"""Groups that a process can be in. Spec: setgroups(2), NGROUPS_MAX."""

_ROOT_NAME = "root"


@dataclass(frozen=True, slots=True)
class User:
    """Ids in numbers. `additional_gids` has the primary group too, so that leaving it is no gain (CVE-2023-25173)."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve(text: str, passwd: bytes | None, group: bytes | None, groups: Sequence[str] = ()) -> User:
    """Return the user that `text` means, who is in `groups`, too.

    Without a group it is the account's, or 0 for a number without an account; the account is also in the groups that
    list it as a member. With a group it is in no other but `groups`.

    Args:
        text: ``user``, ``user:group`` or empty for root; each a number or a name.
        groups: each a number or a name.
        passwd: content of the image's /etc/passwd; None if it has none.
        group: content of the image's /etc/group; None if it has none.

    Raises:
        InvalidArgument: a number out of range, a name that isn't in the file, no user or group at all, or more groups
            than a process can be in.
    """
    whole = f"user {text[:100]!r}"
    user_text, colon, group_text = text.partition(":")
    if not text:
        user_text = "0"
    if not user_text or (colon and not group_text):
        raise _refused(whole, "there must be something on both sides of ':'")
    uid = _number(whole, user_text)
    account = _account(user_text, uid, passwd)
    if account is None and uid is None:
        raise _refused(whole, f"the image's {PASSWD} has no {user_text[:100]!r}")
    if uid is None:
        assert account is not None
        uid = account.uid
    others: list[int] = []
    if colon:
        gid = _group_id(whole, group_text, group)
    else:
        gid = account.gid if account else 0
        name = account.name if account else _ROOT_NAME if uid == 0 else ""
        others = sorted({found.gid for found in _groups(group) if name in found.members}) if name else []
    added = [_group_id(f"group {each[:100]!r}", each, group) for each in groups]
    every = tuple(dict.fromkeys((gid, *others, *added)))
    if len(every) > MAX_GROUPS:
        raise _refused(whole, f"{len(every)} groups are more than {MAX_GROUPS}")
    return User(uid, gid, every)


def _number(whole: str, text: str) -> int | None:
    """Return the number that `text` spells, or None if it is a name.

    Raises:
        InvalidArgument: digits of another script, a sign, or a number out of range.
    """
    if text.isascii() and text.isdigit():
        if len(text) > 10 or int(text) > MAX_ID:
            raise _refused(whole, f"{text[:30]} is not from 0 to {MAX_ID}")
        return int(text)
    if text.isnumeric() or text[0] in "+-":
        raise _refused(whole, f"{text[:30]!r} is neither a number nor a name")
    return None


def _account(text: str, uid: int | None, passwd: bytes | None) -> _Account | None:
    for account in _accounts(passwd):
        if account.uid == uid if uid is not None else account.name == text:
            return account
    return None


def _group_id(whole: str, text: str, group: bytes | None) -> int:
    if not text:
        raise _refused(whole, "it has no name")
    gid = _number(whole, text)
    if gid is not None:
        return gid
    for found in _groups(group):
        if found.name == text:
            return found.gid
    raise _refused(whole, f"the image's {GROUP} has no {text[:100]!r}")


def _accounts(passwd: bytes | None) -> Iterator[_Account]:
    for fields in _lines(passwd, PASSWD):
        if len(fields) >= 4 and (uid := _id(fields[2])) is not None and (gid := _id(fields[3])) is not None:
            yield _Account(fields[0], uid, gid)


def _groups(group: bytes | None) -> Iterator[_Group]:
    for fields in _lines(group, GROUP):
        if len(fields) >= 3 and (gid := _id(fields[2])) is not None:
            yield _Group(fields[0], gid, tuple(fields[3].split(",")) if len(fields) > 3 else ())


def _lines(data: bytes | None, path: str) -> Iterator[list[str]]:
    for line in (data or b"").split(b"\n"):
        if len(line) > MAX_LINE_BYTES:
            raise InvalidArgument(f"read {path} in the image: a line is longer than {MAX_LINE_BYTES} bytes")
        text = line.strip().decode(errors="surrogateescape")
        if text and not text.startswith("#"):
            yield text.split(":")


def _id(text: str) -> int | None:
    """Return an id as these files have it; None for one that is out of range or no number: such a line is no account."""
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_ID:
        return int(text)
    return None


def _refused(whole: str, reason: str) -> InvalidArgument:
    """Return the error about `whole`, a user or group as it was asked for."""
    return InvalidArgument(f"look up {whole}: {reason}", next_step="choose another with --user or --group-add")
