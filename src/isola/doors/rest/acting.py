"""Work that the API answers when it is done, though it is an operation like any other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING

from isola.doors import Services
from isola.operations import Operation

if TYPE_CHECKING:
    from aiohttp import web

    from isola.doors.rest.request import Request
    from isola.doors.rest.routing import Handler


async def done(
    services: Services, description: str, path: str, work: Callable[[Operation], Awaitable[object]], *, lock: str = ""
) -> None:
    """Do it and wait for the end. Raises what it raises. ``path`` is the thing's in the API."""
    noun = path.split("/")[2].replace("-", "_")
    operation = services.operations.start(description, work, locks=[lock] if lock else [], resources={noun: (path,)})
    await services.operations.finish(operation)


def telling(action: str, handler: Handler, about: Callable[[Request], dict[str, str]]) -> Handler:
    """The handler of an instance's part, with a lifecycle event once it has done its work; a look (HEAD) is none."""

    @wraps(handler)
    async def told(request: Request) -> web.StreamResponse:
        response = await handler(request)
        if request.http.method != "HEAD":
            source = f"/1.0/instances/{request.parameters['name']}"
            request.services.events.lifecycle(action, source, **about(request))
        return response

    return told
