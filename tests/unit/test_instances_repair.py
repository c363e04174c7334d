"""Repair after a daemon died while it changed devices, also if resources of the change were deleted meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from instance_verbs import VERBS, record
from memory_audit import differences
from strike import Fate, Strike

from isola.instances.volatile import CHANGING
from isola.model.instance import InstanceUpdate
from isola.model.reference import Ref
from isola.testing.parts import World

REPLUG = next(verb for verb in VERBS if verb.name == "replug")
SHARED = Path("/srv/shared")


async def killed(world: World, number: int | None = None) -> Strike:
    """Kill the daemon at one of the points of a change of all devices; without a point it completes."""
    await REPLUG.prepare(world)
    strike = Strike(REPLUG.operation, number, "crash")
    assert isinstance(world.observer, Fate)
    world.observer.strike = strike
    asked = asyncio.ensure_future(REPLUG.act(world))
    if number is None:
        await asked
    else:
        await asyncio.wait_for(strike.hit.wait(), 60)
        world.observer.dead = True
        await world.context.devices.close()
        asked.cancel()
    world.observer = Fate()
    return strike


async def again(world: World) -> None:
    await world.parts.close()
    await world.start()


async def test_a_missing_path_leaves_no_partial_change(world: World) -> None:
    points = (await killed(world)).points
    announced = points.index("announce change of victim: after")
    await again(world)
    for number in range(announced, len(points) - 1, 4):  # the last is after the commit
        await killed(world, number)
        await world.host.files.remove_tree(SHARED)
        await world.start()
        found = record(world)
        assert found is not None and not found.changing and CHANGING not in found.volatile, points[number]
        assert "here" in found.devices and "here" not in found.plugged, points[number]
        assert not await differences(world), points[number]


async def test_the_next_daemon_attaches_devices_that_are_available_again(world: World) -> None:
    points = (await killed(world)).points
    await again(world)
    await killed(world, points.index("announce change of victim: after"))
    await world.host.files.remove_tree(SHARED)
    await world.start()
    await world.host.files.make_directory(SHARED)
    await again(world)
    found = record(world)
    assert found is not None and "here" in found.plugged and not await differences(world)


@pytest.mark.parametrize("devices", [{}, {"scratch": {"type": "disk", "source": "tmpfs:", "path": "/scratch"}}])
async def test_a_device_with_a_missing_path_can_be_removed(world: World, devices: dict[str, dict[str, str]]) -> None:
    points = (await killed(world)).points
    await again(world)
    await killed(world, points.index("announce change of victim: after"))
    await world.host.files.remove_tree(SHARED)
    await world.start()
    wanted = InstanceUpdate(config={}, devices=devices, profiles=("default",))
    await world.finish(world.parts.services.instances.update(Ref.default("victim"), lambda _: wanted))
    assert not await differences(world)


async def test_connections_stay_while_a_path_is_missing_from_one_daemon_to_the_next(world: World) -> None:
    points = (await killed(world)).points
    await again(world)
    await killed(world, points.index("announce change of victim: after"))
    await world.host.files.remove_tree(SHARED)
    await world.start()
    wired = {place: id(pair) for place, (pair, _) in world.host.links.inside.items()}
    await again(world)
    assert wired and {place: id(pair) for place, (pair, _) in world.host.links.inside.items()} == wired
