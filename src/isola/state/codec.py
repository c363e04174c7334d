"""Frozen dataclasses as JSON. Unknown fields are ignored, and missing ones get their default.

So a daemon can read records that an older or a newer version has written.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import orjson

from isola.state.collection import Codec

T = TypeVar("T")
_Reader = Callable[[Any], Any]


def record_codec(kind: type[T]) -> Codec[T]:
    """Codec of a dataclass. Its fields may be strings, numbers, times, enums, tuples, mappings and dataclasses."""
    read = _dataclass_reader(kind)  # type: ignore[arg-type]  # classes can be hashed
    return Codec(encode=encode, decode=lambda data: read(orjson.loads(data)))


def mapping_codec() -> Codec[Mapping[str, str]]:
    """Codec of a flat mapping."""
    return Codec(encode=encode, decode=orjson.loads)


def encode(record: object) -> bytes:
    """JSON with sorted keys."""
    return orjson.dumps(record, default=_plain, option=orjson.OPT_SORT_KEYS)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")


@cache
def _dataclass_reader(kind: type[Any]) -> _Reader:
    hints = get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}

    older = getattr(kind, "of_older", None)

    def read(data: Mapping[str, Any]) -> Any:
        data = data if older is None else older(data)
        return kind(**{name: readers[name](value) for name, value in data.items() if name in readers})

    return read


def _reader(hint: Any) -> _Reader:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = _reader(next(a for a in arguments if a is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        element = _reader(arguments[0])
        return lambda value: tuple(element(item) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        element = _reader(arguments[1])
        return lambda value: {key: element(item) for key, item in value.items()}
    if hint is datetime:
        return datetime.fromisoformat
    if isinstance(hint, type) and (dataclasses.is_dataclass(hint) or issubclass(hint, Enum)):
        return _dataclass_reader(hint) if dataclasses.is_dataclass(hint) else hint
    return lambda value: value
