"""Commands inside containers."""

from __future__ import annotations

import asyncio

from aiohttp import web

from isola.doors.docker.answers import answer, created, empty
from isola.doors.docker.containers.commands import run_attached, run_detached
from isola.doors.docker.containers.streams import DetachKeys, hijack
from isola.doors.docker.containers.view import view
from isola.doors.docker.containers.window import window_size
from isola.doors.docker.containers.wording import of_name
from isola.doors.docker.identity import container_id, named, of_id
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission
from isola.doors.http.reading import Fields
from isola.errors import Conflict, InvalidInput, NotFound
from isola.instances.commands import Command
from isola.model.exec import ExecRequest

_CELLS = 10_000


async def create(request: Request) -> web.StreamResponse:
    """A command that can be started once."""
    fields = await request.fields()
    if not fields.texts("Cmd"):
        raise InvalidInput("No exec command specified")
    seen = view(request, named(request))
    if seen.state == "paused":
        raise Conflict(f"Container {request.parameters['name'][:200]} is paused, unpause the container before exec")
    if not seen.running:
        raise Conflict(f"container {seen.id} is not running")
    DetachKeys(fields.text("DetachKeys", ""))
    wanted = _wanted(fields)
    if wanted.user is not None:
        try:
            await request.services.instances.require_user(seen.instance.ref, wanted)
        except InvalidInput as error:
            raise of_name(error) from None
    command = request.services.instances.exec(seen.instance.ref, wanted, caller=request.caller)
    command.notes.update(
        {name: fields.boolean(name) for name in ("AttachStdin", "AttachStdout", "AttachStderr")}
        | {"DetachKeys": fields.text("DetachKeys", "")}
    )
    return created({"Id": command.id})


async def start(request: Request) -> web.StreamResponse:
    """Its streams on this connection, unless it is detached."""
    fields = await request.fields()
    command = _command(request)
    if command.started:
        raise Conflict(
            f"exec {command.id} has already been started"
            if command.running
            else f"Error: Exec command {command.id} has already run"
        )
    if size := _console_size(fields):
        command.resize(*size)
    if fields.boolean("Detach"):
        await run_detached(command)
        return empty(200)
    keys = DetachKeys(str(command.notes.get("DetachKeys") or ""))
    command.require_ready()
    # As in Docker what the client says now decides about frames: some do not repeat that there is a terminal.
    raw = fields.boolean("Tty")
    return await run_attached(request, command, lambda: hijack(request, terminal=raw), keys)


async def inspect(request: Request) -> web.StreamResponse:
    """What it is, and its exit status."""
    command = _command(request)
    program, *arguments = command.request.command
    return answer(
        {
            "ID": command.id,
            "Running": command.running,
            "ExitCode": command.exit_status,
            "ProcessConfig": {
                "tty": command.request.interactive,
                "entrypoint": program,
                "arguments": arguments,
                "privileged": command.request.every_capability,
                "user": str(command.request.user or ""),
            },
            "OpenStdin": bool(command.notes.get("AttachStdin")),
            "OpenStderr": bool(command.notes.get("AttachStderr")),
            "OpenStdout": bool(command.notes.get("AttachStdout")),
            "CanRemove": False,
            "ContainerID": container_id(command.instance.id),
            "DetachKeys": str(command.notes.get("DetachKeys") or ""),
            "Pid": await command.number(),
        }
    )


async def resize(request: Request) -> web.StreamResponse:
    """The window size of its terminal."""
    height, width = window_size(request)
    command = _command(request)
    container = of_id(request, command.instance.id)
    if container is None or not view(request, container).running:
        raise Conflict(f"container {container_id(command.instance.id)} is not running")
    if command.started and not command.running:
        raise NotFound(f"NotFound: process does not exist {command.id}: not found")
    command.resize(width, height)
    await asyncio.sleep(0)
    return empty(200)


def _command(request: Request) -> Command:
    id = request.parameters["id"]
    try:
        command = request.services.instances.command(id)
    except NotFound:
        raise NotFound(f"No such exec instance: {id[:80]}") from None
    if of_id(request, command.instance.id) is None:
        raise NotFound(f"No such exec instance: {id[:80]}")
    return command


def _wanted(fields: Fields) -> ExecRequest:
    environment = {}
    for each in fields.texts("Env"):
        name, equals, value = each.partition("=")
        if not name:
            raise InvalidInput(f"invalid environment variable: {each[:80]}")
        if equals:
            environment[name] = value
    size = _console_size(fields) or (0, 0)
    return ExecRequest(
        command=fields.texts("Cmd"),
        environment=environment,
        interactive=fields.boolean("Tty"),
        width=size[0],
        height=size[1],
        user=fields.text("User", "") or None,
        cwd=fields.text("WorkingDir", ""),
        every_capability=fields.boolean("Privileged"),
    )


def _console_size(fields: Fields) -> tuple[int, int] | None:
    """``[height, width]``, as width and height."""
    size = fields.numbers("ConsoleSize", maximum=_CELLS)
    return (size[1], size[0]) if len(size) == 2 and any(size) else None


ROUTES = (
    ("POST", "/containers/{name}/exec", create, Permission.OPERATE),
    ("POST", "/exec/{id}/start", start, Permission.OPERATE),
    ("POST", "/exec/{id}/resize", resize, Permission.OPERATE),
    ("GET", "/exec/{id}/json", inspect, Permission.VIEW),
)
