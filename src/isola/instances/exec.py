"""Run a command inside an instance and connect it to the client's channels."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence

from isola.errors import InvalidInput, IsolaError, WrongState
from isola.host.sockets import Stream
from isola.instances.context import Context, address
from isola.instances.pump import (
    RECORD_LIMIT,
    Output,
    Record,
    control_message,
    end_of_output,
    from_channel,
    gone,
    size_of,
)
from isola.instances.start import environment, expanded
from isola.instances.stop import require_live
from isola.model.exec import ExecRequest
from isola.model.instance import Instance
from isola.model.signals import signal_number
from isola.operations import Channel, Operation
from isola.runtimes import ExecSpec, Execution
from isola.runtimes.oci import users

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CONNECT_SECONDS = 30


def check(context: Context, name: str, request: ExecRequest) -> Instance:
    """Raises NotFound, WrongState, InvalidInput."""
    instance = context.records.get(name)
    if require_live(context, instance).frozen:
        raise WrongState(f"Instance {name!r} is frozen", remedy="unfreeze it first")
    if not request.command or not request.command[0]:
        raise InvalidInput("No command was given", field="command", remedy="give at least the program's name")
    if any("\0" in word for word in (*request.command, *request.environment, *request.environment.values())):
        raise InvalidInput("The command or its environment contains NUL", field="command")
    return instance


def channel_names(request: ExecRequest) -> tuple[str, ...]:
    """Channels a client connects."""
    if not request.wait_for_websocket:
        return ()
    return ("0", "control") if request.interactive else ("0", "1", "2", "control")


async def run(context: Context, op: Operation, instance: Instance, request: ExecRequest) -> None:
    """Wait for the channels, run, and leave the exit status in the operation's metadata as ``return``."""
    data = {name: await op.channel(name, _CONNECT_SECONDS) for name in channel_names(request) if name != "control"}
    who = await _who(context, instance, request)
    spec = spec_of(context, instance, request, who, await _home(context, instance, request, who))
    execution = await context.working_runtime(instance).exec(instance.id, spec)
    context.tell("exec", instance.name, command=list(request.command))
    try:
        if not request.wait_for_websocket:
            status = await _recorded(context, op, instance, execution, record=request.record_output)
        elif request.interactive:
            status = await _interactive(op, execution, data["0"])
        else:
            status = await _piped(op, execution, data)
    finally:
        await execution.close()
    op.update_metadata(**{"return": status})


async def _home(context: Context, instance: Instance, request: ExecRequest, who: tuple[int, int]) -> str:
    """Where a command begins that does not say; root's home is looked for once in a run."""
    live = require_live(context, instance)
    if request.cwd or who[0] != 0 or not instance.start.system:
        return "/"
    if not live.home:
        try:
            async with context.host.files.root(process=live.running.init, idmap=instance.idmap) as root:
                live.home = "/root" if (await root.stat("/root")).kind == "directory" else "/"
        except IsolaError:
            return "/"
    return live.home


async def _who(context: Context, instance: Instance, request: ExecRequest) -> tuple[int, int]:
    """User and group as numbers; names and primary groups are those of the instance's own files."""
    user, group = request.user, request.group
    if user in (0, "root"):
        return 0, group or 0
    if isinstance(user, int) and group is not None:
        return user, group
    found = await users.of_process(
        context.host.files, require_live(context, instance).running.init, instance.idmap, str(user)
    )
    return found.uid, found.gid if group is None else group


def spec_of(context: Context, instance: Instance, request: ExecRequest, who: tuple[int, int], home: str) -> ExecSpec:
    """What the runtime is asked for: what the client wants over what the instance has over the defaults."""
    config, _ = expanded(context, instance)
    user, group = who
    defaults = {"PATH": _PATH, "LANG": "C.UTF-8"}
    if user == 0:
        defaults |= {"HOME": "/root", "USER": "root"}
    variables = defaults | dict(instance.start.environment) | environment(config) | dict(request.environment)
    return ExecSpec(
        command=request.command,
        environment=variables,
        cwd=request.cwd or home,
        user=user,
        group=group,
        terminal=request.interactive,
        width=request.width,
        height=request.height,
    )


