"""Flags of an instruction (``--chown=1000``), checked against those that it has."""

from __future__ import annotations

from collections.abc import Sequence

_TRUE = frozenset(("1", "t", "true"))
_FALSE = frozenset(("0", "f", "false"))


class Flags:
    """Raises ValueError for unknown, repeated and incomplete ones."""

    def __init__(self, written: Sequence[str], *, texts: str = "", booleans: str = "", lists: str = "") -> None:
        self._lists = lists.split()
        self._booleans = booleans.split()
        known = [*texts.split(), *self._booleans, *self._lists]
        self._values: dict[str, list[str]] = {}
        for flag in written:
            name, separator, value = flag.removeprefix("--").partition("=")
            if name not in known:
                raise ValueError(f"unknown flag: --{name[:80]}{suggestion(name, known, prefix='--')}")
            if not separator and name not in self._booleans:
                raise ValueError(f"missing a value on flag: --{name}")
            if name in self._values and name not in self._lists:
                raise ValueError(f"duplicate flag specified: --{name}")
            self._values.setdefault(name, []).append(value if separator else "true")

    def text(self, name: str) -> str:
        """Empty if it was not given."""
        return self._values.get(name, [""])[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """Each time that it was given."""
        return tuple(self._values.get(name, []))

    def given(self, name: str) -> bool:
        return name in self._values

    def on(self, name: str) -> bool:
        """A flag without a value is on."""
        value = self._values.get(name, ["false"])[0]
        return boolean(value, f"expecting boolean value for flag {name}, not: {value[:40]}")


def boolean(text: str, complaint: str) -> bool:
    """Raises ValueError with the complaint."""
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError(complaint)
    return text.lower() in _TRUE


def suggestion(word: str, known: Sequence[str], *, prefix: str = "") -> str:
    """`` (did you mean X?)`` where one is similar enough."""
    near = min(known, key=lambda each: _distance(word[:40].lower(), each.lower()), default="")
    if not near or _distance(word[:40].lower(), near.lower()) > 2:
        return ""
    return f" (did you mean {prefix}{near}?)"


def _distance(one: str, other: str) -> int:
    """Insertions, removals and exchanges of characters that turn one into the other."""
    row = list(range(len(other) + 1))
    for number, char in enumerate(one, 1):
        above, row = row, [number]
        for at, wanted in enumerate(other, 1):
            row.append(min(above[at] + 1, row[-1] + 1, above[at - 1] + (char != wanted)))
    return row[-1]
