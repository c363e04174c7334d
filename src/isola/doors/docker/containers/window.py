"""Sizes of terminals in queries."""

from __future__ import annotations

import re

from isola.doors.docker.request import Request
from isola.errors import InvalidInput

_CELLS = 65535
_NUMBER = re.compile(r"-?[0-9]+", re.ASCII)


def window_size(request: Request) -> tuple[int, int]:
    """Height and width: ``h`` and ``w``. Raises InvalidInput with the texts of Docker."""
    return _cells(request, "height"), _cells(request, "width")


def _cells(request: Request, side: str) -> int:
    text = request.query.get(side[0], "")[:40]
    if not _NUMBER.fullmatch(text):
        raise InvalidInput(f'invalid resize {side} "{text}": invalid syntax', field=side[0])
    if text.startswith("-") or int(text) > _CELLS:
        raise InvalidInput(f'invalid resize {side} "{text}": value out of range', field=side[0])
    return int(text)
