"""Operations of class ``websocket``: commands and consoles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from isola.doors import Services
from isola.doors.rest.carrying import PIPES, TERMINAL, carry_console, carry_pipes, carry_terminal
from isola.doors.rest.connections import Channels, Connections
from isola.doors.rest.displays import DATA, carry_display
from isola.doors.rest.recording import keep, recorded
from isola.instances.commands import Command
from isola.model.caller import Caller
from isola.model.exec import ConsoleRequest, ExecRequest
from isola.model.reference import Entity, Kind, Ref
from isola.operations import Operation


def run_command(
    services: Services,
    connections: Connections,
    ref: Ref,
    request: ExecRequest,
    *,
    caller: Caller,
    connect: bool,
    record: bool,
) -> Operation:
    """Run a command once its channels are connected, or immediately without ``connect``.

    Its exit status becomes the operation's metadata ``return``. Raises NotFound, WrongState, InvalidInput.
    """
    command = services.instances.exec(ref, request, caller=caller)
    metadata = {
        "command": list(request.command),
        "environment": dict(request.environment),
        "interactive": request.interactive,
    }
    if connect:
        names = TERMINAL if request.interactive else PIPES
        channels = Channels(services.host.clock, names)
        work = _connected(channels, command)
        return _start(
            services,
            connections,
            "Executing command",
            work,
            ref=ref,
            caller=caller,
            channels=channels,
            metadata=metadata,
        )

    async def run(op: Operation) -> None:
        try:
            if record:
                await services.instances.logs.require_room(ref)
            await command.start()
            status, records = await recorded(command)
            if record:
                await keep(services, op, command, records)
        finally:
            await command.close()
        op.update_metadata(**{"return": status})

    return _start(
        services, connections, "Executing command", run, ref=ref, caller=caller, channels=None, metadata=metadata
    )


def show_console(
    services: Services, connections: Connections, ref: Ref, request: ConsoleRequest, *, caller: Caller
) -> Operation:
    """Attach to a console once its channel is connected. Raises NotFound, WrongState, Unsupported."""
    console = services.instances.console(ref, request, caller=caller)
    channels = Channels(services.host.clock, TERMINAL)

    async def work(op: Operation) -> None:
        channel = await channels.get("0")
        try:
            await carry_console(channels, console, channel, await console.attach())
        finally:
            console.close()
            await channel.close()

    return _start(
        services, connections, "Showing console", work, ref=ref, caller=caller, channels=channels, metadata={}
    )


def show_display(
    services: Services, connections: Connections, ref: Ref, request: ConsoleRequest, *, caller: Caller
) -> Operation:
    """Show a screen to a viewer once a channel is connected. Raises NotFound, WrongState, Unsupported."""
    display = services.instances.display(ref, request, caller=caller)
    channels = Channels(services.host.clock, TERMINAL, repeated=DATA)

    async def work(op: Operation) -> None:
        try:
            await carry_display(channels, display)
        finally:
            display.close()

    return _start(
        services, connections, "Showing console", work, ref=ref, caller=caller, channels=channels, metadata={}
    )


def _connected(channels: Channels, command: Command) -> Callable[[Operation], Awaitable[None]]:
    async def work(op: Operation) -> None:
        data = {name: await channels.get(name) for name in channels.secrets if name != "control"}
        try:
            await command.start()
            if command.request.interactive:
                status = await carry_terminal(channels, command, data["0"])
            else:
                status = await carry_pipes(channels, command, data)
        finally:
            await command.close()
        op.update_metadata(**{"return": status})

    return work


def _start(
    services: Services,
    connections: Connections,
    description: str,
    work: Callable[[Operation], Awaitable[None]],
    *,
    ref: Ref,
    caller: Caller,
    channels: Channels | None,
    metadata: Mapping[str, object],
) -> Operation:
    async def released(op: Operation) -> None:
        try:
            await work(op)
        finally:
            if channels is not None:
                channels.release()

    operation = services.operations.start(
        description,
        released,
        resources=[Entity.of(Kind.INSTANCE, ref)],
        caller=caller,
        kind="websocket" if channels is not None else "task",
        metadata={**metadata, **({"fds": channels.secrets} if channels is not None else {})},
    )
    if channels is not None:
        connections[operation] = channels
    return operation
