"""Regular expressions of filters, as Go has them: searched in time that the lengths of both texts bound.

Python's own may take longer than any client would wait, which a client could ask for. All ways through the expression
are followed together instead, character by character.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

_LONGEST, _MOST_STATES, _MOST_REPEATS, _MOST_MOVES = 256, 512, 256, 128
_DEEPEST = 32
_Test = Callable[[str], bool]
_Part = Callable[[int], int]
_States = frozenset[int]
_CLASSES: dict[str, _Test] = {
    "d": lambda each: each in "0123456789",
    "w": lambda each: each == "_" or (each.isascii() and each.isalnum()),
    "s": lambda each: each in "\t\n\f\r ",
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}


@dataclass(slots=True)
class _State:
    """A step, and where it leads: after a character, or at once."""

    test: _Test | None = None
    anchor: str = ""
    """``^`` or ``$``: passed at the beginning or the end of the text only."""
    after: list[int] = field(default_factory=list)


class Expression:
    """Raises ValueError for what is none, or uses what is not known here."""

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise ValueError(f"an expression of at most {_LONGEST} characters is expected")
        self._text, self._at, self._depth = text, 0, 0
        self._states: list[_State] = []
        self._moves: dict[tuple[_States, str, bool], _States] = {}
        self._end = self._state()
        whole = self._alternatives()
        if self._at < len(text):
            raise ValueError("unexpected )")
        self._begin = whole(self._end)

    def found_in(self, text: str) -> bool:
        """Anywhere, unless anchors say where."""
        now = self._reached([self._begin], first=True, last=not text)
        for at, character in enumerate(text, 1):
            if self._end in now:
                return True
            now = self._moved(now, character, last=at == len(text))
        return self._end in now

    def _moved(self, now: _States, character: str, *, last: bool) -> _States:
        """Where all ways lead with a character, and a new one that begins behind it. Texts have much in common."""
        key = (now, character, last)
        if (known := self._moves.get(key)) is not None:
            return known
        if len(self._moves) >= _MOST_MOVES:
            self._moves.clear()
        behind = [self._begin]
        for number in now:
            state = self._states[number]
            if state.test is not None and state.test(character):
                behind += state.after
        self._moves[key] = found = self._reached(behind, first=False, last=last)
        return found

    def _reached(self, left: list[int], *, first: bool, last: bool) -> _States:
        """What states lead to without a character."""
        found = set[int]()
        while left:
            number = left.pop()
            each = self._states[number]
            if number in found or (each.anchor == "^" and not first) or (each.anchor == "$" and not last):
                continue
            found.add(number)
            left += each.after if each.test is None else ()
        return frozenset(found)

    def _state(self, *after: int, test: _Test | None = None, anchor: str = "") -> int:
        if len(self._states) >= _MOST_STATES:
            raise ValueError("the expression repeats too much")
        self._states.append(_State(test, anchor, list(after)))
        return len(self._states) - 1

    # Each of these reads a part of the expression. What it returns makes the states of the part, the last of which lead
    # to a given one, and returns the first.

    def _alternatives(self) -> _Part:
        ways = [self._sequence()]
        while self._take("|"):
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else lambda after: self._state(*(way(after) for way in ways))

    def _sequence(self) -> _Part:
        parts = list(self._parts())

        def build(after: int) -> int:
            for part in reversed(parts):
                after = part(after)
            return after

        return build

    def _parts(self) -> Iterator[_Part]:
        while self._at < len(self._text) and self._peek() not in "|)":
            part = self._single()
            if (bounds := self._bounds()) is not None:
                part = self._repeated(part, *bounds)
                self._take("?")  # whether it takes few or many makes no difference here
                if self._bounds() is not None:
                    raise ValueError("invalid nested repetition operator")
            yield part

    def _repeated(self, part: _Part, least: int, most: int | None) -> _Part:
        def build(after: int) -> int:
            if most is None:
                loop = self._state()
                self._states[loop].after = [part(loop), after]
                after = loop
            for _ in range(most - least if most is not None else 0):
                after = self._state(part(after), after)
            for _ in range(least):
                after = self._state(part(after))
            return after

        return build

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        if self._peek() != "{" or (end := self._text.find("}", self._at)) < 0:
            return None
        low, comma, high = self._text[self._at + 1 : end].partition(",")
        if not (low.isdecimal() and low.isascii()) or (high and not (high.isdecimal() and high.isascii())):
            return None
        self._at = end + 1
        least, most = int(low[:6]), int(high[:6]) if high else None if comma else int(low[:6])
        if max(least, most or 0) > _MOST_REPEATS or (most is not None and most < least):
            raise ValueError("invalid repeat count")
        return least, most

    def _single(self) -> _Part:
        character = self._next()
        if character == "(":
            return self._group()
        if character in "^$":
            return lambda after: self._state(after, anchor=character)
        if character in "*+?":
            raise ValueError(f"missing argument to repetition operator {character}")
        test = self._test(character)
        return lambda after: self._state(after, test=test)

    def _group(self) -> _Part:
        if self._take("?") and not self._take(":"):
            raise ValueError("flags and names of groups are not known")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError("too many groups within each other")
        inside = self._alternatives()
        if not self._take(")"):
            raise ValueError("missing )")
        self._depth -= 1
        return inside

    def _test(self, character: str) -> _Test:
        if character == ".":
            return lambda each: each != "\n"
        if character == "[":
            return self._set()
        if character == "\\":
            return self._escape()
        return lambda each: each == character

    def _escape(self) -> _Test:
        character = self._next()
        if found := _CLASSES.get(character.lower()):
            return found if character.islower() else lambda each: not found(each)
        if character.isalnum() and character not in _CONTROLS:
            raise ValueError(f"invalid escape sequence \\{character}")
        meant = _CONTROLS.get(character, character)
        return lambda each: each == meant

    def _set(self) -> _Test:
        other, tests = self._take("^"), list[_Test]()
        while not (self._peek() == "]" and tests):
            character = self._next()
            if character == "[" and self._peek() == ":":
                raise ValueError("named classes are not known")
            if character == "\\":
                tests.append(self._escape())
            elif self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._next()
                tests.append(_between(character, self._next()))
            else:
                tests.append(_between(character, character))
        self._next()
        return lambda each: any(test(each) for test in tests) != other

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        if not (character := self._peek()):
            raise ValueError("it ends too early")
        self._at += 1
        return character

    def _take(self, character: str) -> bool:
        taken = self._peek() == character
        self._at += taken
        return taken


def _between(first: str, last: str) -> _Test:
    if first > last:
        raise ValueError("invalid character class range")
    return lambda each: first <= each <= last


@lru_cache(maxsize=8)
def expression(text: str) -> Expression | None:
    """None for what is none: it is found nowhere, as in Docker."""
    try:
        return Expression(text)
    except ValueError:
        return None
