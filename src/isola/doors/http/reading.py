"""Typed reading of a client's JSON: a wrong value raises InvalidInput with the field's name.

``null`` counts as absent, because Go clients send it for empty lists and maps. So does an empty string as a value of
a mapping: as a set key it would override the profile's value.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

import orjson

from isola.errors import InvalidInput

T = TypeVar("T")
_TEXT_LIMIT = 256 * 1024
_ENTRIES = 4096


def parse_object(data: bytes) -> Fields:
    """The fields of a JSON object."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("The body is not JSON", evidence=str(error)[:200], field="body") from None
    if not isinstance(value, dict):
        raise InvalidInput("The body must be a JSON object", field="body")
    return Fields(value)


class Fields:
    """A JSON object, read field by field."""

    def __init__(self, values: Mapping[str, object], where: str = "") -> None:
        self._values = values
        self._where = where

    def has(self, name: str) -> bool:
        """Whether the field is present and not null."""
        return self._values.get(name) is not None

    def holds(self, name: str, kind: type) -> bool:
        """Whether the field is present and of this type, for fields that accept two types."""
        return isinstance(self._values.get(name), kind)

    def text(self, name: str, default: str | None = None) -> str:
        """A string without NUL; raises InvalidInput if it is absent and has no default."""
        value = self._values.get(name)
        if value is None:
            if default is None:
                raise self.wrong(name, "is missing")
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "must be a string")
        return self._checked(name, value)

    def boolean(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(name, "must be true or false")
        return value

    def whole(self, name: str, default: int, *, minimum: int = 0, maximum: int = 2**31 - 1) -> int:
        """An integer within bounds."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(name, "must be an integer")
        if not minimum <= value <= maximum:
            raise self.wrong(name, f"must be between {minimum} and {maximum}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty if it is absent."""
        value = self._values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > _ENTRIES:
            raise self.wrong(name, "must be a list of strings")
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise self.wrong(f"{name}[{index}]", "must be a string")
            self._checked(f"{name}[{index}]", item)
        return tuple(value)

    def numbers(self, name: str, *, maximum: int = 2**31 - 1) -> tuple[int, ...]:
        """A list of integers from 0; empty if it is absent."""
        value = self._values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > _ENTRIES:
            raise self.wrong(name, "must be a list of integers")
        for item in value:
            if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= maximum:
                raise self.wrong(name, f"must be a list of integers from 0 to {maximum}")
        return tuple(value)

    def lists(self, name: str) -> list[tuple[str, ...]]:
        """A list of lists of strings; empty if it is absent."""
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > _ENTRIES:
            raise self.wrong(name, "must be a list of lists")
        return [Fields({"list": each}, f"{self._where}{name}.").texts("list") for each in value]

    def mapping(self, name: str, *, empty: bool = False) -> dict[str, str]:
        """Strings by name; numbers and booleans are converted to strings, as in Incus.

        Empty strings are dropped unless ``empty``: a partial change removes keys by them.
        """
        found = {key: self._scalar(f"{name}.{key}", value) for key, value in self._object(name).items()}
        return {key: value for key, value in found.items() if value or empty}

    def mappings(self, name: str) -> dict[str, dict[str, str]]:
        """Mappings by name: devices."""
        inner = self.inside(name)
        return {key: inner.mapping(key) for key, value in self._object(name).items() if value is not None}

    def inside(self, name: str) -> Fields:
        """A nested object; empty if it is absent."""
        return Fields(self._object(name), f"{self._where}{name}.")

    def changed(self, values: Mapping[str, object]) -> Fields:
        """The same object with other values of some fields."""
        return Fields({**self._values, **values}, self._where)

    def names(self) -> list[str]:
        """Those of the fields that are present and not null."""
        return [name for name in self._values if self.has(name)]

    def objects(self, name: str) -> list[Fields]:
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > _ENTRIES:
            raise self.wrong(name, "must be a list of objects")
        found = []
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                raise self.wrong(f"{name}[{index}]", "must be an object")
            found.append(Fields(item, f"{self._where}{name}[{index}]."))
        return found

    def time(self, name: str) -> datetime | None:
        """A time in RFC 3339; None if it is absent or means "never" (year 1 or 1970)."""
        text = self.text(name, "")
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise self.wrong(name, "must be a time such as 2026-01-31T12:00:00Z") from None
        if moment.tzinfo is None:
            raise self.wrong(name, "must have a time zone")
        return None if moment.year <= 1970 else moment

    def wrong(self, name: str, what: str) -> InvalidInput:
        """An InvalidInput that names a field."""
        path = f"{self._where}{name}"[:200]
        return InvalidInput(f"Field {path!r} {what}", field=path)

    def _object(self, name: str) -> Mapping[str, object]:
        value = self._values.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or len(value) > _ENTRIES:
            raise self.wrong(name, "must be an object")
        for key in value:
            self._checked(name, key)
        return value

    def _scalar(self, name: str, value: object) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None:
            return ""
        if isinstance(value, int):
            return str(value)
        if not isinstance(value, str):
            raise self.wrong(name, "must be a string")
        return self._checked(name, value)

    def _checked(self, name: str, value: str) -> str:
        if "\0" in value:
            raise self.wrong(name, "contains NUL")
        if len(value) > _TEXT_LIMIT:
            raise self.wrong(name, "is too long")
        return value
