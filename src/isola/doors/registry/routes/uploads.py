"""Uploads of blobs: in one piece, in pieces, or by mounting one of another repository."""

from __future__ import annotations

import re
from collections.abc import Callable

from aiohttp import web

from isola.doors.registry.answers import empty, upload_headers
from isola.doors.registry.request import Request
from isola.doors.registry.routing import Permission
from isola.errors import InvalidInput
from isola.images.repositories import Upload, WrongOffset
from isola.model.reference import Ref
from isola.model.repository import repository_at

_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/[0-9*]{1,18})?", re.ASCII)


async def begin(request: Request) -> web.StreamResponse:
    """Mount a blob, store one in one piece, or begin an upload."""
    query = request.query
    if digest := query.get("mount", ""):
        source = _source(query.get("from", ""))
        if await request.repositories.mount(request.repository, digest, source, _may_mount(request, source)):
            return _created(request, digest)
    elif digest := query.get("digest", ""):
        await request.repositories.upload(request.repository, digest, request.blocks())
        return _created(request, digest)
    upload = await request.repositories.uploads.begin(request.repository)
    return empty(202, upload_headers(upload, request.path))


async def append(request: Request) -> web.StreamResponse:
    """A piece."""
    upload = _upload(request)
    start, size = _piece(request, upload)
    await request.repositories.uploads.append(upload, request.blocks(), start=start, size=size)
    return empty(202, upload_headers(upload, request.path))


async def complete(request: Request) -> web.StreamResponse:
    """Perhaps a last piece, and the digest of all."""
    upload = _upload(request)
    digest = request.query.get("digest", "")
    if not digest:
        raise InvalidInput("The digest is missing", field="digest", remedy="add ?digest=")
    start, size = _piece(request, upload)
    await request.repositories.uploads.append(upload, request.blocks(), start=start, size=size)
    await request.repositories.uploads.complete(upload, digest)
    return _created(request, digest)


async def status(request: Request) -> web.StreamResponse:
    """How far it has come."""
    return empty(204, upload_headers(_upload(request), request.path))


async def cancel(request: Request) -> web.StreamResponse:
    """Drop what was received."""
    await request.repositories.uploads.cancel(_upload(request))
    return empty(204)


def _upload(request: Request) -> Upload:
    return request.repositories.uploads.get(request.repository, request.parameters["upload"])


def _created(request: Request, digest: str) -> web.Response:
    return empty(201, {"Location": f"/v2/{request.path}/blobs/{digest}", "Docker-Content-Digest": digest})


def _piece(request: Request, upload: Upload) -> tuple[int | None, int | None]:
    """Offset and size of the piece in the body, where the client says them. Raises InvalidInput, WrongOffset."""
    text = request.http.headers.get("Content-Range", "")
    if not text:
        return None, None
    found = _RANGE.fullmatch(text)
    if found is None:
        raise InvalidInput("The Content-Range is malformed", evidence=text[:80], field="Content-Range")
    start, end = int(found[1]), int(found[2])
    if start > end:
        raise WrongOffset.of(upload)
    return start, end - start + 1


def _source(path: str) -> Ref | None:
    try:
        return repository_at(path) if path else None
    except InvalidInput:
        return Ref.default("")  # nothing is there: the client sends the blob


def _may_mount(request: Request, source: Ref | None) -> Callable[[Ref], bool]:
    """Without a source, the blobs of all repositories of the same project: who pushes to one may read all."""
    if source is not None:
        return request.may_pull
    return lambda repository: repository.project == request.repository.project


_PATH = "/v2/{repository...}/blobs/uploads"
ROUTES = (
    ("POST", _PATH, begin, Permission.EDIT),
    ("GET", f"{_PATH}/{{upload}}", status, Permission.EDIT),
    ("PATCH", f"{_PATH}/{{upload}}", append, Permission.EDIT),
    ("PUT", f"{_PATH}/{{upload}}", complete, Permission.EDIT),
    ("DELETE", f"{_PATH}/{{upload}}", cancel, Permission.EDIT),
)
