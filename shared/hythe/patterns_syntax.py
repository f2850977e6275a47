"""The syntax of `hythe.patterns`: text to tree."""

from __future__ import annotations

import string
from dataclasses import dataclass

from hythe.errors import InvalidArgument

MAX_PATTERN_LENGTH = 256
MAX_REPEAT = 255
MAX_DEPTH = 32

Range = tuple[str, str]

_CLASSES: dict[str, tuple[Range, ...]] = {
    "d": (("0", "9"),),
    "w": (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z")),
    "s": (("\t", "\n"), ("\f", "\r"), (" ", " ")),
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_PUNCTUATION = frozenset(string.punctuation)


@dataclass(frozen=True, slots=True)
class One:
    """One character: within one of `ranges` (both ends included), or in none of them if `negated`."""

    ranges: tuple[Range, ...]
    negated: bool = False
    others: tuple[One, ...] = ()

    def accepts(self, character: str, fold: bool) -> bool:
        """Tell whether it matches; with `fold` either case does."""
        variants = {character, character.lower(), character.upper()} if fold else (character,)
        found = any(low <= variant <= high for variant in variants for low, high in self.ranges)
        found = found or any(other.accepts(character, fold) for other in self.others)
        return found != self.negated


@dataclass(frozen=True, slots=True)
class Sequence:
    """All `parts`, one after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of `parts`."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Many:
    """`part` from `least` to `most` times; `most` None means without end."""

    part: Node
    least: int
    most: int | None


Node = One | Sequence | Choice | Many

ANY = One((("\n", "\n"),), negated=True)
BEGIN = One(())  # told apart by identity: no character matches
END = One(())


def parse_pattern(text: str) -> tuple[Node, bool]:
    """Return the tree of a pattern, and whether case is to be ignored.

    Raises:
        InvalidArgument: it is longer than 256 characters or breaks the syntax; the message has the position.
    """
    if len(text) > MAX_PATTERN_LENGTH:
        raise InvalidArgument(f"parse pattern: longer than {MAX_PATTERN_LENGTH} characters")
    fold = text.startswith("(?i)")
    parser = _Parser(text, 4 if fold else 0)
    tree = parser.choice(0)
    if parser.position < len(text):
        raise parser.wrong("nothing is open here to be closed")
    return tree, fold


class _Parser:
    def __init__(self, text: str, position: int) -> None:
        self._text = text
        self.position = position

    def wrong(self, what: str) -> InvalidArgument:
        return InvalidArgument(f"parse pattern {self._text!r}: position {self.position}: {what}")

    def _peek(self) -> str:
        return self._text[self.position : self.position + 1]

    def _take(self, what: str) -> str:
        character = self._peek()
        if not character:
            raise self.wrong(f"{what} is missing")
        self.position += 1
        return character

    def choice(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.wrong(f"groups lie more than {MAX_DEPTH} deep")
        parts = [self._sequence(depth)]
        while self._peek() == "|":
            self.position += 1
            parts.append(self._sequence(depth))
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom(depth)))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, atom: Node) -> Node:
        character = self._peek()
        if character not in ("*", "+", "?", "{"):
            return atom
        if atom is BEGIN or atom is END:
            raise self.wrong("an anchor cannot be repeated")
        self.position += 1
        if character == "{":
            least, most = self._bounds()
        else:
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[character]
        if self._peek() == "?":
            self.position += 1  # lazy or greedy: whether there is a match is the same
        if self._peek() in ("*", "+", "?", "{"):
            raise self.wrong("a repetition cannot be repeated")
        return Many(atom, least, most)

    def _bounds(self) -> tuple[int, int | None]:
        end = self._text.find("}", self.position)
        first, comma, second = self._text[self.position : max(end, self.position)].partition(",")
        numbers = [number for number in (first, second) if number]
        if not first or not all(number.isascii() and number.isdigit() for number in numbers):
            raise self.wrong("expected {m}, {m,} or {m,n}; write \\{ for the character")
        least = int(first)
        most = int(second) if second else None if comma else least
        if max(least, most or 0) > MAX_REPEAT or (most is not None and most < least):
            raise self.wrong(f"a repetition goes from a smaller number to a greater, and to at most {MAX_REPEAT}")
        self.position = end + 1
        return least, most

    def _atom(self, depth: int) -> Node:
        character = self._take("a character")
        if character == "(":
            return self._group(depth)
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        if character in "*+?{":
            self.position -= 1
            raise self.wrong("there is nothing to repeat")
        return {".": ANY, "^": BEGIN, "$": END}.get(character) or One(((character, character),))

    def _group(self, depth: int) -> Node:
        if self._peek() == "?":
            if self._text[self.position + 1 : self.position + 2] != ":":
                raise self.wrong("only (?: is known, and (?i) at the beginning")
            self.position += 2
        inner = self.choice(depth + 1)
        if self._take("the group's )") != ")":
            raise self.wrong("expected )")
        # A group of its own: `(^)*` repeats the group, which is allowed where `^*` is not.
        return Sequence((inner,))

    def _class(self) -> One:
        negated = self._peek() == "^"
        if negated:
            self.position += 1
        ranges: list[Range] = []
        others: list[One] = []
        first = True
        while first or self._peek() != "]":
            first = False
            low = self._member()
            if isinstance(low, One):
                others.append(low)
                continue
            high: str | One = low
            if self._peek() == "-" and self._text[self.position + 1 : self.position + 2] not in ("]", ""):
                self.position += 1
                high = self._member()
            if isinstance(high, One) or high < low:
                raise self.wrong("a range goes from a smaller character to a greater")
            ranges.append((low, high))
        self.position += 1
        return One(tuple(ranges), negated, tuple(others))

    def _member(self) -> str | One:
        character = self._take("the class's ]")
        if character == "[" and self._peek() == ":":
            raise self.wrong("named classes are not known; write the ranges")
        if character != "\\":
            return character
        escaped = self._escape()
        return escaped if escaped.negated or len(escaped.ranges) > 1 or escaped is _DIGIT else escaped.ranges[0][0]

    def _escape(self) -> One:
        character = self._take("the escaped character")
        if character == "d":
            return _DIGIT
        if character.lower() in _CLASSES:
            return One(_CLASSES[character.lower()], negated=character.isupper())
        plain = _CONTROLS.get(character, character)
        if plain == character and character not in _PUNCTUATION:
            self.position -= 1
            raise self.wrong(f"escape \\{character} is not known")
        return One(((plain, plain),))


_DIGIT = One(_CLASSES["d"])
