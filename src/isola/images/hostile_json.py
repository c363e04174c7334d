"""Reading untrusted JSON documents: every value has the expected type and size, or InvalidInput is raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson

from isola.errors import InvalidInput, TooLarge

T = TypeVar("T")
MAX_DOCUMENT = 4 << 20
"""Largest manifest or configuration in bytes, the limit of most registries."""
MAX_ITEMS = 1000
"""Most items of a list or mapping."""
MAX_TEXT = 64 << 10
"""Most characters of a string."""
_MAX_SIZE = 1 << 50


class Fields:
    """One JSON object. Missing fields and null count as empty; a wrong type is an error."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(where, "is not an object")
        self._fields: dict[str, Any] = value
        self._where = where

    @classmethod
    def parse(cls, data: bytes, where: str) -> Fields:
        """Raises InvalidInput, TooLarge."""
        if len(data) > MAX_DOCUMENT:
            raise TooLarge(f"The {where} is larger than {MAX_DOCUMENT} bytes", evidence=f"{len(data)} bytes")
        try:
            return cls(orjson.loads(data), where)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"The {where} is not JSON", evidence=str(error), field=where) from None

    def __contains__(self, key: str) -> bool:
        return self._fields.get(key) is not None

    def text(self, key: str, *, longest: int = MAX_TEXT) -> str:
        """A string without NUL; empty if absent."""
        return _text(self._fields.get(key) or "", self._at(key), longest)

    def number(self, key: str, *, most: int = _MAX_SIZE) -> int:
        """A non-negative number; 0 if absent."""
        value = self._fields.get(key)
        if value is None:
            return 0
        if type(value) is not int or not 0 <= value <= most:
            raise _wrong(self._at(key), f"is not a number from 0 to {most}")
        return value

    def boolean(self, key: str) -> bool:
        """False if absent."""
        value = self._fields.get(key)
        if value is not None and type(value) is not bool:
            raise _wrong(self._at(key), "is not true or false")
        return bool(value)

    def inner(self, key: str) -> Fields:
        """A nested object; without fields if absent."""
        value = self._fields.get(key)
        return Fields({} if value is None else value, self._at(key))

    def texts(self, key: str, *, most: int = MAX_ITEMS) -> tuple[str, ...]:
        """A list of strings; empty if absent."""
        return tuple(_text(value, self._at(key), MAX_TEXT) for value in self._list(key, most))

    def objects(self, key: str, read: Callable[[Fields], T], *, most: int = MAX_ITEMS) -> tuple[T, ...]:
        """A list of objects, each read by ``read``; empty if absent."""
        values = self._list(key, most)
        return tuple(read(Fields(value, f"{self._at(key)}[{number}]")) for number, value in enumerate(values))

    def names(self, key: str, *, most: int = MAX_ITEMS) -> tuple[str, ...]:
        """The keys of an object, such as ``{"80/tcp": {}}``."""
        return tuple(_text(name, self._at(key), MAX_TEXT) for name in self._mapping(key, most))

    def mapping(self, key: str) -> dict[str, str]:
        """An object with string values; empty if absent."""
        where = self._at(key)
        return {
            _text(name, where, MAX_TEXT): _text(value, f"{where}.{name[:80]}", MAX_TEXT)
            for name, value in self._mapping(key).items()
        }

    def wrong(self, key: str, what: str) -> InvalidInput:
        """The error for a field with an invalid value."""
        return _wrong(self._at(key), what)

    def _list(self, key: str, most: int) -> list[object]:
        value = self._fields.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > most:
            raise _wrong(self._at(key), f"is not a list of at most {most} items")
        return value

    def _mapping(self, key: str, most: int = MAX_ITEMS) -> Mapping[str, object]:
        value = self._fields.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or len(value) > most:
            raise _wrong(self._at(key), f"is not an object of at most {most} fields")
        return value

    def _at(self, key: str) -> str:
        return f"{self._where}.{key}"


def _text(value: object, where: str, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        raise _wrong(where, f"is not a string of at most {longest} characters without NUL")
    return value


def _wrong(where: str, what: str) -> InvalidInput:
    return InvalidInput(f"{where} {what}", field=where, remedy="the image is damaged or of an unknown kind")
