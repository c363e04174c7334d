"""Checkpoints of containers are their stateful snapshots: memory, with the files of the same moment."""

from __future__ import annotations

import re

from isola.doors.docker.containers.view import View
from isola.doors.docker.request import Request
from isola.errors import Conflict, InvalidInput, IsolaError, NotFound, Unsupported
from isola.model.instance import Instance
from isola.operations import Operation

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)


def checkpoints_of(request: Request, instance: Instance) -> list[str]:
    """Names, the oldest first."""
    return [each.name for each in request.services.instances.snapshots.of(instance) if each.stateful]


async def take(request: Request, seen: View, name: str) -> None:
    """It goes on afterwards. Raises Conflict, InvalidInput, and why it cannot be saved."""
    asked, instance, snapshots = _asked(request), seen.instance, request.services.instances.snapshots
    if not seen.running:
        raise Conflict(f"container {seen.id} is not running")
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"Invalid checkpoint ID ({name[:200]}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    if name in {each.name for each in snapshots.of(instance)}:
        raise Conflict(f"checkpoint with name {name} already exists for container {asked}")
    try:
        operation = snapshots.create(instance.ref, name, stateful=True, caller=request.caller)
        await request.services.operations.finish(operation)
    except IsolaError as error:
        raise type(error)(
            f"Cannot checkpoint container {asked}: {error.message}", evidence=error.evidence, remedy=error.remedy
        ) from error


def require(request: Request, instance: Instance, name: str) -> None:
    """Raises NotFound."""
    if name not in checkpoints_of(request, instance):
        raise NotFound(f"checkpoint {name[:200]} does not exist for container {_asked(request)}")


def begin_from(request: Request, instance: Instance, name: str) -> Operation:
    """Begin to start it where it was then. Raises NotFound."""
    require(request, instance, name)
    return request.services.instances.snapshots.restore(instance.ref, name, stateful=True, caller=request.caller)


def require_own_place(directory: str) -> None:
    """Raises Unsupported for directories of the client's choice."""
    if directory:
        raise Unsupported("custom checkpointdir is not supported", remedy="leave it out")


def _asked(request: Request) -> str:
    return request.parameters["name"][:200]
