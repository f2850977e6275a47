"""Regular expressions whose match time grows with the length of the text alone: for patterns that users send.

The syntax is what RE2 and Python have in common: literals, ``.``, classes, groups, ``|``, ``* + ? {m,n}`` (also lazy),
``^``, ``$``, ``\\d \\w \\s`` (ASCII) and their negations, ``(?i)`` at the beginning. A pattern becomes an automaton that walks
the text once; there is no backtracking, and so no pattern that never ends.
"""

from __future__ import annotations

from hythe.errors import InvalidArgument
from hythe.patterns_syntax import BEGIN, END, Choice, Many, Node, One, Sequence, parse_pattern

MAX_STATES = 1000
_MAX_REMEMBERED = 4096
_MATCH = -1

_State = frozenset[int]


class Pattern:
    """A compiled pattern; `search` may be called from several threads."""

    def __init__(self, text: str) -> None:
        """Compile `text`.

        Raises:
            InvalidArgument: it is longer than 256 characters, breaks the syntax, or repeats so much that it needs more
                than 1000 states; the message has the position.
        """
        tree, self._fold = parse_pattern(text)
        self.text = text
        self._ones: list[One | None] = []
        self._next: list[tuple[int, ...]] = []
        self._first = self._build(tree, _MATCH)
        self._steps: dict[tuple[_State, str], _State] = {}

    def search(self, text: str) -> bool:
        """Tell whether the pattern matches anywhere in `text`; takes at most 1000 steps for each character."""
        begin = self._reach((self._first,), at_start=True, at_end=False)
        again = self._reach((self._first,), at_start=False, at_end=False)
        current = begin
        for character in text:
            if _MATCH in current:
                return True
            found = self._steps.get((current, character))
            if found is None:
                if len(self._steps) >= _MAX_REMEMBERED:
                    self._steps = {}
                found = self._steps[current, character] = self._step(current, character) | again
            current = found
        return _MATCH in self._reach(tuple(current), at_start=not text, at_end=True)

    def _step(self, current: _State, character: str) -> _State:
        following: list[int] = []
        for state in current:
            one = self._ones[state] if state >= 0 else None
            if one is not None and one is not BEGIN and one is not END and one.accepts(character, self._fold):
                following += self._next[state]
        return self._reach(tuple(following), at_start=False, at_end=False)

    def _reach(self, states: tuple[int, ...], *, at_start: bool, at_end: bool) -> _State:
        """Return `states` with all that can be reached from them without a character."""
        seen = set(states)
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state == _MATCH:
                continue
            one = self._ones[state]
            if one is None or (one is BEGIN and at_start) or (one is END and at_end):
                for following in self._next[state]:
                    if following not in seen:
                        seen.add(following)
                        waiting.append(following)
        return frozenset(seen)

    def _build(self, node: Node, then: int) -> int:
        """Add the states of `node`, followed by state `then`, and return the first of them."""
        if isinstance(node, One):
            return self._add(node, then)
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                then = self._build(part, then)
            return then
        if isinstance(node, Choice):
            return self._add(None, *(self._build(part, then) for part in node.parts))
        return self._build_many(node, then)

    def _build_many(self, node: Many, then: int) -> int:
        if node.most is None:
            loop = self._add(None)
            self._next[loop] = (self._build(node.part, loop), then)
            then = loop
        else:
            after = then
            for _ in range(node.most - node.least):
                then = self._add(None, self._build(node.part, then), after)
        for _ in range(node.least):
            then = self._build(node.part, then)
        return then

    def _add(self, one: One | None, *then: int) -> int:
        if len(self._ones) >= MAX_STATES:
            raise InvalidArgument(f"compile pattern {self.text!r}: it repeats too much")
        self._ones.append(one)
        self._next.append(then)
        return len(self._ones) - 1
