"""Stopping containers: a signal, some time, and then SIGKILL."""

from __future__ import annotations

from contextlib import suppress

from isola.doors.docker.containers.starting import start_container
from isola.doors.docker.containers.view import View
from isola.doors.docker.request import Request
from isola.errors import WrongState
from isola.model.instance import Instance

_SECONDS = 10
_KILL = 9


async def stop_container(request: Request, instance: Instance, seconds: int | None, signum: int | None) -> None:
    """``seconds`` None: as the container says; negative: without limit."""
    if seconds is None:
        seconds = instance.start.stop_timeout if instance.start.stop_timeout is not None else _SECONDS
    force = signum == _KILL
    timeout = None if seconds < 0 else float(seconds)
    with suppress(WrongState):  # it has ended meanwhile
        operation = request.services.instances.stop(
            instance.ref,
            timeout=timeout,
            force=force,
            kill=timeout is not None,
            signal=None if force else signum,
            caller=request.caller,
        )
        await request.services.operations.finish(operation)


async def restart_container(request: Request, seen: View, seconds: int | None, signum: int | None) -> None:
    """A container that does not run is started."""
    if seen.running:
        await stop_container(request, seen.instance, seconds, signum)
    await start_container(request, seen.instance)
    request.told("restarted", seen.instance.ref)


async def kill_container(request: Request, instance: Instance, signum: int) -> None:
    """After SIGKILL, the container has ended."""
    if signum != _KILL:
        await request.services.instances.runs.signal(instance.ref, signum, caller=request.caller)
        return
    operation = request.services.instances.stop(instance.ref, force=True, by_signal=True, caller=request.caller)
    await request.services.operations.finish(operation)
