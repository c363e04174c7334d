"""Device nodes with ``required=false`` come to running instances and go, as they do on the host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from instance_updates import update
from memory_audit import differences

from isola.errors import NotFound
from isola.host.nodes import DeviceNumber
from isola.model.reference import Ref
from isola.testing.parts import World

STICK = Path("/dev/serial/by-id/stick")
FIRST, SECOND = DeviceNumber(True, 188, 0), DeviceNumber(True, 188, 1)
DEVICE = {"type": "unix-char", "source": str(STICK), "path": "/dev/stick", "required": "false"}


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it does not come true")


def has(world: World, *numbers: DeviceNumber) -> Callable[[], bool]:
    """Whether these are what the instance may open, each on its path, and no operation is left."""

    def look() -> bool:
        seen = world.on_host("web1")
        paths = [path for path in seen.mounts.values() if path == "/dev/stick"]
        return numbers == tuple(seen.devices & {FIRST, SECOND}) and len(paths) == len(numbers)

    return look


async def test_a_device_comes_goes_and_comes_with_another_number(world: World) -> None:
    await world.create("web1", devices={"stick": DEVICE}, start=True)
    assert has(world)()
    world.host.nodes.plug(STICK, FIRST)
    await eventually(has(world, FIRST))
    world.host.nodes.plug(STICK, SECOND)
    await eventually(has(world, SECOND))
    world.host.nodes.unplug(STICK)
    await eventually(has(world))
    assert not await differences(world)


async def test_many_changes_at_once_end_as_the_host_is(world: World) -> None:
    await world.create("web1", devices={"stick": DEVICE}, start=True)
    for _ in range(50):
        world.host.nodes.plug(STICK, FIRST)
        world.host.nodes.unplug(STICK)
    world.host.nodes.plug(STICK, SECOND)
    await eventually(has(world, SECOND))
    begun = [each for each in world.parts.services.operations if each.description == "Plugging device"]
    assert len(begun) <= 2, "they wait for one turn"


async def test_what_changed_while_no_daemon_ran_is_seen_by_the_next(world: World) -> None:
    await world.create("web1", devices={"stick": DEVICE}, start=True)
    world.host.nodes.followers.clear()
    world.host.nodes.plug(STICK, FIRST)
    await world.start()
    await eventually(has(world, FIRST))
    world.host.nodes.unplug(STICK)
    await eventually(has(world))


async def test_nothing_is_followed_longer_than_needed(world: World) -> None:
    followers = world.host.nodes.followers
    await world.create("web1", devices={"stick": DEVICE}, start=True)
    await update(world, devices={"stick": DEVICE | {"mode": "0600"}})
    assert [path for path, _ in followers] == [STICK]
    await update(world, devices={})
    assert followers == []
    await update(world, devices={"stick": DEVICE})
    await world.finish(world.parts.services.instances.stop(Ref.default("web1")))
    assert followers == []
    elsewhere = {"type": "unix-char", "source": "/srv/none", "path": "/dev/x", "required": "false"}
    numbered = {"type": "unix-char", "path": "/dev/y", "major": "1", "minor": "3", "required": "false"}
    await update(world, devices={"else": elsewhere, "numbered": numbered})
    await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    assert followers == []
    with pytest.raises(NotFound):
        await update(world, devices={"stick": DEVICE | {"required": "true"}})
    assert followers == []


async def test_a_device_that_cannot_be_given_leaves_nothing_and_is_tried_again(world: World) -> None:
    await world.create("web1", devices={"stick": DEVICE}, start=True)
    world.host.nodes.plug(STICK, DeviceNumber(False, 8, 0))  # a disk, under the path of a character device
    await settled(world)
    assert has(world)() and not await differences(world)
    world.host.nodes.plug(STICK, FIRST)
    await eventually(has(world, FIRST))


async def test_a_host_without_watches_keeps_no_instance_from_starting(world: World) -> None:
    world.host.nodes.exhausted = True
    await world.create("web1", devices={"stick": DEVICE}, start=True)
    assert has(world)() and world.host.nodes.followers == []
    await world.finish(world.parts.services.instances.stop(Ref.default("web1")))
    world.host.nodes.plug(STICK, FIRST)
    await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    assert has(world, FIRST)()


async def settled(world: World) -> None:
    """Its operation has begun, and no other is left."""

    def ended() -> bool:
        found = [each for each in world.parts.services.operations if each.description == "Plugging device"]
        return bool(found) and all(each.status.final for each in found)

    await eventually(ended)
