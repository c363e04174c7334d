"""A move behind another wall that fails, is cancelled or killed at any step leaves the instance before or after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from memory_audit import differences
from strike import Fate, Strike, end_tasks

from isola.daemon.build import Drivers
from isola.errors import IsolaError
from isola.instances.move import Destination
from isola.model.instance import Status
from isola.model.reference import Ref
from isola.testing.parts import World
from isola.testing.vm import FakeVm

WEB = Ref.default("web1")
WALLS = {"container": "microvm", "microvm": "container"}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(observer=Fate(), more=Drivers({"fakevm": FakeVm}))
    await world.start()
    await world.import_image()
    await world.create("web1")
    yield world
    world.forget()
    await end_tasks()


def fate(world: World) -> Fate:
    assert isinstance(world.observer, Fate)
    return world.observer


async def move(world: World) -> None:
    instances = world.parts.services.instances
    there = WALLS[instances.get(WEB).isolation]
    await world.finish(instances.move(WEB, Destination(WEB, isolation=there)))


async def strike(world: World, number: int, action: str) -> None:
    fate(world).strike = Strike("Moving instance", number, action)
    asked = asyncio.ensure_future(move(world))
    await asyncio.wait_for(fate(world).struck(), 60)
    if action == "crash":
        fate(world).dead = True
        asked.cancel()
        world.observer = Fate()
        await world.start()
        return
    with suppress(IsolaError):
        await asked
    fate(world).strike = None


@pytest.mark.parametrize("action", ["fail", "cancel", "crash"])
async def test_a_move_is_done_or_not_done(action: str, world: World) -> None:
    fate(world).strike = learned = Strike("Moving instance")
    await move(world)
    assert len(learned.points) >= 2
    for number in range(len(learned.points)):
        before = world.parts.services.instances.get(WEB)
        await strike(world, number, action)
        after = world.parts.services.instances.get(WEB)
        assert (after.id, after.idmap, after.plugged) == (before.id, before.idmap, before.plugged)
        assert after.runtime == {"container": "fake", "microvm": "fakevm"}[after.isolation]
        assert not await differences(world), learned.points[number]
    for _ in WALLS:
        await move(world)
        await world.finish(world.parts.services.instances.start(WEB))
        assert world.parts.services.instances.status(world.parts.services.instances.get(WEB)) is Status.RUNNING
        await world.finish(world.parts.services.instances.stop(WEB))
