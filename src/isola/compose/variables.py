"""Interpolation of variables: ``$NAME``, ``${NAME:-default}``, ``${NAME:?message}``, ``${NAME:+other}``, ``$$``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from isola.errors import InvalidInput

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*", re.ASCII)
_OPERATOR = re.compile(r":?[-?+]")
_DEEPEST = 20
"""Bound of nested defaults, ``${A:-${B:-...}}``."""
_LONGEST = 1 << 20

Warn = Callable[[str], object]


class Variables:
    """The values that a compose file is interpolated with. ``missing`` is called once for each variable without one."""

    def __init__(self, values: Mapping[str, str], missing: Warn = lambda name: None) -> None:
        self._values = values
        self._missing = missing
        self._reported: set[str] = set()

    def tree(self, value: Any, where: str = "") -> Any:
        """Interpolate all strings of a document, but no keys. Raises InvalidInput."""
        if isinstance(value, str):
            return self.text(value, where)
        if isinstance(value, dict):
            return {key: self.tree(item, f"{where}.{key}" if where else str(key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.tree(item, f"{where}[{at}]") for at, item in enumerate(value)]
        return value.map(lambda inner: self.tree(inner, where)) if hasattr(value, "map") else value

    def text(self, text: str, where: str = "") -> str:
        """Raises InvalidInput for a malformed or missing required variable."""
        if "$" not in text:
            return text
        found, end = self._until(text, 0, "", where, 0)
        assert end == len(text)
        return found

    def _until(self, text: str, at: int, stop: str, where: str, depth: int) -> tuple[str, int]:
        """Interpolated text up to the character ``stop``, which is not consumed, and its position."""
        if depth > _DEEPEST:
            raise _malformed(text, where)
        parts: list[str] = []
        size = 0
        while at < len(text) and text[at] != stop:
            part, at = self._next(text, at, where, depth)
            parts.append(part)
            if (size := size + len(part)) > _LONGEST:
                raise InvalidInput("A value becomes too long", field=where or None, evidence=f"over {_LONGEST} bytes")
        return "".join(parts), at

    def _next(self, text: str, at: int, where: str, depth: int) -> tuple[str, int]:
        if text[at] != "$":
            return text[at], at + 1
        if text.startswith("$$", at):
            return "$", at + 2
        if match := _NAME.match(text, at + 1):
            return self._value(match[0]), match.end()
        if text.startswith("${", at) and (match := _NAME.match(text, at + 2)):
            return self._braced(text, match, where, depth)
        raise _malformed(text, where)

    def _braced(self, text: str, name: re.Match[str], where: str, depth: int) -> tuple[str, int]:
        if text.startswith("}", name.end()):
            return self._value(name[0]), name.end() + 1
        operator = _OPERATOR.match(text, name.end())
        if operator is None:
            raise _malformed(text, where)
        value = self._values.get(name[0])
        given = value is not None and (value != "" or not operator[0].startswith(":"))
        # The part that is not used is skipped without being evaluated: it may name a required variable.
        used = given == operator[0].endswith("+")
        reader = self if used else Variables(_Anything())
        other, end = reader._until(text, operator.end(), "}", where, depth + 1)
        if end == len(text):
            raise _malformed(text, where)
        if operator[0].endswith("?") and not given:
            raise InvalidInput(f"Variable {name[0]} is required", evidence=other[:200], field=where or None)
        if operator[0].endswith("+"):
            return (other if given else ""), end + 1
        return (value or "") if given else other, end + 1

    def _value(self, name: str) -> str:
        value = self._values.get(name)
        if value is None and name not in self._reported:
            self._reported.add(name)
            self._missing(name)
        return value or ""


class _Anything(Mapping[str, str]):
    """Stands for the values while text is skipped: every variable has one, so that nothing is missing."""

    def __getitem__(self, name: str) -> str:
        return "-"

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def _malformed(text: str, where: str) -> InvalidInput:
    return InvalidInput(
        "Malformed variable",
        evidence=repr(text[:80]),
        field=where or None,
        remedy="write $NAME or ${NAME}, and $$ for a dollar sign",
    )
