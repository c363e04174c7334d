"""Progress of an operation as the JSON lines that clients of Docker show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

from aiohttp import web

from isola.doors.docker.answers import HEADERS
from isola.doors.docker.request import Request
from isola.doors.http.json import dumps
from isola.errors import IsolaError, WrongState
from isola.images.registry.progress import LayerEvent, LayerState
from isola.operations import Operation

Line = Mapping[str, Any]
_PAUSE = 0.1
"""Seconds between two lines about the progress of one layer."""
_END = None


class LayerLines:
    """Events of layers as lines; a layer's progress is sent at most ten times a second."""

    def __init__(self, request: Request, texts: Mapping[LayerState, str]) -> None:
        self._clock = request.services.host.clock
        self._texts = texts
        self._sent: dict[str, float] = {}
        self._queue: asyncio.Queue[LayerEvent | None] = asyncio.Queue()

    def watch(self, event: LayerEvent) -> None:
        """Called by the transfer."""
        if event.state is LayerState.MOVING and event.done < event.total:
            now = self._clock.monotonic()
            if now - self._sent.get(event.digest, 0.0) < _PAUSE:
                return
            self._sent[event.digest] = now
        self._queue.put_nowait(event)

    async def until_end(self, operation: Operation) -> AsyncGenerator[Line, None]:
        """Lines about layers as they come; a client that disconnects cancels the operation."""
        ended = asyncio.ensure_future(operation.wait())
        ended.add_done_callback(lambda _: self._queue.put_nowait(_END))
        try:
            while (event := await self._queue.get()) is not _END:
                yield self._line(event)
        finally:
            ended.cancel()
            if not operation.status.final:  # the client has disconnected
                with suppress(WrongState):
                    operation.cancel()

    def _line(self, event: LayerEvent) -> Line:
        moving = {"current": event.done, "total": event.total} if event.state is LayerState.MOVING else {}
        text = self._texts[event.state].format(source=event.source)
        return {"status": text, "progressDetail": moving, "id": event.digest.partition(":")[2][:12]}


async def send(
    request: Request, lines: AsyncGenerator[Line, None], refused: Callable[[IsolaError], IsolaError | None]
) -> web.StreamResponse:
    """Send lines as they come. An error before the first is a response of its own, a later one the last line.

    ``refused``: the error as clients know it.
    """
    response: web.StreamResponse | None = None
    try:
        async with aclosing(lines):  # a client that disconnects ends what it waits for at once
            async for line in lines:
                response = response or await _begun(request)
                await response.write(dumps(line) + b"\r\n")
    except IsolaError as error:
        shown = refused(error) or error
        if response is None:
            raise shown from error
        text = str(shown)
        await response.write(dumps({"errorDetail": {"message": text}, "error": text}) + b"\r\n")
    response = response or await _begun(request)
    await response.write_eof()
    return response


async def raise_failure(operation: Operation) -> None:
    """Raise the error of an operation that has ended."""
    if isinstance(operation.error, IsolaError):
        raise operation.error
    if operation.error is not None:
        raise IsolaError(operation.view().error)


async def _begun(request: Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request.http)
    return response
