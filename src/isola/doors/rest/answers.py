"""The API's three types of response: ``sync``, ``async`` and ``error``."""

from __future__ import annotations

import hashlib

import orjson
from aiohttp import web

from isola.doors.http.json import dumps, plain
from isola.doors.rest.not_offered import MethodNotAllowed
from isola.doors.rest.shapes.operations import operation_json
from isola.errors import (
    Cancelled,
    Conflict,
    Forbidden,
    InUse,
    InvalidInput,
    IsolaError,
    NotFound,
    PreconditionFailed,
    StorageFull,
    TimedOut,
    TooLarge,
    Unsupported,
    WrongState,
)
from isola.operations import Operation

SYNC = (
    b'{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":',
    b"}",
)
"""The JSON before and after the metadata of a synchronous response."""
_STATUS: tuple[tuple[type[IsolaError], int], ...] = (
    (TooLarge, 413),
    (InvalidInput, 400),
    (NotFound, 404),
    (Forbidden, 403),
    (PreconditionFailed, 412),
    (WrongState, 400),  # LXD's status for these two: clients branch on it
    (InUse, 400),
    (Conflict, 409),
    (MethodNotAllowed, 405),
    (Unsupported, 501),
    (Cancelled, 400),
    (TimedOut, 504),
    (StorageFull, 507),
)
_JSON = "application/json"


def sync(metadata: object = None, *, etag: object = None, location: str = "", status: int = 200) -> web.Response:
    """A synchronous success. ``etag``: the value from which the entity tag is computed."""
    return sync_bytes(dumps(metadata), etag=etag, location=location, status=status)


def sync_bytes(metadata: bytes, *, etag: object = None, location: str = "", status: int = 200) -> web.Response:
    """A synchronous success with metadata that is already JSON."""
    headers: dict[str, str] = {}
    if etag is not None:
        headers["ETag"] = tag_of(etag)
    if location:
        headers["Location"] = location
    body = b"".join((SYNC[0], metadata, SYNC[1]))
    return web.Response(body=body, status=status, headers=headers, content_type=_JSON)


def created(location: str) -> web.Response:
    return sync(location=location, status=201)


class Background(web.Response):
    """The response of a request that has started an operation."""

    def __init__(self, operation: Operation) -> None:
        path = f"/1.0/operations/{operation.id}"
        body = dumps(_started(operation, path))
        super().__init__(body=body, status=202, headers={"Location": path}, content_type=_JSON)
        self.operation = operation


def background(operation: Operation) -> web.Response:
    """202: the operation has been started."""
    return Background(operation)


def _started(operation: Operation, path: str) -> dict[str, object]:
    return {
        "type": "async",
        "status": "Operation created",
        "status_code": 100,
        "operation": path,
        "error_code": 0,
        "error": "",
        "metadata": operation_json(operation.view()),
    }


def failure(error: IsolaError) -> web.Response:
    """An error; programs branch on ``metadata.code``."""
    status = status_of(error)
    body = {
        "type": "error",
        "status": "",
        "status_code": 0,
        "operation": "",
        "error_code": status,
        "error": str(error),
        "metadata": error_json(error),
    }
    return web.Response(body=dumps(body), status=status, content_type=_JSON)


def error_json(error: IsolaError) -> dict[str, object]:
    """An error's fields as JSON."""
    return {
        "code": error.code,
        "message": error.message,
        "field": error.field,
        "remedy": error.remedy,
        "evidence": error.evidence,
    }


def status_of(error: IsolaError) -> int:
    """HTTP status of an error; 400 if it names a field of the request, since the caller can correct that."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return 400 if status == 501 and error.field else status


def tag_of(value: object) -> str:
    """Entity tag of the fields that a client may change; the same after a restart of the daemon."""
    data = orjson.dumps(value, default=plain, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(data).hexdigest()
