"""Files of instances over SFTP."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable
from functools import partial

from aiohttp import web

from isola.doors.http.takeover import TakenOver, take_over
from isola.doors.rest.lookup import instance_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree
from isola.errors import InvalidInput
from isola.instances.files import FilesSession
from isola.model.instance import Instance

_LIBRARY = "isola.doors.rest.sftp.serving"
log = logging.getLogger(__name__)


async def sftp(request: Request) -> web.StreamResponse:
    """Answer 101, then serve SFTP version 3 until the client closes or the instance's state changes."""
    if request.http.headers.get("Upgrade", "").lower() != "sftp":
        raise InvalidInput("An upgrade to sftp is expected", field="Upgrade", remedy="send the upgrade headers")
    instance = instance_of(request)
    # Imported on first use: asyncssh takes half a second and memory that a daemon without SFTP need not spend.
    await asyncio.to_thread(importlib.import_module, _LIBRARY)
    async with request.services.instances.files_session(instance.ref) as session:
        connection = await take_over(request.http, "sftp")
        await _serve(connection, session, partial(_publish, request, instance))
    return connection.response


async def _serve(connection: TakenOver, session: FilesSession, publish: Callable[[str, str], None]) -> None:
    serving = importlib.import_module(_LIBRARY)
    work = asyncio.ensure_future(serving.serve(connection, session.root, publish))
    over = asyncio.ensure_future(session.over.wait())
    try:
        await asyncio.wait([work, over], return_when=asyncio.FIRST_COMPLETED)
    finally:
        work.cancel()
        over.cancel()
        await asyncio.wait([work, over])
    error = None if work.cancelled() else work.exception()
    if error is not None and not isinstance(error, ConnectionError):
        log.error("An SFTP session failed unexpectedly", exc_info=error)  # too late for an HTTP error


def _publish(request: Request, instance: Instance, action: str, path: str) -> None:
    events = request.services.events
    events.lifecycle(f"instance-file-{action}", instance.entity, caller=request.caller, path=path)


ROUTES = in_every_tree(("GET", "/1.0/instances/{name}/sftp", sftp, Permission.OPERATE))
