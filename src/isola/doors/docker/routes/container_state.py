"""The run state of containers: start, stop, restart, kill, pause, and waiting for their end."""

from __future__ import annotations

from aiohttp import web

from isola.doors.docker.answers import HEADERS, empty, not_modified
from isola.doors.docker.containers import checkpoints
from isola.doors.docker.containers.starting import start_container
from isola.doors.docker.containers.stopping import kill_container, restart_container, stop_container
from isola.doors.docker.containers.view import view
from isola.doors.docker.identity import named
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, needs_with
from isola.doors.http.json import dumps
from isola.errors import Conflict, InvalidInput, NotFound
from isola.model.last_run import Until
from isola.model.signals import signal_number

_CONDITIONS = {each.value: each for each in Until} | {"": Until.NOT_RUNNING}


@needs_with("checkpoint", Permission.EDIT)  # which replaces the files, as a restore does
async def start(request: Request) -> web.StreamResponse:
    """304 if it runs already; with ``checkpoint`` from there."""
    seen = view(request, named(request))
    if seen.state == "paused":
        raise Conflict("cannot start a paused container, try unpause instead")
    if seen.running and seen.state != "restarting":
        return not_modified()
    if checkpoint := request.query.get("checkpoint", ""):
        checkpoints.require_own_place(request.query.get("checkpoint-dir", ""))
        await request.services.operations.finish(checkpoints.begin_from(request, seen.instance, checkpoint))
        return empty()
    await start_container(request, seen.instance)
    return empty()


async def stop(request: Request) -> web.StreamResponse:
    """Ask it to stop, and kill it after ``t`` seconds; 304 if it does not run."""
    seen = view(request, named(request))
    if not seen.running:
        return not_modified()
    await stop_container(request, seen.instance, _seconds(request), _signal(request))
    return empty()


async def restart(request: Request) -> web.StreamResponse:
    """Stop it if it runs, and start it."""
    await restart_container(request, view(request, named(request)), _seconds(request), _signal(request))
    return empty()


async def kill(request: Request) -> web.StreamResponse:
    """Send a signal, by default SIGKILL."""
    name, signum = request.parameters["name"][:200], _signal_to_kill(request)
    try:
        seen = view(request, named(request))
    except NotFound as error:
        raise NotFound(f"cannot kill container: {name}: {error}") from None
    if not seen.running:
        raise Conflict(f"cannot kill container: {name}: container {seen.id} is not running")
    await kill_container(request, seen.instance, signum)
    return empty()


async def pause(request: Request) -> web.StreamResponse:
    """Freeze all its processes."""
    seen = view(request, named(request))
    if seen.state != "running":
        if seen.state == "paused":
            raise Conflict(f"Container {seen.id} is already paused")
        raise Conflict(f"container {seen.id} is {'restarting' if seen.state == 'restarting' else 'not running'}")
    await request.services.operations.finish(request.services.instances.pause(seen.instance.ref, caller=request.caller))
    return empty()


async def unpause(request: Request) -> web.StreamResponse:
    """Let them go on."""
    seen = view(request, named(request))
    if seen.state != "paused":
        raise Conflict(f"Container {seen.id} is not paused")
    await request.services.operations.finish(
        request.services.instances.resume(seen.instance.ref, caller=request.caller)
    )
    return empty()


async def wait(request: Request) -> web.StreamResponse:
    """Headers now, and the exit status when it has ended: clients wait before they start it."""
    condition = _CONDITIONS.get(request.query.get("condition", ""))
    if condition is None:
        raise InvalidInput(f'invalid condition: "{request.query["condition"][:80]}"', field="condition")
    instance = named(request)
    future = request.services.instances.wait(instance.ref, condition)
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "application/json"})
    try:
        await response.prepare(request.http)
        with request.lasts():
            status = await future
        await response.write(dumps({"StatusCode": status}) + b"\n")
    finally:
        future.cancel()
    return response


def _seconds(request: Request) -> int | None:
    seconds = request.whole("t")
    if seconds is not None and not -1 <= seconds < 2**31:
        raise InvalidInput("invalid value for t", field="t")
    return seconds


def _signal(request: Request) -> int | None:
    text = request.query.get("signal", "")
    try:
        return signal_number(text) if text else None
    except InvalidInput:
        raise InvalidInput(f"invalid signal: {text[:80]}", field=None) from None


def _signal_to_kill(request: Request) -> int:
    try:
        return _signal(request) or signal_number("SIGKILL")
    except InvalidInput as error:
        text, name = request.query.get("signal", "")[:80], request.parameters["name"][:200]
        unknown = text.isdecimal() and int(text)
        why = f"the linux daemon does not support signal {text}" if unknown else str(error)
        raise InvalidInput(f"cannot kill container: {name}: {why}") from None


ROUTES = (
    ("POST", "/containers/{name}/start", start, Permission.OPERATE),
    ("POST", "/containers/{name}/stop", stop, Permission.OPERATE),
    ("POST", "/containers/{name}/restart", restart, Permission.OPERATE),
    ("POST", "/containers/{name}/kill", kill, Permission.OPERATE),
    ("POST", "/containers/{name}/pause", pause, Permission.OPERATE),
    ("POST", "/containers/{name}/unpause", unpause, Permission.OPERATE),
    ("POST", "/containers/{name}/wait", wait, Permission.VIEW),
)
