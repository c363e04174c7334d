"""JSON of responses."""

from __future__ import annotations

from collections.abc import Mapping

import orjson


def dumps(value: object) -> bytes:
    """JSON. File names are bytes: invalid UTF-8 is shown with replacement characters."""
    try:
        return orjson.dumps(value, default=plain)
    except orjson.JSONEncodeError:
        return orjson.dumps(_readable(value), default=plain)


def plain(value: object) -> object:
    """The form of a value that the encoder does not know: a copy of a mapping, else its text."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def _readable(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="replace")
    if isinstance(value, Mapping):
        return {_readable(str(key)): _readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    return value