async def _interactive(op: Operation, execution: Execution, channel: Channel) -> int:
    return await _carry(
        execution,
        inputs=[_typed(op, execution, channel), _control(op, execution)],
        outputs={channel: execution.stdout},
    )


async def _piped(op: Operation, execution: Execution, data: Mapping[str, Channel]) -> int:
    outputs = {data["1"]: execution.stdout}
    if execution.stderr is not None:
        outputs[data["2"]] = execution.stderr
    status = await _carry(
        execution,
        inputs=[
            from_channel(data["0"], execution.stdin, close=True),
            _control(op, execution),
            _abandoned(op, execution, list(outputs)),
        ],
        outputs=outputs,
    )
    await data["0"].close()
    return status


async def _typed(op: Operation, execution: Execution, channel: Channel) -> None:
    if not await from_channel(channel, execution.stdin):
        await gone(channel)
    await _abandoned(op, execution, [])


async def _abandoned(op: Operation, execution: Execution, channels: Sequence[Channel]) -> None:
    """A client that never connected control and has left all channels that it would hear from takes its command too."""
    await asyncio.gather(*(gone(channel) for channel in channels))
    if not op.connected("control"):
        await execution.signal(9)


async def _carry(
    execution: Execution, *, inputs: Sequence[Coroutine[object, object, object]], outputs: Mapping[Channel, Stream]
) -> int:
    """Until the command has ended and everything it wrote has been handed over."""
    helpers = [asyncio.ensure_future(work) for work in inputs]
    carried = {channel: Output(stream, channel.send) for channel, stream in outputs.items()}
    try:
        status = await execution.wait()
        for channel, output in carried.items():
            await output.finish()
            await end_of_output(channel)
        return status
    finally:
        for output in carried.values():
            output.stop()
        for helper in helpers:
            helper.cancel()


async def _recorded(context: Context, op: Operation, instance: Instance, execution: Execution, *, record: bool) -> int:
    execution.stdin.close()
    records = {"1": Record(), "2": Record()}
    outputs = [Output(execution.stdout, records["1"].take)]
    if execution.stderr is not None:
        outputs.append(Output(execution.stderr, records["2"].take))
    try:
        status = await execution.wait()
        for output in outputs:
            await output.finish()
    finally:
        for output in outputs:
            output.stop()
    if record:
        cut = [name for name, kept in records.items() if kept.cut]
        op.update_metadata(
            output={name: await _keep(context, op, instance, name, kept) for name, kept in records.items()},
            **({"output_truncated": {name: RECORD_LIMIT for name in cut}} if cut else {}),
        )
    return status


async def _keep(context: Context, op: Operation, instance: Instance, name: str, record: Record) -> str:
    directory = context.logs(instance) / "exec-output"
    file = f"exec_{op.id}.{'stdout' if name == '1' else 'stderr'}"
    await context.host.files.make_directory(directory, mode=0o700)
    await context.host.files.write(directory / file, bytes(record.data))
    return f"{address(instance.name)}/logs/exec-output/{file}"


async def _control(op: Operation, execution: Execution) -> None:
    """Window sizes and signals; a client that vanishes takes its command with it."""
    channel = await op.channel("control", None)
    while (message := await channel.receive()) is not None:
        try:
            await _obey(execution, message)
        except (IsolaError, ValueError, TypeError, AttributeError):
            continue  # a malformed control message is the client's own loss
    await execution.signal(9)


async def _obey(execution: Execution, message: bytes | str) -> None:
    told = control_message(message)
    if told.get("command") == "window-resize":
        execution.resize(*size_of(told))
    elif told.get("command") == "signal":
        await execution.signal(signal_number(told.get("signal", "")))
