"""A Dockerfile's text as logical lines: parser directives, comments, continuations, here-documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from isola.builds.dockerfile.words import Heredoc, heredocs_of, is_json
from isola.errors import InvalidInput, TooLarge

MAX_FILE = 4 << 20
"""Bytes."""
MAX_INSTRUCTIONS = 4000
MAX_LINE = 512 << 10
"""Characters of an instruction without its here-documents."""
MAX_HEREDOCS = 100
MAX_COMMENTS = 100
"""Before one instruction."""
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = frozenset(("syntax", "escape", "check"))
_BOM = b"\xef\xbb\xbf"
_INSTRUCTION = re.compile(r"(?:onbuild\s+)*(run|copy|add)(?:\s+(.*))?", re.IGNORECASE | re.DOTALL)
_FLAG = re.compile(r"--\S+\s+")


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction as written: its continuation lines joined, its here-documents apart."""

    number: int
    """Of its first line in the file, from 1."""
    text: str
    heredocs: tuple[Heredoc, ...] = ()
    has_gap: bool = False
    """An empty line is between those that continue it."""
    comments: tuple[str, ...] = ()
    """On the lines just before it."""

    def wrong(self, what: object) -> InvalidInput:
        """An error in the form that Docker has."""
        return wrong(self.number, what)


@dataclass(frozen=True, slots=True)
class Source:
    """All instructions of a file as written."""

    lines: tuple[Line, ...]
    directives: dict[str, str] = field(default_factory=dict)

    @property
    def escape(self) -> str:
        """The character that escapes the next one, or the end of a line."""
        return self.directives.get("escape", "\\")


def wrong(number: int, what: object) -> InvalidInput:
    """The error for a line of a Dockerfile."""
    return InvalidInput(f"dockerfile parse error on line {number}: {what}", field="dockerfile")


def read_source(data: bytes) -> Source:
    """Raises InvalidInput, TooLarge."""
    if len(data) > MAX_FILE:
        raise TooLarge(f"The Dockerfile has more than {MAX_FILE} bytes", field="dockerfile")
    if b"\0" in data:
        raise InvalidInput("The Dockerfile is not a text file", field="dockerfile")
    text = data.removeprefix(_BOM).decode("utf-8", "replace")
    raw = [line.removesuffix("\r") for line in text.split("\n")]
    directives = _directives(raw)
    source = Source(tuple(_Reader(raw, directives.get("escape", "\\")).lines()), directives)
    if not source.lines:
        what = "file with no instructions" if text else "the Dockerfile cannot be empty"
        raise InvalidInput(what, field="dockerfile")
    return source


def _directives(raw: list[str]) -> dict[str, str]:
    """Parser directives, which end at the first other line, such as an ordinary comment."""
    found: dict[str, str] = {}
    for number, line in enumerate(raw, 1):
        match = _DIRECTIVE.fullmatch(line.lstrip())
        if match is None or (key := match[1].lower()) not in _DIRECTIVES:
            break
        if key in found:
            raise wrong(number, f"only one {key} parser directive can be used")
        if key == "escape" and match[2] not in ("\\", "`"):
            raise wrong(number, f"invalid escape token '{match[2][:20]}' does not match ` or \\")
        found[key] = match[2]
    return found


class _Reader:
    def __init__(self, raw: list[str], escape: str) -> None:
        self._raw = raw
        self._at = 0
        self._gap = False
        self._escape = escape
        self._continued = re.compile(rf"{re.escape(escape)}[ \t]*$")

    def lines(self) -> Iterator[Line]:
        count, comments = 0, list[str]()
        while self._at < len(self._raw):
            number, first = self._at + 1, self._raw[self._at].strip()
            text = self._logical()
            if not text.strip():
                comments = [*comments, first[1:].strip()] if _is_comment(first) and len(comments) < MAX_COMMENTS else []
                continue
            count += 1
            if count > MAX_INSTRUCTIONS:
                raise TooLarge(f"The Dockerfile has more than {MAX_INSTRUCTIONS} instructions", field="dockerfile")
            gap = self._gap
            yield Line(number, text.strip(), self._heredocs(number, text.strip()), gap, tuple(comments))
            comments = []

    def _logical(self) -> str:
        """The next line with those that continue it; comments and empty lines in between are left out."""
        line, more = self._ended("" if _is_comment(self._next()) else self._raw[self._at - 1].lstrip())
        parts, length = [line], len(line)
        self._gap = False
        while more and self._at < len(self._raw):
            following = self._next()
            if _is_comment(following) or not following.strip():
                self._gap = self._gap or not following.strip()
                continue
            line, more = self._ended(following)
            parts.append(line)
            length += len(line)
            if length > MAX_LINE:
                break
        if length > MAX_LINE:
            raise wrong(self._at, f"the instruction has more than {MAX_LINE} characters")
        return "".join(parts)

    def _next(self) -> str:
        self._at += 1
        return self._raw[self._at - 1]

    def _ended(self, line: str) -> tuple[str, bool]:
        """The line without a continuation character at its end, and whether it had one."""
        match = self._continued.search(line)
        return (line[: match.start()], True) if match else (line, False)

    def _heredocs(self, number: int, text: str) -> tuple[Heredoc, ...]:
        match = _INSTRUCTION.fullmatch(text) if "<<" in text else None
        if match is None or is_json(_without_flags(match[2] or "")):
            return ()
        try:
            begun = heredocs_of(match[2] or "", self._escape)
        except ValueError:
            return ()  # quotes that do not match: the shell is the one to complain
        if len(begun) > MAX_HEREDOCS:
            raise wrong(number, f"the instruction has more than {MAX_HEREDOCS} heredocs")
        return tuple(self._content(number, each) for each in begun)

    def _content(self, number: int, begun: Heredoc) -> Heredoc:
        lines: list[str] = []
        while self._at < len(self._raw):
            line = self._next()
            if (line.lstrip("\t") if begun.strip_tabs else line) == begun.name:
                return begun.with_content("".join(f"{each}\n" for each in lines))
            lines.append(line)
        raise wrong(number, f"unterminated heredoc {begun.name!r}")


def _without_flags(text: str) -> str:
    while match := _FLAG.match(text):
        text = text[match.end() :]
    return text


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")
