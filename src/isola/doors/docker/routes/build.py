"""Builds by the classic protocol: the context as a tar stream, the progress as lines of JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from aiohttp import web

from isola.builds.following import Following
from isola.doors.docker.answers import HEADERS, answer
from isola.doors.docker.build_records import chosen, records, unused_since
from isola.doors.docker.building import credentials_in, messages, request_of
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, Route
from isola.doors.http.body import is_gone
from isola.doors.http.json import dumps
from isola.errors import IsolaError, ProgramFailed, WrongState
from isola.images.registry.credentials import credentials_for
from isola.model.build import BuildRequest
from isola.model.image_reference import parse_full
from isola.operations import Operation

_SPACES = ("keep-storage", "reserved-space", "max-used-space", "min-free-space")


async def build(request: Request) -> web.StreamResponse:
    """Build an image; what fails before the first step is an ordinary error, later failures are in the stream."""
    builds, wanted = request.services.builds, request_of(request)
    known = credentials_in(request.http.headers.get("X-Registry-Config", ""))
    context = None if wanted.remote else await builds.receive(request.blocks())
    following = Following()
    try:
        operation = builds.start(
            wanted, context, following.tell, caller=request.caller, credentials=partial(credentials_for, known)
        )
    except BaseException:
        if context is not None:
            await builds.discard(context)
        raise
    try:
        return await _streamed(request, wanted, operation, following)
    except (asyncio.CancelledError, ConnectionError):
        with suppress(WrongState):
            operation.cancel()  # the client has gone: as Docker does
        raise


async def _streamed(
    request: Request, wanted: BuildRequest, operation: Operation, following: Following
) -> web.StreamResponse:
    quiet, response = request.flag("q"), None
    async for event in following.events(operation, lambda: is_gone(request.http)):
        if response is None:
            response = await _begun(request)
        if not quiet:
            await _send(response, list(messages(event)))
    if response is None and isinstance(operation.error, IsolaError):
        raise operation.error
    response = response or await _begun(request)
    await _send(response, _ending(operation, wanted, quiet=quiet))
    await response.write_eof()
    return response


async def _begun(request: Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "application/json"})
    await response.prepare(request.http)
    return response


async def _send(response: web.StreamResponse, found: Sequence[Mapping[str, object]]) -> None:
    if data := b"".join(dumps(message) + b"\r\n" for message in found):
        await response.write(data)


def _ending(operation: Operation, wanted: BuildRequest, *, quiet: bool) -> list[Mapping[str, object]]:
    if operation.error is not None:
        text = str(operation.error) if isinstance(operation.error, IsolaError) else "the build was cancelled"
        code = {"code": operation.error.status} if isinstance(operation.error, ProgramFailed) else {}
        return [{"errorDetail": {**code, "message": text}, "error": text}]
    id = f"sha256:{operation.metadata['fingerprint']}"
    if quiet:
        return [{"stream": f"{id}\n"}]
    names = [found.familiar if (found := parse_full(name)) else name for name in wanted.names]
    tagged = [{"stream": f"Successfully tagged {name}\n"} for name in names]
    return [{"aux": {"ID": id}}, {"stream": f"Successfully built {id[7:19]}\n"}, *tagged]


async def prune(request: Request) -> web.StreamResponse:
    """Drop kept results: those that filters choose, and as many as the bytes say that may stay or have to be free."""
    filters = request.filters()
    before = unused_since(filters, request.services.host.clock.now())
    only = chosen(filters, await records(request.services) if filters else ())
    dropped, freed = await request.services.builds.prune(most=await _kept(request), before=before, only=only)
    request.history.tell("builder", "prune", reclaimed=str(freed))
    return answer({"CachesDeleted": dropped or None, "SpaceReclaimed": freed})


async def _kept(request: Request) -> int:
    given = {name: max(request.whole(name) or 0, 0) for name in _SPACES}
    space = await request.services.host.files.space(request.services.directory)
    return bytes_kept(given, request.services.builds.cache_size, space.total - space.used)


def bytes_kept(given: Mapping[str, int], size: int, free: int) -> int:
    """How many of ``size`` bytes stay, as BuildKit counts: 0 is all that can be dropped.

    What is reserved stays in any case; of the rest at most what is to be used, and what leaves enough free.
    """
    most = given.get("max-used-space", 0)
    if wanted := given.get("min-free-space", 0):
        left = size - max(wanted - free, 0)
        most = max(min(left, most or left), 1)
    return max(most, given.get("reserved-space", 0) or given.get("keep-storage", 0))


ROUTES: tuple[Route, ...] = (
    ("POST", "/build", build, Permission.EDIT),
    ("POST", "/build/prune", prune, Permission.ADMIN),
)
