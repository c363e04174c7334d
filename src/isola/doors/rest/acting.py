"""Work that the API answers when it is done, though it is an operation like any other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING

from isola.model.reference import Entity, Kind
from isola.operations import Operation

if TYPE_CHECKING:
    from aiohttp import web

    from isola.doors.rest.request import Request
    from isola.doors.rest.routing import Handler


async def done(
    request: Request, description: str, entity: Entity, work: Callable[[Operation], Awaitable[object]]
) -> None:
    """Do it to the entity, while nothing else works on it, and wait for the end. Raises what it raises."""
    operations = request.services.operations
    operation = operations.start(
        description, work, locks=[entity.lock], resources=[entity], caller=request.caller, project=request.project
    )
    await operations.finish(operation)


def telling(action: str, handler: Handler, about: Callable[[Request], dict[str, str]]) -> Handler:
    """The handler of an instance's part, with a lifecycle event once it has done its work; a look (HEAD) is none."""

    @wraps(handler)
    async def told(request: Request) -> web.StreamResponse:
        response = await handler(request)
        if request.http.method != "HEAD":
            source = Entity.of(Kind.INSTANCE, request.ref(request.parameters["name"]))
            request.services.events.lifecycle(action, source, caller=request.caller, **about(request))
        return response

    return told
