"""Messages on the control channel of commands and consoles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_WINDOW_LIMIT = 65535


def control_message(message: bytes | str) -> Mapping[str, Any]:
    """A control message without null fields, which Go clients send for absent ones. Raises ValueError if malformed."""
    try:
        found = json.loads(message, object_hook=_without_nulls)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict) or not isinstance(found.get("args", {}), dict):
        raise ValueError("an object is expected")
    return found


def _without_nulls(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None}


def size_of(message: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of a client's window. Raises ValueError."""
    arguments = message.get("args", {})
    size = arguments.get("width"), arguments.get("height")
    if not all(isinstance(value, int | str) and str(value).isdecimal() and len(str(value)) < 6 for value in size):
        raise ValueError("a width and a height are expected")
    width, height = (int(value) for value in size)
    if max(width, height) > _WINDOW_LIMIT:
        raise ValueError("no window is that large")
    return width, height
