"""JSON in the bodies of requests: errors have the texts of Docker, which clients compare."""

from __future__ import annotations

import orjson

from isola.errors import InvalidInput

_WANTED = {
    "expected a string key": "looking for beginning of object key string",
    "expected a JSON value": "looking for beginning of value",
    "expected ':' after key": "after object key",
    "expected ',' or '}'": "after object key:value pair",
    "expected ',' or ']'": "after array element",
}
"""What was expected, as orjson and as Go's library say it."""


def decoded(data: bytes) -> object:
    """Raises InvalidInput."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(_message(error), field="body") from None


def _message(error: orjson.JSONDecodeError) -> str:
    if error.msg.startswith("unexpected content after"):
        return "unexpected content after JSON"
    if error.msg == "unexpected end of data":
        return "invalid JSON: unexpected EOF"
    wanted = next((text for expected, text in _WANTED.items() if error.msg.endswith(expected)), "")
    if wanted and error.pos < len(error.doc):
        return f"invalid JSON: invalid character {error.doc[error.pos]!r} {wanted}"
    return f"invalid JSON: {str(error)[:200]}"
