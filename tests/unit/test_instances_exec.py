"""Commands, consoles, files and logs of instances, over a host in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from channels import CONNECTIONS, Client, channels_of, connect, eventually
from heard import lifecycle
from memory_audit import differences

from isola.doors.rest.control import control_message, size_of
from isola.doors.rest.recording import RECORD_LIMIT
from isola.doors.rest.sessions import run_command, show_console
from isola.errors import InvalidInput, IsolaError, NotFound, WrongState
from isola.model.caller import DAEMON
from isola.model.event import EventKind
from isola.model.exec import ConsoleRequest, ExecRequest
from isola.model.reference import Ref
from isola.operations import Operation
from isola.testing.commands import FakeCommand
from isola.testing.parts import World

WEB1 = Ref.default("web1")


async def echo(command: FakeCommand) -> int:
    """Copies its input to its output until EOF."""
    while data := await command.stdin.read():
        await command.stdout.write(data.upper())
    await command.stderr.write(b"done\n")
    return 3


async def trap(command: FakeCommand) -> int:
    """Exits with the number of the first signal as status."""
    await command.stdout.write(b"ready")
    return await command.signals.get()


async def show(command: FakeCommand) -> int:
    """Writes its working directory, user and environment."""
    environment = [f"{key}={value}" for key, value in sorted(command.spec.environment.items())]
    await command.stdout.write(" ".join([command.spec.cwd, str(command.spec.user), *environment]).encode())
    return 0


@pytest.fixture
async def running(world: World) -> World:
    """``web1`` runs, with a few programs in its image."""
    await world.create("web1", start=True, config={"environment.COLOUR": "blue"})
    world.runtime.programs |= {"echo": echo, "trap": trap, "show": show}
    return world


def execute(world: World, *command: str, connect: bool = True, record: bool = False, **wanted: object) -> Operation:
    request = ExecRequest(command, **wanted)  # type: ignore[arg-type]
    return run_command(world.parts.services, CONNECTIONS, WEB1, request, caller=DAEMON, connect=connect, record=record)


# --- exec -----------------------------------------------------------------------------------------------------------


async def test_pipes_carry_input_output_errors_and_the_status(running: World) -> None:
    operation = execute(running, "echo")
    assert operation.kind == "websocket" and operation.metadata["fds"] == channels_of(operation).secrets
    clients = connect(operation)
    assert set(clients) == {"0", "1", "2", "control"}
    clients["0"].say(b"hello ")
    clients["0"].say("world")
    clients["0"].say("")
    await running.finish(operation)
    assert (clients["1"].heard, clients["2"].heard) == (b"HELLO WORLD", b"done\n")
    assert operation.metadata["return"] == 3
    assert all(clients[name].closed for name in "012")


async def test_a_terminal_is_one_channel_and_has_a_size(running: World) -> None:
    operation = execute(running, "trap", interactive=True, width=80, height=25)
    clients = connect(operation)
    assert set(clients) == {"0", "control"}
    await eventually(lambda: clients["0"].heard == b"ready")
    [command] = running.on_host("web1").commands
    assert command.command.size == (80, 25)
    clients["control"].command(command="window-resize", args={"width": "132", "height": "50"})
    await eventually(lambda: command.command.size == (132, 50))
    clients["control"].command(command="signal", signal=2)
    await running.finish(operation)
    assert operation.metadata["return"] == 2


async def test_a_command_is_killed_when_its_client_disconnects(running: World) -> None:
    operation = execute(running, "trap")
    clients = connect(operation)
    await eventually(lambda: clients["1"].heard)
    clients["control"].leave()
    await running.finish(operation)
    assert operation.metadata["return"] == 137


@pytest.mark.parametrize("interactive", [False, True])
async def test_a_command_is_killed_when_a_client_without_control_disconnects(running: World, interactive: bool) -> None:
    operation = execute(running, "trap", interactive=interactive)
    channels = channels_of(operation)
    clients = {name: Client() for name in channels.secrets if name != "control"}
    for name, client in clients.items():
        channels.connect(channels.secrets[name], client)
    await eventually(lambda: clients["0" if interactive else "1"].heard)
    for client in clients.values():
        client.leave()
    await running.finish(operation)
    assert operation.metadata["return"] == 137


@pytest.mark.parametrize(
    ("user", "group", "found"),
    [
        (33, None, (33, 7)),
        (33, 0, (33, 0)),
        ("www-data", None, (33, 7)),
        ("www-data", 5, (33, 5)),
        (1000, None, (1000, 0)),
        ("root", None, (0, 0)),
        (0, 5, (0, 5)),
    ],
)
async def test_user_and_group_of_a_command(
    running: World, user: int | str, group: int | None, found: tuple[int, int]
) -> None:
    async with running.parts.services.instances.files(Ref.default("web1")) as root:

        async def passwd() -> AsyncIterator[bytes]:
            yield b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:7:www-data:/var/www:/bin/false\n"

        await root.write("/etc/passwd", passwd(), uid=0, gid=0, mode=0o644)
    operation = execute(running, "show", connect=False, user=user, group=group)
    await running.finish(operation)
    spec = running.on_host("web1").commands[-1].command.spec
    assert (spec.user, spec.group) == found


async def test_an_unknown_user_is_named(running: World) -> None:
    operation = execute(running, "show", connect=False, user="no-such-user")
    with pytest.raises(InvalidInput, match="no-such-user"):
        await running.finish(operation)


async def test_null_is_absent_in_a_control_message_as_go_clients_send_it(running: World) -> None:
    operation = execute(running, "trap")
    clients = connect(operation)
    await eventually(lambda: clients["1"].heard)
    clients["control"].say('{"command":"signal","args":null,"signal":2}')
    await running.finish(operation)
    assert operation.metadata["return"] == 2
    assert control_message('{"command": "signal", "args": null, "signal": 2, "x": {"y": null}}') == {
        "command": "signal",
        "signal": 2,
        "x": {},
    }


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff\xfe",
        "not json",
        "[]",
        "null",
        "[" * 100_000,
        '{"command": "window-resize"}',
        '{"command": "window-resize", "args": []}',
        '{"command": "window-resize", "args": {"width": 1e999, "height": 1}}',
        '{"command": "window-resize", "args": {"width": -1, "height": 70000}}',
        '{"command": "window-resize", "args": {"width": true, "height": null}}',
        '{"command": "signal", "signal": [1]}',
        '{"command": "signal", "signal": "nope"}',
        '{"command": {"x": 1}}',
    ],
)
async def test_malformed_control_messages_are_ignored(junk: bytes | str, running: World) -> None:
    command, console = execute(running, "trap"), console_of(running)
    clients, seen = connect(command), connect(console)
    await eventually(lambda: clients["1"].heard and running.on_host("web1").consoles)
    for control in (clients["control"], seen["control"]):
        control.say(junk)
    clients["control"].command(command="signal", signal="SIGUSR1")
    seen["control"].command(command="window-resize", args={"width": 10, "height": 20})
    await running.finish(command)
    assert command.metadata["return"] == 10
    await eventually(lambda: running.on_host("web1").console_size == (10, 20))
    seen["0"].leave()
    await running.finish(console)


def test_valid_window_sizes() -> None:
    assert size_of(control_message('{"args": {"width": 80, "height": "25"}}')) == (80, 25)
    for wrong in ('{"args": {"width": 65536, "height": 1}}', '{"args": {"width": "٣", "height": "-1"}}', "{}"):
        with pytest.raises(ValueError, match=r"expected|large"):
            size_of(control_message(wrong))


async def test_recorded_output_is_a_log_until_it_is_deleted(running: World) -> None:
    operation = execute(running, "echo", connect=False, record=True)
    assert operation.kind == "task" and "fds" not in operation.metadata
    await running.finish(operation)
    assert operation.metadata["return"] == 3
    instances = running.parts.services.instances
    outputs = operation.metadata["output"]
    assert isinstance(outputs, dict) and set(outputs) == {"1", "2"}
    file = "exec-output/" + outputs["2"].rpartition("/")[2]
    assert outputs["2"] == f"/1.0/instances/web1/logs/{file}"
    assert await instances.logs.read(Ref.default("web1"), file) == b"done\n"
    assert file in await instances.logs.names(Ref.default("web1"))
    await instances.logs.delete(Ref.default("web1"), file)
    with pytest.raises(NotFound):
        await instances.logs.read(Ref.default("web1"), file)


async def test_truncated_recorded_output_is_reported(running: World) -> None:
    async def much(command: FakeCommand) -> int:
        await command.stdout.write(b"x" * (RECORD_LIMIT + 1))
        return 0

    running.runtime.programs["much"] = much
    operation = execute(running, "much", connect=False, record=True)
    await running.finish(operation)
    outputs = operation.metadata["output"]
    assert operation.metadata["output_truncated"] == {"1": RECORD_LIMIT} and isinstance(outputs, dict)
    file = "exec-output/" + outputs["1"].rpartition("/")[2]
    assert len(await running.parts.services.instances.logs.read(Ref.default("web1"), file)) == RECORD_LIMIT


async def test_frozen_instances_refuse_commands_and_consoles(running: World) -> None:
    instances = running.parts.services.instances
    await running.finish(instances.pause(Ref.default("web1")))
    with pytest.raises(WrongState, match="is frozen"):
        instances.exec(Ref.default("web1"), ExecRequest(("true",)))
    with pytest.raises(WrongState, match="is frozen"):
        instances.console(Ref.default("web1"), ConsoleRequest())


async def test_commands_and_consoles_publish_events(running: World) -> None:
    events = running.parts.services.events.follow([EventKind.LIFECYCLE])
    await running.finish(execute(running, "echo", connect=False))
    console = console_of(running)
    clients = connect(console)
    for _ in range(10):
        await asyncio.sleep(0)
    clients["control"].leave()
    await running.finish(console)
    events.close()
    told = [(lifecycle(event).action, lifecycle(event).context) async for event in events]
    ids = {context["id"] for action, context in told if action != "instance-console"}
    assert len(ids) == 1
    assert [action for action, _ in told] == [
        "instance-exec-created", "instance-exec", "instance-exec-ended", "instance-console",
    ]  # fmt: skip
    assert told[1][1]["command"] == ["echo"] and told[2][1]["exit_status"] == 3


async def test_unread_output_is_not_kept(running: World) -> None:
    operation = execute(running, "echo", connect=False)
    await running.finish(operation)
    assert (
        "output" not in operation.metadata
        and await running.parts.services.instances.logs.names(Ref.default("web1")) == []
    )


async def test_environment_is_the_clients_over_the_instances_over_the_defaults(running: World) -> None:
    async with running.parts.services.instances.files(Ref.default("web1")) as files:
        await files.make_directory("/root", uid=0, gid=0, mode=0o700)
    for wanted, expected in (
        ({}, "/root 0 COLOUR=blue HOME=/root LANG=C.UTF-8"),
        ({"environment": {"COLOUR": "red"}, "cwd": "/tmp"}, "/tmp 0 COLOUR=red HOME=/root"),
        ({"user": 1000, "group": 1000}, "/ 1000 COLOUR=blue LANG="),
    ):
        operation = execute(running, "/bin/show", connect=True, **wanted)
        clients = connect(operation)
        await running.finish(operation)
        assert clients["1"].heard.decode().startswith(expected)


async def test_commands_begin_at_the_top_where_root_has_no_home(running: World) -> None:
    operation = execute(running, "/bin/show", connect=True)
    clients = connect(operation)
    await running.finish(operation)
    assert clients["1"].heard.decode().startswith("/ 0 ")


async def test_a_missing_command_has_the_status_of_a_shell(running: World) -> None:
    operation = execute(running, "no-such-program")
    connect(operation)
    await running.finish(operation)
    assert operation.metadata["return"] == 127


async def test_commands_end_with_their_instance(running: World) -> None:
    operation = execute(running, "trap")
    clients = connect(operation)
    await eventually(lambda: clients["1"].heard)
    await running.finish(running.parts.services.instances.stop(Ref.default("web1")))
    await running.finish(operation)
    assert operation.metadata["return"] == 137 and not await differences(running)


async def test_a_cancelled_command_is_killed(running: World) -> None:
    operation = execute(running, "trap")
    clients = connect(operation)
    await eventually(lambda: clients["1"].heard)
    [command] = running.on_host("web1").commands
    operation.cancel()
    await operation.wait(2)
    assert await command.wait() == 137


async def test_a_recorded_command_belongs_to_no_connection_and_ends_when_it_is_cancelled(running: World) -> None:
    operation = execute(running, "trap", connect=False, record=True)
    await eventually(lambda: running.on_host("web1").commands)
    [command] = running.on_host("web1").commands
    assert operation not in CONNECTIONS and not operation.status.final
    operation.cancel()
    await operation.wait(2)
    assert await command.wait() == 137


async def test_commands_do_not_block_verbs(running: World) -> None:
    operation = execute(running, "trap")
    clients = connect(operation)
    await eventually(lambda: clients["1"].heard)
    await running.finish(running.parts.services.instances.pause(Ref.default("web1")))
    with pytest.raises(WrongState, match="unfreeze it first"):
        execute(running, "echo")
    await running.finish(running.parts.services.instances.resume(Ref.default("web1")))
    clients["control"].leave()
    await running.finish(operation)


@pytest.mark.parametrize("wrong", [(), ("",), ("echo\0",)])
async def test_a_wrong_command_is_refused(wrong: tuple[str, ...], running: World) -> None:
    with pytest.raises(IsolaError) as caught:
        execute(running, *wrong)
    assert (caught.value.code, caught.value.field) == ("invalid", "command")


async def test_commands_in_stopped_instances_are_refused(world: World) -> None:
    await world.create("web1")
    for refused in (lambda: execute(world, "echo"), lambda: console_of(world)):
        with pytest.raises(WrongState):
            refused()  # type: ignore[no-untyped-call]


async def test_channels_that_are_not_connected_time_out(running: World) -> None:
    operation = execute(running, "trap")
    with pytest.raises(IsolaError) as caught:
        await channels_of(operation).get("2", 0.001)
    assert caught.value.code == "timed_out" and "'2'" in caught.value.message
    operation.cancel()
    await operation.wait(2)


# --- console --------------------------------------------------------------------------------------------------------


def console_of(world: World, **wanted: object) -> Operation:
    request = ConsoleRequest(**wanted)  # type: ignore[arg-type]
    return show_console(world.parts.services, CONNECTIONS, WEB1, request, caller=DAEMON)


async def attached(world: World, operation: Operation) -> Client:
    before = len(world.on_host("web1").consoles)
    clients = connect(operation)
    await eventually(lambda: len(world.on_host("web1").consoles) > before)
    return clients["0"]


async def test_a_console_shows_what_is_written_and_has_a_size(running: World) -> None:
    operation = console_of(running, width=100, height=40)
    client = await attached(running, operation)
    running.runtime.show(running.on_host("web1").spec.id, b"login: ")
    await eventually(lambda: client.heard == b"login: ")
    assert running.on_host("web1").console_size == (100, 40)
    client.leave()
    await running.finish(operation)
    assert await running.parts.services.instances.logs.console(Ref.default("web1")) == b"login: "
    await running.parts.services.instances.logs.clear_console(Ref.default("web1"))
    assert await running.parts.services.instances.logs.console(Ref.default("web1")) == b""


async def test_a_console_in_use_must_be_taken_over(running: World) -> None:
    first = console_of(running)
    client = await attached(running, first)
    with pytest.raises(WrongState, match="by force"):
        console_of(running)
    second = console_of(running, force=True)
    await attached(running, second)
    await running.finish(first)
    assert client.closed and not second.status.final
    second.cancel()
    await second.wait(2)
    third = console_of(running)
    await attached(running, third)
    third.cancel()
    await third.wait(2)


async def test_a_console_ends_with_the_instance(running: World) -> None:
    operation = console_of(running)
    client = await attached(running, operation)
    await running.finish(running.parts.services.instances.stop(Ref.default("web1")))
    await running.finish(operation)
    assert client.closed


async def test_there_is_no_other_kind_of_console(running: World) -> None:
    with pytest.raises(IsolaError) as caught:
        console_of(running, type="braille")
    assert (caught.value.code, caught.value.field) == ("unsupported", "type")


# --- files and logs -------------------------------------------------------------------------------------------------


async def content(*blocks: bytes) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


async def read(world: World, path: str) -> bytes:
    async with world.parts.services.instances.files(Ref.default("web1")) as root:
        return b"".join([block async for block in await root.read(path)])


async def test_files_of_a_stopped_instance_are_those_it_starts_with(world: World) -> None:
    instance = await world.create("web1")
    before = list(world.host.mounts.table)
    assert await read(world, "/etc/hostname") == b"tiny\n"
    async with world.parts.services.instances.files(Ref.default("web1")) as root:
        await root.write("/etc/motd", content(b"hello"), uid=0, gid=0, mode=0o644)
        assert (await root.stat("/etc/motd")).uid == 0
    assert world.host.mounts.table == before
    await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    assert await read(world, "/etc/motd") == b"hello"
    node = world.host.files._find(world.on_host("web1").spec.root.path / "etc/motd")
    assert node.uid == instance.idmap.base


async def test_reading_files_during_start_and_stop_is_safe(world: World) -> None:
    await world.create("web1")
    async with world.parts.services.instances.files(Ref.default("web1")):
        await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    assert not await differences(world)
    async with world.parts.services.instances.files(Ref.default("web1")):
        await world.finish(world.parts.services.instances.stop(Ref.default("web1")))
    assert not await differences(world)


async def test_files_are_read_concurrently(world: World) -> None:
    await world.create("web1")
    before = list(world.host.mounts.table)
    assert set(await asyncio.gather(*(read(world, "/etc/hostname") for _ in range(20)))) == {b"tiny\n"}
    assert world.host.mounts.table == before


@pytest.mark.parametrize(
    "name", ["../secret", "exec-output/../../secret", "/etc/passwd", "", "nope.log", "exec-output"]
)
async def test_logs_are_only_the_logs(name: str, world: World) -> None:
    instance = await world.create("web1")
    logs = world.directory / "logs" / instance.id
    await world.host.files.make_directory(logs / "exec-output")
    await world.host.files.write(logs.parent / "secret", b"secret")
    await world.host.files.write(logs / "console.log", b"seen")
    assert await world.parts.services.instances.logs.names(Ref.default("web1")) == ["console.log"]
    assert await world.parts.services.instances.logs.read(Ref.default("web1"), "console.log") == b"seen"
    for verb in (world.parts.services.instances.logs.read, world.parts.services.instances.logs.delete):
        with pytest.raises(NotFound):
            await verb(WEB1, name)
    assert await world.host.files.read(logs.parent / "secret") == b"secret"


async def test_verbs_on_a_just_ended_instance_are_refused(running: World) -> None:
    """Its process has ended, which is not noticed yet; the PID may have been reused by a process of the host."""
    instance = running.parts.services.instances.get(Ref.default("web1"))
    running.runtime.end(instance.id)
    assert instance.id in running.context.live
    with pytest.raises(WrongState, match="'web1' has just ended"):
        async with running.parts.services.instances.files(Ref.default("web1")):
            pass
    with pytest.raises(WrongState):
        await running.finish(execute(running, "echo", connect=False))
    assert not running.context.live[instance.id].guest.interfaces()
