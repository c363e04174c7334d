"""Output and input of applications without a terminal, through the verbs of instances."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from isola.errors import WrongState
from isola.model.reference import Ref
from isola.runtimes import Channel
from isola.testing.parts import World

WEB = Ref.default("web1")


async def test_a_system_has_a_terminal_in_any_case(world: World) -> None:
    await world.create("web1", start=True, terminal=False)
    spec = world.on_host("web1").spec
    assert spec.system and spec.terminal


async def test_an_application_has_its_streams_apart(world: World) -> None:
    await world.create("web1", terminal=False, stdin=True)
    with pytest.raises(WrongState):
        await world.parts.services.instances.attach(WEB)
    application = await world.parts.records.instances.change(
        WEB, lambda found: replace(found, start=replace(found.start, system=False))
    )
    await world.finish(world.parts.services.instances.start(WEB))
    spec = world.on_host("web1").spec
    assert (spec.terminal, spec.stdin) == (False, True)
    attached = await world.parts.services.instances.attach(WEB)
    await attached.write(b"hello")
    attached.end_input()
    assert world.on_host("web1").input == b"hello"
    world.runtime.show(application.value.id, b"out\n")
    world.runtime.show(application.value.id, b"err\n", Channel.STDERR)
    assert [await attached.read() for _ in range(2)] == [(Channel.STDOUT, b"out\n"), (Channel.STDERR, b"err\n")]
    lines = await world.parts.services.instances.logs.lines(WEB)
    assert [(line.channel, line.data) for line in lines] == [(Channel.STDOUT, b"out\n"), (Channel.STDERR, b"err\n")]
    await world.finish(world.parts.services.instances.stop(WEB, force=True))
    assert await attached.read() is None
    assert await world.parts.services.instances.logs.lines(WEB) == lines


async def applied(world: World) -> str:
    """An application that does not run; its id."""
    await world.create("web1", terminal=False, stdin=True)
    found = await world.parts.records.instances.change(
        WEB, lambda found: replace(found, start=replace(found.start, system=False))
    )
    return found.value.id


async def test_clients_attach_before_the_start(world: World) -> None:
    id, instances = await applied(world), world.parts.services.instances
    first, second, leaves = [await instances.attach(WEB, ahead=True) for _ in range(3)]
    writing = asyncio.ensure_future(first.write(b"typed ahead"))
    leaves.close()
    assert await leaves.read() is None
    world.runtime.dying["/sbin/init"] = (b"gone\n", 5)
    await world.finish(instances.start(WEB))
    for attached in (first, second):
        assert [await attached.read(), await attached.read()] == [(Channel.STDOUT, b"gone\n"), None]
        attached.close()
    await writing
    assert not world.context.attaching and await instances.wait(WEB) == 5
    assert id not in world.context.live


async def test_the_input_of_a_client_that_ends_it_before_the_start_ends(world: World) -> None:
    await applied(world)
    attached = await world.parts.services.instances.attach(WEB, ahead=True)
    attached.end_input()
    await world.finish(world.parts.services.instances.start(WEB))
    await asyncio.sleep(0)
    assert world.on_host("web1").input_ended
    attached.close()


async def test_a_client_that_waits_for_a_run_reads_the_end_when_the_instance_is_removed(world: World) -> None:
    await applied(world)
    attached = await world.parts.services.instances.attach(WEB, ahead=True)
    reading = asyncio.ensure_future(attached.read())
    await world.finish(world.parts.services.instances.delete(WEB))
    assert await reading is None and not world.context.attaching
