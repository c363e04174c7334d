"""Environment files: lines ``NAME=value``, with quotes, comments, ``export`` and variables."""

from __future__ import annotations

import re
from collections.abc import Mapping

from isola.compose.variables import Variables
from isola.errors import InvalidInput

_LINE = re.compile(r"\s*(?:export\s+)?([_a-zA-Z][_a-zA-Z0-9.-]*)[ \t]*(?:([=:])[ \t]*)?", re.ASCII)
_COMMENT = re.compile(r"[ \t]+#.*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$$"}
_LARGEST = 1 << 20


def parse_env(text: str, known: Mapping[str, str], name: str, *, raw: bool = False) -> dict[str, str | None]:
    """Variables of a file; None for one that is named without a value and is not ``known``.

    Values may refer to earlier variables and to ``known``, which take precedence, unless single-quoted or ``raw``.
    Raises InvalidInput with the line.
    """
    if len(text) > _LARGEST:
        raise InvalidInput(f"{name} is too large", evidence=f"over {_LARGEST} bytes")
    found: dict[str, str | None] = {}
    at, text = 0, text.removeprefix("\ufeff").replace("\r\n", "\n")
    while at < len(text):
        end = _line_end(text, at)
        line = text[at:end]
        if not line.strip() or line.lstrip().startswith("#"):
            at = end + 1
            continue
        match = _LINE.match(text, at, end)
        if match is None or (match[2] is None and match.end() != len(line.rstrip()) + at):
            number = text.count("\n", 0, at) + 1
            raise InvalidInput(f"{name}, line {number}: NAME=value is expected", evidence=repr(line[:80]))
        if match[2] is None:
            found[match[1]] = known.get(match[1])
            at = end + 1
        else:
            given = {key: value for key, value in found.items() if value is not None}
            found[match[1]], at = _value(text, match.end(), Variables({**given, **known}), name, raw=raw)
    return found


def _value(text: str, at: int, variables: Variables, name: str, *, raw: bool) -> tuple[str, int]:
    """A value, and where the next line begins."""
    end = _line_end(text, at)
    if raw:
        return text[at:end], end + 1
    quote = text[at] if at < end and text[at] in "'\"" else ""
    if not quote:
        value = _COMMENT.sub("", " " + text[at:end]).strip()
        return variables.text(value, name), end + 1
    close = _closing(text, at + 1, quote)
    if close < 0:
        number = text.count("\n", 0, at) + 1
        raise InvalidInput(f"{name}, line {number}: the quote is not closed")
    value, rest = text[at + 1 : close], text[close + 1 : _line_end(text, close)].strip()
    if rest and not rest.startswith("#"):
        number = text.count("\n", 0, close) + 1
        raise InvalidInput(f"{name}, line {number}: unexpected text after the quote", evidence=repr(rest[:80]))
    if quote == '"':
        value = variables.text(re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), value), name)
    return value, _line_end(text, close) + 1


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _closing(text: str, at: int, quote: str) -> int:
    while at < len(text):
        if text[at] == "\\" and quote == '"':
            at += 2
        elif text[at] == quote:
            return at
        else:
            at += 1
    return -1
