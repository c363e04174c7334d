"""The API's ``filter=`` language: ``status eq Running and not name eq web1``, ``config.user.tier eq front``.

Strings compare case-insensitively. A value may use the regular expressions that clients send: ``^``, ``$``, ``.*``,
``.``, ``(a|b)``; repetition of groups is refused, so matching cannot backtrack exponentially.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from isola.errors import InvalidInput

R = TypeVar("R")
Selected = tuple[R, dict[str, object]]
Match = Callable[[Mapping[str, object]], bool]
_CLAUSES = 32
_VALUE = 1024
_SUBJECT = 256
"""Only so many characters of a string are matched against a pattern."""
_WORD = re.compile(r"\"[^\"]*\"|'[^']*'|\S+")
_SAFE = re.compile(r"(?:[\w\s^$()|/:@,-]|\\[.+*?$^()|\[\]{}/-]|\.(?:\*|\+)?)*")
_OPERATORS = ("eq", "ne", "gt", "lt", "ge", "le")


@dataclass(frozen=True, slots=True)
class _Clause:
    joined_by_or: bool
    negated: bool
    field: str
    matches: Callable[[object], bool]


def parse_filter(text: str) -> Match | None:
    """The parsed filter; None for an empty one. Raises InvalidInput."""
    tokens = _WORD.findall(text)
    if not tokens:
        return None
    clauses = _clauses(tokens)

    def match(thing: Mapping[str, object]) -> bool:
        result = True
        for clause in clauses:
            found = clause.matches(_value_of(thing, clause.field)) != clause.negated
            result = (result or found) if clause.joined_by_or else (result and found)
        return result

    return match


def select(things: Iterable[dict[str, object]], text: str) -> list[dict[str, object]]:
    """The items that match."""
    match = parse_filter(text)
    return [thing for thing in things if match is None or match(thing)]


def select_records(records: Iterable[R], shape: Callable[[R], dict[str, object]], text: str) -> list[Selected[R]]:
    """The records that match, each with its shape."""
    match = parse_filter(text)
    shapes = [(record, shape(record)) for record in records]
    return [(record, shown) for record, shown in shapes if match is None or match(shown)]


def _clauses(tokens: Sequence[str]) -> list[_Clause]:
    clauses: list[_Clause] = []
    position, joined_by_or = 0, False
    while position < len(tokens):
        negated = tokens[position].lower() == "not"
        position += negated
        if position + 3 > len(tokens) or len(clauses) == _CLAUSES:
            raise _malformed("each clause is: [not] field operator value")
        field, operator, value = tokens[position : position + 3]
        clauses.append(_Clause(joined_by_or, negated, field, _comparison(operator.lower(), _unquote(value))))
        position += 3
        if position < len(tokens):
            joined_by_or = tokens[position].lower() == "or"
            if tokens[position].lower() not in ("and", "or") or position + 1 == len(tokens):
                raise _malformed("join clauses with 'and' or 'or'")
            position += 1
    return clauses


def _comparison(operator: str, value: str) -> Callable[[object], bool]:
    if operator not in _OPERATORS:
        raise _malformed(f"operators are {', '.join(_OPERATORS)}")
    if operator in ("eq", "ne"):
        equal = _equality(value)
        return equal if operator == "eq" else lambda found: not equal(found)
    return lambda found: _ordered(operator, found, value)


def _equality(value: str) -> Callable[[object], bool]:
    pattern = _pattern(value)
    choices = {choice.lower() for choice in value.split(",")} | {value.lower()}

    def equal(found: object) -> bool:
        if isinstance(found, str):
            return found.lower() in choices or (pattern is not None and pattern.search(found[:_SUBJECT]) is not None)
        if isinstance(found, bool):
            return ("true" if found else "false") == value.lower()
        if isinstance(found, list):
            return value in found or value == str(found)
        return found is not None and str(found) == value

    return equal


def _pattern(value: str) -> re.Pattern[str] | None:
    """A pattern with bounded matching time: only a single dot may be repeated, and only a few times."""
    if len(value) > _VALUE:
        raise _malformed("a value is too long")
    if not any(sign in value for sign in "^$*+.|()\\"):
        return None
    costly = value.count(".*") + value.count(".+") > 2 or value.count("|") > 8
    if costly or not _SAFE.fullmatch(value) or re.search(r"\)[*+?]", value):
        return None
    anchored = value if "^" in value or "$" in value else f"^(?:{value})$"
    try:
        return re.compile(anchored, re.IGNORECASE)
    except re.error:
        return None


def _ordered(operator: str, found: object, value: str) -> bool:
    if isinstance(found, bool) or not isinstance(found, int):
        return False
    try:
        threshold = int(value[:20])
    except ValueError:
        raise _malformed("a number is expected beside gt, lt, ge, le") from None
    return {"gt": found > threshold, "lt": found < threshold, "ge": found >= threshold, "le": found <= threshold}[
        operator
    ]


def _value_of(thing: Mapping[str, object], path: str) -> object:
    """The value of a path: ``config.user.tier`` is key ``user.tier`` of ``config``; the longest existing key wins."""
    if path in thing:
        return thing[path]
    head, dot, rest = path.partition(".")
    inner = thing.get(head)
    return _value_of(inner, rest) if dot and isinstance(inner, Mapping) else None


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _malformed(remedy: str) -> InvalidInput:
    return InvalidInput("The filter is malformed", field="filter", remedy=remedy)
