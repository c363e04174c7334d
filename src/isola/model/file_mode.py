"""Permissions as ``chmod`` takes them: ``0755``, or ``u+x,go=rX``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OCTAL = re.compile(r"0?[0-7]{1,4}", re.ASCII)
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)", re.ASCII)
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)", re.ASCII)
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_SPECIAL = {"u": 0o4000, "g": 0o2000, "o": 0}
_STICKY = 0o1000
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class FileMode:
    """Permissions, or a change of those that a file has."""

    number: int | None
    changes: tuple[tuple[str, str, str], ...] = ()
    """Whose, one of ``-+=``, and what."""

    @classmethod
    def parse(cls, text: str) -> FileMode:
        """Raises ValueError."""
        if _OCTAL.fullmatch(text):
            return cls(int(text, 8))
        found: list[tuple[str, str, str]] = []
        for clause in text.split(",") if len(text) <= _LONGEST else ("",):
            match = _CLAUSE.fullmatch(clause)
            if match is None:
                raise ValueError(
                    f"invalid chmod parameter: '{text[:40]}'. it should be octal string and between 0 and 07777, "
                    "or changes such as u+x,go=rX"
                )
            whose = "ugo" if match[1] in ("", "a") or "a" in match[1] else match[1]
            found += [(whose, *action) for action in _ACTION.findall(match[2])]
        return cls(None, tuple(found))

    def applied(self, mode: int, *, directory: bool) -> int:
        """What becomes of ``mode``."""
        if self.number is not None:
            return self.number
        for whose, sign, what in self.changes:
            mode = _changed(mode, whose, sign, what, directory=directory)
        return mode


def _changed(mode: int, whose: str, sign: str, what: str, *, directory: bool) -> int:
    bits, of = 0, 0
    for each in whose:
        bits |= _wanted(mode, what, directory=directory) << _SHIFTS[each]
        bits |= _SPECIAL[each] if "s" in what else 0
        of |= 0o7 << _SHIFTS[each] | (0 if directory else _SPECIAL[each])
    bits |= _STICKY if "t" in what else 0
    if sign == "+":
        return mode | bits
    return mode & ~bits if sign == "-" else mode & ~of | bits


def _wanted(mode: int, what: str, *, directory: bool) -> int:
    if what in _SHIFTS:
        return mode >> _SHIFTS[what] & 0o7
    found = sum(bit for name, bit in _BITS.items() if name in what)
    return found | (1 if "X" in what and (directory or mode & 0o111) else 0)
