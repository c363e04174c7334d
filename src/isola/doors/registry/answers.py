"""Responses: JSON, and errors with the codes of the OCI distribution specification."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from isola.doors.http.json import dumps
from isola.errors import (
    Busy,
    Forbidden,
    InUse,
    InvalidInput,
    IsolaError,
    NotFound,
    StorageFull,
    TooLarge,
    Unsupported,
)
from isola.images.repositories import Upload, WrongOffset
from isola.model.repository import path_of

VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
_JSON = "application/json"
_NONE: Mapping[str, str] = {}
_INVALID = {
    "digest": "DIGEST_INVALID",
    "size": "SIZE_INVALID",
    "n": "PAGINATION_NUMBER_INVALID",
    "name": "NAME_INVALID",
    "reference": "NAME_INVALID",
    "tag": "TAG_INVALID",
}
"""Codes by the field that an error names."""
_UNKNOWN = {
    "manifest": "MANIFEST_UNKNOWN",
    "blob": "BLOB_UNKNOWN",
    "blobs": "MANIFEST_BLOB_UNKNOWN",
    "upload": "BLOB_UPLOAD_UNKNOWN",
}


class Unauthorized(IsolaError):
    """The client has to log in, or to show a token for more."""

    code = "unauthorized"


class TooManyRequests(IsolaError):
    """The client has to wait."""

    code = "too_many_requests"


class MethodNotAllowed(Unsupported):
    """The path has no such method; ``offered`` are those that it has."""

    offered = ""

    @classmethod
    def of(cls, offered: str) -> MethodNotAllowed:
        """The error for a path with these methods."""
        error = cls("The operation is unsupported", evidence=f"offered here: {offered}")
        error.offered = offered
        return error


class WrongRange(InvalidInput):
    """A blob has no such bytes; ``size`` is that of the blob."""

    code = "wrong_range"
    size = 0

    @classmethod
    def of(cls, size: int) -> WrongRange:
        """The error for a blob of this size."""
        error = cls("The range cannot be satisfied", field="range")
        error.size = size
        return error


def answer(
    value: object, headers: Mapping[str, str] = _NONE, *, status: int = 200, media_type: str = _JSON
) -> web.Response:
    """JSON."""
    return web.Response(body=dumps(value), status=status, content_type=media_type, headers={**VERSION, **headers})


def empty(status: int, headers: Mapping[str, str] = _NONE) -> web.Response:
    """No content."""
    return web.Response(status=status, headers={**VERSION, **headers})


def upload_headers(upload: Upload, path: str = "") -> dict[str, str]:
    """Where an upload goes on, and how far it has come; ``path``: what the client calls the repository."""
    return {
        "Location": f"/v2/{path or path_of(upload.repository)}/blobs/uploads/{upload.id}",
        "Range": f"0-{max(upload.offset - 1, 0)}",
        "Docker-Upload-UUID": upload.id,
    }


def failure(error: IsolaError, default: str, headers: Mapping[str, str] = _NONE) -> web.Response:
    """An error; ``default`` is the code for an invalid request that names no field of its own."""
    status, code = _status_and_code(error, default)
    more: dict[str, str] = dict(headers)
    if isinstance(error, WrongOffset):
        more |= upload_headers(error.upload)
    if isinstance(error, WrongRange):
        more["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, MethodNotAllowed):
        more["Allow"] = error.offered
    detail = {key: text for key, text in (("evidence", error.evidence), ("remedy", error.remedy)) if text}
    # Without a detail, docker takes an error with the usual message for one that passes, and tries again.
    body = {"errors": [{"code": code, "message": error.message, "detail": detail}]}
    return web.Response(body=dumps(body), status=status, content_type=_JSON, headers={**VERSION, **more})


def _status_and_code(error: IsolaError, default: str) -> tuple[int, str]:
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return status, code or (_INVALID.get(error.field or "", default))
    if isinstance(error, NotFound):
        return 404, _UNKNOWN.get(error.field or "", "NAME_UNKNOWN")
    return 500, "UNKNOWN"


_KINDS: tuple[tuple[type[IsolaError], int, str], ...] = (
    (Unauthorized, 401, "UNAUTHORIZED"),
    (TooManyRequests, 429, "TOOMANYREQUESTS"),
    (Busy, 429, "TOOMANYREQUESTS"),
    (TooLarge, 413, ""),
    (WrongOffset, 416, "BLOB_UPLOAD_INVALID"),
    (WrongRange, 416, "RANGE_INVALID"),
    (InvalidInput, 400, ""),
    (Forbidden, 403, "DENIED"),
    (MethodNotAllowed, 405, "UNSUPPORTED"),
    (InUse, 405, "UNSUPPORTED"),
    (Unsupported, 400, ""),
    (StorageFull, 507, "STORAGE_FULL"),
)
"""Status and code by the kind of an error; without a code it is that of the field which the error names."""
