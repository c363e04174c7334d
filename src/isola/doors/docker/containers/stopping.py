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
    timeout = _timeout(instance, seconds)
    force = signum == _KILL
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
    """A container that does not run is started; one that is removed after its run stays."""
    if seen.running and seen.instance.ephemeral:
        await _restart_at_once(request, seen.instance, seconds, signum)
        return
    if seen.running:
        await stop_container(request, seen.instance, seconds, signum)
    await start_container(request, seen.instance)
    request.told("restarted", seen.instance.ref)


async def _restart_at_once(request: Request, instance: Instance, seconds: int | None, signum: int | None) -> None:
    timeout = _timeout(instance, seconds)
    force = signum == _KILL
    operation = request.services.instances.restart(
        instance.ref,
        timeout=timeout,
        force=force,
        kill=timeout is not None,
        signal=None if force else signum,
        caller=request.caller,
    )
    await request.services.operations.finish(operation)


def _timeout(instance: Instance, seconds: int | None) -> float | None:
    if seconds is None:
        seconds = instance.start.stop_timeout if instance.start.stop_timeout is not None else _SECONDS
    return None if seconds < 0 else float(seconds)


async def kill_container(request: Request, instance: Instance, signum: int) -> None:
    """After SIGKILL, the container has ended."""
    if signum != _KILL:
        await request.services.instances.runs.signal(instance.ref, signum, caller=request.caller)
        return
    operation = request.services.instances.stop(instance.ref, force=True, by_signal=True, caller=request.caller)
    await request.services.operations.finish(operation)
