"""Variables and quotes of a word: ``$x``, ``${x:-y}``, ``${x#*/}``, ``${x/a/b}``, as Docker has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from isola.builds.dockerfile.patterns import replaced, without_prefix, without_suffix

MAX_VALUE = 128 << 10
"""Characters of a value: what the kernel takes as one argument of a program."""
MAX_CONTENT = 1 << 20
"""Characters of a here-document with variables."""
_DEEPEST = 50
_SPECIAL = "@*#?-$!"
_PLAIN = re.compile(r"""[^'"$\\`}/]+""")


def expand(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """The text with variables filled in and quotes and escapes removed. Raises ValueError."""
    return _Reader(text, variables, escape).whole().text


def expand_content(text: str, variables: Mapping[str, str]) -> str:
    """As ``expand`` for the content of a file: quotes stay, and a backslash escapes. Raises ValueError."""
    return _Reader(text, variables, "\\", keep_quotes=True, longest=MAX_CONTENT).whole().text


def expand_words(text: str, variables: Mapping[str, str], escape: str = "\\") -> tuple[str, ...]:
    """As ``expand``, then apart at white space outside quotes: one variable can give several words."""
    return tuple(_Reader(text, variables, escape).whole().apart())


@dataclass(slots=True)
class _Result:
    """Pieces of text; quoted ones are not separated at white space."""

    longest: int
    pieces: list[tuple[str, bool]] = field(default_factory=list)
    length: int = 0

    def add(self, text: str, *, quoted: bool = False) -> None:
        self.pieces.append((text, quoted))
        self.length += len(text)
        if self.length > self.longest:
            raise ValueError(f"a value has more than {self.longest} characters")

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)

    def apart(self) -> list[str]:
        found, word = list[str](), ""
        for text, quoted in self.pieces:
            if quoted:
                word += text
                continue
            for char in text:
                if not char.isspace():
                    word += char
                elif word:
                    found.append(word)
                    word = ""
        return [*found, word] if word else found


class _Reader:
    def __init__(
        self,
        text: str,
        variables: Mapping[str, str],
        escape: str,
        *,
        keep_quotes: bool = False,
        longest: int = MAX_VALUE,
    ) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._keep_quotes = keep_quotes
        self._longest = longest
        self._at = 0
        self._depth = 0

    def whole(self) -> _Result:
        return self._until("", keep_escapes=False)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1 : self._at]

    def _add_plain(self, result: _Result) -> None:
        """What has no meaning of its own, at once."""
        if match := _PLAIN.match(self._text, self._at):
            self._at = match.end()
            result.add(match[0])

    def _until(self, stop: str, *, keep_escapes: bool) -> _Result:
        """What is before the character ``stop``, which is read too; without one everything."""
        result = _Result(self._longest)
        while True:
            self._add_plain(result)
            char = self._next()
            if char == stop:
                return result
            if not char:
                break
            if char == "'" and not self._keep_quotes:
                result.add(self._single(), quoted=True)
            elif char == '"' and not self._keep_quotes:
                result.add(self._double(), quoted=True)
            elif char == "$":
                result.add(self._dollar())
            elif char == self._escape:
                result.add((char if keep_escapes else "") + self._next(), quoted=True)
            else:
                result.add(char)
        raise ValueError(f"syntax error: missing '{stop}'" + ("" if stop == "}" else " in ${}"))

    def _single(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise ValueError("unexpected end of statement while looking for matching single-quote")
        start, self._at = self._at, end + 1
        return self._text[start:end]

    def _double(self) -> str:
        result = _Result(self._longest)
        while char := self._next():
            if char == '"':
                return result.text
            if char == "$":
                result.add(self._dollar())
            elif char == self._escape and self._peek() in ('"', "$", self._escape, ""):
                result.add(self._next())
            else:
                result.add(char)
        raise ValueError("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        if self._peek() != "{":
            name = self._name()
            return self._variables.get(name, "") if name else "$"
        self._next()
        if self._peek() == "":
            raise ValueError("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise ValueError("syntax error: bad substitution")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError("syntax error: substitutions are nested too deeply")
        value = self._braces(self._name())
        self._depth -= 1
        return value

    def _name(self) -> str:
        """Letters, digits and underscores; digits alone if it begins with one; or one special character."""
        start = self._at
        if self._peek() and self._peek() in _SPECIAL:
            return self._next()
        digits = self._peek().isdigit()
        while (char := self._peek()) and (char.isdigit() if digits else char.isalnum() or char == "_"):
            self._at += 1
        return self._text[start : self._at]

    def _braces(self, name: str) -> str:
        """The value of what follows ``${name``."""
        modifier = self._next()
        if modifier == "}":
            return self._variables.get(name, "")
        if modifier == "/":
            return self._replacement(self._variables.get(name, ""))
        if modifier == "":
            raise ValueError("syntax error: missing '}'")
        empty_is_unset = modifier == ":"
        if empty_is_unset:
            modifier = self._next()
        if modifier not in tuple("-+?#%") or (empty_is_unset and modifier in "#%"):
            raise ValueError(f"unsupported modifier ({':' * empty_is_unset}{modifier}) in substitution")
        word = self._until("}", keep_escapes=modifier in "#%").text
        value = self._variables.get(name)
        if modifier in "#%":
            return _trimmed(value or "", modifier, word)
        return _chosen(name, value, modifier, word, empty_is_unset=empty_is_unset)

    def _replacement(self, value: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self._next()
        pattern = self._until("/", keep_escapes=True).text
        return replaced(value, pattern, self._until("}", keep_escapes=True).text, everywhere=everywhere)


def _trimmed(value: str, modifier: str, pattern: str) -> str:
    longest = pattern.startswith(modifier)
    trim = without_prefix if modifier == "#" else without_suffix
    return trim(value, pattern.removeprefix(modifier), longest=longest)


def _chosen(name: str, value: str | None, modifier: str, word: str, *, empty_is_unset: bool) -> str:
    missing = value is None or (empty_is_unset and not value)
    if modifier == "-":
        return word if missing else value or ""
    if modifier == "+":
        return "" if missing else word
    if missing:
        state = "unset" if value is None else "empty"
        raise ValueError(f"{name}: {word or f'is not allowed to be {state}'}")
    return value or ""
