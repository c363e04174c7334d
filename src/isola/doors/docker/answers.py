"""Responses: plain JSON, and errors as ``{"message": ...}`` with Docker's status codes."""

from __future__ import annotations

from aiohttp import web

from isola import __version__
from isola.doors.docker.versions import NEWEST, text
from isola.doors.http.json import dumps
from isola.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    IsolaError,
    NotFound,
    PreconditionFailed,
    StorageFull,
    TimedOut,
    TooLarge,
    Unsupported,
)

HEADERS = {"Api-Version": text(NEWEST), "Ostype": "linux", "Server": f"Docker/isola-{__version__} (linux)"}
"""Headers of every response: clients find the version to speak and the operating system in them."""
_JSON = "application/json"
_STATUS: tuple[tuple[type[IsolaError], int], ...] = (
    (TooLarge, 413),
    (InvalidInput, 400),
    (NotFound, 404),
    (Forbidden, 403),
    (PreconditionFailed, 412),
    (Conflict, 409),
    (Unsupported, 501),
    (TimedOut, 504),
    (StorageFull, 507),
)
NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)


class Unavailable(IsolaError):
    """What only a member of a swarm can do."""

    code = "unavailable"


def answer(value: object, status: int = 200) -> web.Response:
    """JSON; a line as Go's encoder writes it."""
    return json(dumps(value), status)


def json(data: bytes, status: int = 200) -> web.Response:
    """The same of a value that is encoded."""
    return web.Response(body=data + b"\n", status=status, content_type=_JSON, headers=HEADERS)


def created(value: object) -> web.Response:
    """201 with JSON."""
    return answer(value, 201)


def empty(status: int = 204) -> web.Response:
    """No content."""
    return web.Response(status=status, headers=HEADERS)


def not_modified() -> web.Response:
    """304: the object already is in the requested state."""
    return empty(304)


def failure(error: IsolaError) -> web.Response:
    """An error; scripts read its text."""
    return answer({"message": str(error)}, status_of(error))


def status_of(error: IsolaError) -> int:
    """HTTP status of an error; 400 if it names a field of the request, since the caller can correct that."""
    if isinstance(error, Unavailable):
        return 503
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return 400 if status == 501 and error.field else status
