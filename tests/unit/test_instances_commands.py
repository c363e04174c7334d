"""Commands and consoles as use cases: without a door, channels or operations."""

from __future__ import annotations

import dataclasses

import pytest
from channels import eventually

from isola.errors import InvalidInput, NotFound, WrongState
from isola.instances.commands import Command
from isola.model.exec import ConsoleRequest, ExecRequest
from isola.model.reference import Ref
from isola.testing.commands import FakeCommand
from isola.testing.parts import World


async def echo(command: FakeCommand) -> int:
    while data := await command.stdin.read():
        await command.stdout.write(data.upper())
    await command.stderr.write(b"done\n")
    return 3


async def trap(command: FakeCommand) -> int:
    await command.stdout.write(b"ready")
    return await command.signals.get()


@pytest.fixture
async def running(world: World) -> World:
    await world.create("web1", start=True)
    world.runtime.programs |= {"echo": echo, "trap": trap}
    return world


def make(world: World, *command: str, **wanted: object) -> Command:
    return world.parts.services.instances.exec(Ref.default("web1"), ExecRequest(command, **wanted))  # type: ignore[arg-type]


async def test_created_started_read_and_resized_by_separate_calls(running: World) -> None:
    instances = running.parts.services.instances
    id = make(running, "trap", interactive=True, width=80, height=25).id
    assert not running.on_host("web1").commands, "nothing runs before the start"
    command = instances.command(id)
    assert (command.running, command.exit_status) == (False, None)
    command.resize(100, 30)
    await command.start()
    [on_host] = running.on_host("web1").commands
    assert on_host.command.size == (100, 30) and command.running
    instances.command(id).resize(132, 50)
    assert on_host.command.size == (132, 50)
    assert await command.stdout.read() == b"ready"
    await instances.command(id).signal(2)
    assert await command.wait() == 2
    await command.close()
    assert (instances.command(id).exit_status, command.running) == (2, False)
    assert [each.id for each in instances.commands(Ref.default("web1"))] == [id]


async def test_streams_carry_input_output_and_errors(running: World) -> None:
    command = make(running, "echo")
    await command.start()
    await command.stdin.write(b"hello")
    command.stdin.close()
    assert command.stderr is not None
    assert (await command.stdout.read(), await command.stderr.read()) == (b"HELLO", b"done\n")
    assert await command.wait() == 3
    await command.close()
    with pytest.raises(WrongState, match="is not running"):
        _ = command.stdout


async def test_a_command_starts_once_and_only_while_its_instance_can_run_it(running: World) -> None:
    instances = running.parts.services.instances
    waiting, begun = make(running, "echo"), make(running, "trap")
    with pytest.raises(WrongState):
        await waiting.signal(9)
    await waiting.close()
    await begun.start()
    with pytest.raises(WrongState, match="already been started"):
        await begun.start()
    await running.finish(instances.pause(Ref.default("web1")))
    with pytest.raises(WrongState, match="is frozen"):
        await waiting.start()
    await running.finish(instances.resume(Ref.default("web1")))
    await running.finish(instances.stop(Ref.default("web1")))
    assert await begun.wait() == 137
    await begun.close()
    with pytest.raises(WrongState):
        await waiting.start()


async def test_a_start_that_fails_leaves_an_exit_status(running: World) -> None:
    command = make(running, "echo", user="unknown")
    with pytest.raises(InvalidInput, match="unknown"):
        await command.start()
    assert (command.exit_status, command.running) == (126, False)
    assert await command.wait() == 126


async def test_a_command_runs_without_a_client(running: World) -> None:
    command = make(running, "echo")
    assert await command.number() == 0
    await command.detach()
    await eventually(lambda: not command.running)
    assert command.exit_status == 3 and await command.number() == 0
    stays = make(running, "trap", interactive=True)
    await stays.detach()
    assert stays.running and await stays.number() > 0
    await stays.signal(9)
    await eventually(lambda: not stays.running)
    assert stays.exit_status == 137
    with pytest.raises(WrongState, match="already been started"):
        await stays.detach()


async def test_without_a_user_a_command_runs_as_the_program(running: World) -> None:
    ref = Ref.default("web1")
    found = await running.parts.records.instances.change(
        ref,
        lambda found: dataclasses.replace(
            found, start=dataclasses.replace(found.start, user="www", cwd="/srv", environment={"A": "image"})
        ),
    )
    root = running.on_host("web1").spec.root.path
    await running.host.files.make_directory(root / "etc")
    await running.host.files.write(root / "etc/passwd", b"www:x:33:34::/var/www:/bin/sh\n")
    await running.host.files.write(root / "etc/group", b"www:x:34:\nlog:x:4:www\n")
    for wanted, spec in (
        ({"user": None, "interactive": True}, (33, 34, (4,), "/srv", "/var/www", "xterm")),
        ({"user": None, "cwd": "/tmp"}, (33, 34, (4,), "/tmp", "/var/www", None)),
        ({"user": "www:log"}, (33, 4, (), "/", "/var/www", None)),
        ({"user": "7:8"}, (7, 8, (), "/", "/", None)),
        ({"user": 0}, (0, 0, (), "/root", "/root", None)),
    ):
        command = running.parts.services.instances.exec(found.value.ref, ExecRequest(("trap",), **wanted))
        await command.start()
        said = running.on_host("web1").commands[-1].command.spec
        variables = said.environment
        here = (said.user, said.group, said.groups, said.cwd if spec[3] != "/root" else "/root", variables.get("HOME"))
        assert (*here, variables.get("TERM")) == spec and variables["A"] == "image"
        await command.close()


async def test_ended_commands_are_limited_and_running_ones_are_kept(running: World) -> None:
    instances = running.parts.services.instances
    runs = make(running, "trap")
    await runs.start()
    first = make(running, "echo")
    large = "x" * 2**20
    for _ in range(20):
        make(running, "echo", large)
    with pytest.raises(NotFound):
        instances.command(first.id)
    known = instances.commands(Ref.default("web1"))
    assert runs in known and len(known) < 18
    for _ in range(1100):
        make(running, "echo")
    assert len(instances.commands(Ref.default("web1"))) == 1025
    await runs.close()
    assert runs.exit_status == 137 and len(instances.commands(Ref.default("web1"))) == 1024


async def test_a_console_is_one_terminal_that_can_be_taken_over(running: World) -> None:
    instances = running.parts.services.instances
    first = instances.console(Ref.default("web1"), ConsoleRequest(width=80, height=25))
    stream = await first.attach()
    assert running.on_host("web1").console_size == (80, 25)
    running.runtime.show(running.on_host("web1").spec.id, b"login: ")
    assert await stream.read() == b"login: "
    with pytest.raises(WrongState, match="by force"):
        instances.console(Ref.default("web1"), ConsoleRequest())
    second = instances.console(Ref.default("web1"), ConsoleRequest(force=True))
    await second.attach()
    assert first.over.is_set() and not second.over.is_set()
    first.close()
    with pytest.raises(WrongState, match="by force"):
        instances.console(Ref.default("web1"), ConsoleRequest())
    await running.finish(instances.stop(Ref.default("web1")))
    await eventually(second.over.is_set)
    second.close()
