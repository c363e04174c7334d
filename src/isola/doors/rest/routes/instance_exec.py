"""Commands inside instances, and consoles."""

from __future__ import annotations

from aiohttp import web

from isola.doors.http.reading import Fields
from isola.doors.rest.answers import background, sync
from isola.doors.rest.lookup import instance_of
from isola.doors.rest.programs_attached import attach_program
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree
from isola.doors.rest.sessions import run_command, show_console, show_display
from isola.instances.display import VGA
from isola.model.exec import ConsoleRequest, ExecRequest

_ID = 2**32 - 2
_CELLS = 10_000


async def exec_command(request: Request) -> web.StreamResponse:
    """Start a command; its channels are connected by WebSocket."""
    fields = await request.fields()
    instance = instance_of(request)
    options = ExecRequest(
        command=fields.texts("command"),
        environment=fields.mapping("environment", empty=True),
        interactive=fields.boolean("interactive"),
        width=fields.whole("width", 0, maximum=_CELLS),
        height=fields.whole("height", 0, maximum=_CELLS),
        user=_user(fields),
        group=fields.whole("group", 0, maximum=_ID) if fields.has("group") else None,
        cwd=fields.text("cwd", ""),
    )
    connect, record = fields.boolean("wait-for-websocket"), fields.boolean("record-output")
    return background(
        run_command(
            request.services,
            request.connections,
            instance.ref,
            options,
            caller=request.caller,
            connect=connect,
            record=record,
        )
    )


def _user(fields: Fields) -> int | str:
    """A user id as in LXD, or a user name of the instance."""
    return fields.text("user") if fields.holds("user", str) else fields.whole("user", 0, maximum=_ID)


async def console(request: Request) -> web.StreamResponse:
    """Start attaching to the console, or showing the screen to a viewer."""
    fields = await request.fields()
    instance = instance_of(request)
    options = ConsoleRequest(
        width=fields.whole("width", 0, maximum=_CELLS),
        height=fields.whole("height", 0, maximum=_CELLS),
        type=fields.text("type", "") or "console",
        force=fields.boolean("force"),
    )
    if options.type == VGA:
        return background(
            show_display(request.services, request.connections, instance.ref, options, caller=request.caller)
        )
    return background(show_console(request.services, request.connections, instance.ref, options, caller=request.caller))


async def attach(request: Request) -> web.StreamResponse:
    """Start attaching to the output and input of its first process.

    With ``ahead`` it need not run yet: the next run is meant, and nothing of it is missed. ``stdin``: its input ends
    with the channel. Channels are those of a command, and an empty message on ``0`` is EOF.
    """
    fields = await request.fields()
    operation = await attach_program(
        request.services,
        request.connections,
        instance_of(request),
        ahead=fields.boolean("ahead"),
        stdin=fields.boolean("stdin"),
        caller=request.caller,
    )
    return background(operation)


async def console_log(request: Request) -> web.StreamResponse:
    """The console's log, raw."""
    instance = instance_of(request)
    data = await request.services.instances.logs.console(instance.ref)
    request.services.events.lifecycle("instance-console-retrieved", instance.entity, caller=request.caller)
    return web.Response(body=data, content_type="application/octet-stream")


async def clear_console_log(request: Request) -> web.StreamResponse:
    """Empty the console's log."""
    instance = instance_of(request)
    await request.services.instances.logs.clear_console(instance.ref)
    request.services.events.lifecycle("instance-console-reset", instance.entity, caller=request.caller)
    return sync()


ROUTES = in_every_tree(
    ("POST", "/1.0/instances/{name}/exec", exec_command, Permission.OPERATE),
    ("POST", "/1.0/instances/{name}/console", console, Permission.OPERATE),
    ("POST", "/1.0/instances/{name}/attach", attach, Permission.OPERATE),
    ("GET", "/1.0/instances/{name}/console", console_log, Permission.OPERATE),
    ("DELETE", "/1.0/instances/{name}/console", clear_console_log, Permission.OPERATE),
)
