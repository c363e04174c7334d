"""Checks of values in a compose file; each returns the value in its usual type, or raises InvalidInput. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from isola.errors import InvalidInput
from isola.model.units import parse_size

Check = Callable[[Any, str], Any]
"""A value and where it stands (``services.web.ports``) -> the value."""
_TRUTH = {"true": True, "false": False}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)", re.ASCII)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def wrong(where: str, expected: str, value: object = None) -> InvalidInput:
    """The error of a value with a wrong type or content."""
    evidence = f"{expected} is expected" + (f", not {str(value)[:80]!r}" if value is not None else "")
    return InvalidInput(f"{where} is invalid", evidence=evidence, field=where)


def text(value: Any, where: str) -> str:
    """A string; numbers and booleans count as what they are written as."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise wrong(where, "a string", value)
    if "\0" in value:
        raise wrong(where, "a string without NUL")
    return value


def optional(check: Check) -> Check:
    """Also null."""
    return lambda value, where: None if value is None else check(value, where)


def boolean(value: Any, where: str) -> bool:
    """Also as a string, as variables give it."""
    found = _TRUTH.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise wrong(where, "true or false", value)
    return found


def whole(value: Any, where: str) -> int:
    """An integer, also as a string."""
    try:
        if isinstance(value, bool | float) and value != int(value):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise wrong(where, "an integer", value) from None


def permissions(value: Any, where: str) -> int:
    """An integer, or a string of octal digits."""
    if isinstance(value, str):
        if not re.fullmatch(r"(0o?)?[0-7]{1,4}", value, re.ASCII):
            raise wrong(where, "a mode such as 0440", value)
        return int(value.removeprefix("0o"), 8)
    return whole(value, where)


def number(value: Any, where: str) -> float:
    """A number, also as a string."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise wrong(where, "a number", value) from None


def size(value: Any, where: str) -> int:
    """Bytes: ``512m``, ``2gb``, ``1048576``; units are powers of 1024. -1: no limit."""
    if value in (-1, "-1"):
        return -1
    try:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)[iI]?[bB]?", str(value).strip(), re.ASCII)
        return int(float(found[1]) * parse_size(f"1{found[2]}")) if found else parse_size("")
    except ValueError:
        raise wrong(where, "a size such as 512m", value) from None


def duration(value: Any, where: str) -> float:
    """Seconds of ``1m30s``."""
    written = str(value).strip()
    parts = _DURATION.findall(written)
    if not parts or "".join(amount + unit for amount, unit in parts) != written:
        if written == "0":
            return 0.0
        raise wrong(where, "a duration such as 1m30s", value)
    return sum(float(amount) * _SECONDS[unit] for amount, unit in parts)


def one_of(*choices: str) -> Check:
    """One of some strings."""

    def check(value: Any, where: str) -> str:
        if value not in choices:
            raise wrong(where, f"one of {', '.join(choices)}", value)
        return str(value)

    return check


def listed(check: Check) -> Check:
    """A sequence."""

    def each(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list):
            raise wrong(where, "a list", value)
        return [check(item, f"{where}[{at}]") for at, item in enumerate(value)]

    return each


def unique(value: Any, where: str) -> list[str]:
    """A sequence of strings, each of them once."""
    return list(dict.fromkeys(listed(text)(value, where)))


def matching(pattern: str, expected: str) -> Check:
    """A string of a form."""

    def check(value: Any, where: str) -> str:
        if not re.fullmatch(pattern, found := text(value, where), re.ASCII):
            raise wrong(where, expected, value)
        return found

    return check


def health_test(value: Any, where: str) -> list[str]:
    """A command, and before it where it runs."""
    found: list[str] = listed(text)(value, where)
    if found and found[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise wrong(where, "NONE, CMD or CMD-SHELL before the command", found[0])
    return found


def mapped(check: Check) -> Check:
    """A mapping with any keys."""

    def each(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong(where, "a mapping", value)
        return {key: check(item, f"{where}.{key}") for key, item in value.items()}

    return each


def record(keys: Mapping[str, Check], *required: str) -> Check:
    """A mapping with these keys; ``x-*`` is left out, null means absent."""

    def each(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong(where, "a mapping", value)
        found = {}
        for key, item in value.items():
            place = f"{where}.{key}" if where else key
            if key.startswith("x-"):
                continue
            if key not in keys:
                raise InvalidInput(f"Unknown key {place}", field=place, remedy="keys of your own begin with x-")
            if item is not None:
                found[key] = keys[key](item, place)
        for key in required:
            if key not in found:
                raise InvalidInput(f"{where}.{key} is missing", field=f"{where}.{key}")
        return found

    return each


def anything(value: Any, where: str) -> Any:
    """Kept as it is: nothing here acts on it."""
    return value


def either(kind: type, check: Check, other: Check) -> Check:
    """``check`` for values of ``kind``, else ``other``."""
    return lambda value, where: check(value, where) if isinstance(value, kind) else other(value, where)
