"""Operations to which the API gives a synchronous response, after their end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, TypedDict

from isola.doors.rest.answers import Background, background
from isola.errors import InvalidInput
from isola.model.caller import Caller
from isola.model.reference import Entity, Kind
from isola.operations import Operation

if TYPE_CHECKING:
    from aiohttp import web

    from isola.doors.rest.request import Request
    from isola.doors.rest.routing import Handler


_LONGEST_WAIT = 10.0


class VerbArguments(TypedDict):
    """Keyword arguments of a use case's verb: the caller and the project."""

    caller: Caller
    project: str


def verb_arguments(request: Request) -> VerbArguments:
    """The caller and project of a request, as keyword arguments for a use case's verb."""
    return {"caller": request.caller, "project": request.project}


async def finished(request: Request, operation: Operation) -> None:
    """Wait for an operation's end, for a synchronous response. Raises the operation's error."""
    await request.services.operations.finish(operation)


async def at_its_end(request: Request, response: web.StreamResponse, seconds: float) -> web.StreamResponse:
    """The same response; that of an operation is sent at its end, or after so many seconds."""
    if not isinstance(response, Background) or not await response.operation.wait(seconds):
        return response
    request.services.operations.mark_read(response.operation)
    return background(response.operation)


def wait_seconds(query: Mapping[str, str]) -> float:
    """Seconds of ``wait=``, by default 0. Raises InvalidInput."""
    try:
        seconds = float((query.get("wait") or "0")[:10])
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_WAIT:
        raise InvalidInput(f"wait must be a number of seconds, {_LONGEST_WAIT:g} at most", field="wait")
    return seconds


def publishing(
    action: str,
    handler: Handler,
    about: Callable[[Request], dict[str, str]],
    *,
    only: Callable[[Request], bool] = lambda request: True,
) -> Handler:
    """A handler that publishes a lifecycle event after success of some requests; none for HEAD."""

    @wraps(handler)
    async def handle(request: Request) -> web.StreamResponse:
        response = await handler(request)
        if request.http.method != "HEAD" and only(request):
            source = Entity.of(Kind.INSTANCE, request.ref(request.parameters["name"]))
            request.services.events.lifecycle(action, source, caller=request.caller, **about(request))
        return response

    return handle
