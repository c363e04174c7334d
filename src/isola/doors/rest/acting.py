"""Work that the API answers when it is done, though it is an operation like any other."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, TypedDict

from isola.model.caller import Caller
from isola.model.reference import Entity, Kind
from isola.operations import Operation

if TYPE_CHECKING:
    from aiohttp import web

    from isola.doors.rest.request import Request
    from isola.doors.rest.routing import Handler


class Asked(TypedDict):
    """Who asks for an operation, and in which project."""

    caller: Caller
    project: str


def asked(request: Request) -> Asked:
    """As the verbs of use cases take it."""
    return {"caller": request.caller, "project": request.project}


async def finished(request: Request, operation: Operation) -> None:
    """Wait for the end, where the API answers when it is done. Raises what the operation has failed with."""
    await request.services.operations.finish(operation)


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
