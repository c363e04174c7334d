"""Output and input of applications without a terminal, through the verbs of instances."""

from __future__ import annotations

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
    lines = await world.parts.services.instances.output(WEB)
    assert [(line.channel, line.data) for line in lines] == [(Channel.STDOUT, b"out\n"), (Channel.STDERR, b"err\n")]
    await world.finish(world.parts.services.instances.stop(WEB, force=True))
    assert await attached.read() is None
    assert await world.parts.services.instances.output(WEB) == lines
