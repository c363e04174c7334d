"""Patterns of ``.dockerignore`` files with Docker's rules: the last that matches a path, or a directory above it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from posixpath import normpath

from isola.errors import InvalidInput, TooLarge

MAX_FILE = 1 << 20
"""Bytes of an ignore file."""
MAX_PATTERNS = 10_000
_MAX_INNER = 2
"""``**`` beside other characters of a name, in one pattern: each can cost as much as the path is long."""


class Patterns:
    """Paths are relative to the root of the context, without ``./``. Raises InvalidInput, TooLarge."""

    def __init__(self, patterns: Iterable[str]) -> None:
        found = [pattern.strip() for pattern in patterns]
        if len(found) > MAX_PATTERNS:
            raise TooLarge(f"There are more than {MAX_PATTERNS} patterns", field="dockerignore")
        cleaned = [(pattern.startswith("!"), _clean(pattern)) for pattern in found if pattern]
        self._rules = [(keep, _compiled(pattern)) for keep, pattern in cleaned if pattern != "."]
        self._kept = [pattern for keep, pattern in cleaned if keep]

    def excludes(self, path: str) -> bool:
        """Whether the path is left out."""
        out = False
        for keep, rule in self._rules:
            if keep is out and rule.match(path):
                out = not keep
        return out

    def skips(self, directory: str) -> bool:
        """Whether nothing below an excluded directory can be kept by another pattern."""
        below = f"{directory}/"
        return not any(kept.startswith(below) or below.startswith(f"{kept}/") or _wild(kept) for kept in self._kept)


def read_ignore_file(data: bytes) -> Patterns:
    """Lines that begin with ``#`` are comments."""
    if len(data) > MAX_FILE:
        raise TooLarge(f"The ignore file has more than {MAX_FILE} bytes", field="dockerignore")
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    return Patterns(line for line in text.splitlines() if not line.startswith("#"))


def name_pattern(pattern: str) -> re.Pattern[str]:
    """One name with ``*``, ``?`` and sets, to be matched as a whole. Raises InvalidInput."""
    try:
        return re.compile(_name(re.sub(r"\*+", "*", pattern)), re.DOTALL)
    except re.error as error:
        raise InvalidInput(f"The pattern {pattern[:80]!r} is wrong: {error}", field="dockerignore") from error


def _clean(pattern: str) -> str:
    rest = pattern.removeprefix("!").strip()
    if not rest:
        raise InvalidInput(f'illegal exclusion pattern: "{pattern[:80]}"', field="dockerignore")
    return normpath(rest).lstrip("/") or "."


def _wild(pattern: str) -> bool:
    return any(char in pattern for char in "*?[\\")


def _compiled(pattern: str) -> re.Pattern[str]:
    """Matches a path if the pattern matches it, or a directory that it is in."""
    if sum("**" in part and part != "**" for part in pattern.split("/")) > _MAX_INNER:
        raise InvalidInput(f"The pattern has too many '**': {pattern[:80]!r}", field="dockerignore")
    try:
        return re.compile(rf"{_expression(pattern.split('/'))}(?:/|\Z)", re.DOTALL)
    except (re.error, RecursionError) as error:
        raise InvalidInput(f"The pattern {pattern[:80]!r} is wrong: {error}", field="dockerignore") from error


def _expression(parts: list[str]) -> str:
    """Runs of names between ``**`` match where they first can: nothing is gained by a later place."""
    found, run = "", list[str]()
    anywhere = False
    for part in parts:
        if part != "**":
            run.append(_name(part))
            continue
        found += _placed(run, anywhere=anywhere, last=False)
        run, anywhere = [], True
    if not run:  # everything below, but not the directory itself
        return found + ".+" if anywhere else found
    return found + _placed(run, anywhere=anywhere, last=True)


def _placed(run: list[str], *, anywhere: bool, last: bool) -> str:
    text = "/".join(run) + ("" if last or not run else "/")
    if not anywhere or not run:
        return text
    return rf"(?:[^/]+/)*?{text}" if last else rf"(?>(?:[^/]+/)*?{text})"


def _name(part: str) -> str:
    """One name as an expression; a star stops where what follows it first matches."""
    pieces, at = [""], 0
    while at < len(part):
        if part.startswith("**", at):
            pieces[-1] += ".*"
            at += 2
        elif part[at] == "*":
            pieces.append("")
            at += 1
        else:
            text, at = _character(part, at)
            pieces[-1] += text
    if len(pieces) == 1:
        return pieces[0]
    middle = "".join(rf"(?>[^/]*?{piece})" for piece in pieces[1:-1] if piece)
    return rf"{pieces[0]}{middle}[^/]*{pieces[-1]}"


def _character(part: str, at: int) -> tuple[str, int]:
    char = part[at]
    if char == "?":
        return "[^/]", at + 1
    if char == "[":
        end = part.find("]", at + 2)
        if end < 0:
            raise InvalidInput(f"syntax error in pattern: {part[:80]!r}", field="dockerignore")
        inside = part[at + 1 : end]
        negated = inside[0] == "^"  # a "!" is one of the characters
        return f"(?!/)[{'^' * negated}{_set(inside[negated:])}]", end + 1
    if char == "\\":
        if at + 1 == len(part):
            raise InvalidInput(f"syntax error in pattern: {part[:80]!r}", field="dockerignore")
        return re.escape(part[at + 1]), at + 2
    return re.escape(char), at + 1


def _set(inside: str) -> str:
    return re.sub(r"([\[\]&~|\\^])", r"\\\1", inside)
