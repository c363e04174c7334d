"""Stateful snapshots: what was in memory, of guests that go on after they were saved, and of those that do not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest

from isola.errors import HostFailure, InvalidInput, WrongState
from isola.instances.copy import Source
from isola.instances.snapshot_states import PLACE
from isola.instances.snapshots import Snapshots
from isola.model.instance import Instance, InstanceRequest, InstanceUpdate, Status
from isola.model.reference import Ref
from isola.testing.parts import World
from isola.testing.runtime import FakeInstance, FakeRuntime
from isola.testing.vm import FakeVm

WEB1 = Ref.default("web1")


@pytest.fixture(params=[FakeRuntime, FakeVm], ids=["stops", "stands"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Its instance remembers something."""
    made = World(engine=request.param)
    await made.start()
    await made.import_image()
    await made.create("web1", start=True)
    remember(made, b"first")
    yield made
    await made.parts.close()
    made.forget()


def instance(world: World) -> Instance:
    return world.parts.services.instances.get(WEB1)


def snapshots(world: World) -> Snapshots:
    return world.parts.services.instances.snapshots


def guest(world: World) -> FakeInstance:
    return world.runtime.instances[instance(world).id]


def remember(world: World, memory: bytes) -> None:
    guest(world).memory = memory


async def left(world: World) -> Sequence[str]:
    return await world.host.files.names(world.directory / PLACE)


async def again(world: World) -> None:
    await world.parts.close()
    await world.start()


async def take(world: World, name: str = "then") -> None:
    await world.finish(snapshots(world).create(WEB1, name, stateful=True))


async def test_it_goes_on_and_continues_from_it_later_as_often_as_one_likes(world: World) -> None:
    number = guest(world).number
    await take(world)
    instances = world.parts.services.instances
    assert instances.status(instance(world)) is Status.RUNNING and guest(world).memory == b"first"
    assert (guest(world).number == number) is isinstance(world.runtime, FakeVm)
    assert snapshots(world).get(WEB1, "then").stateful and not instances.is_saved(instance(world))
    for _ in range(2):
        remember(world, b"second")
        await again(world)
        await world.finish(snapshots(world).restore(WEB1, "then", stateful=True))
        assert guest(world).memory == b"first"
        assert world.parts.services.instances.status(instance(world)) is Status.RUNNING
    await world.finish(snapshots(world).restore(WEB1, "then"))
    assert guest(world).memory == b"", "only its files"


async def test_a_stopped_one_is_started_by_a_stateful_restore(world: World) -> None:
    await take(world)
    await world.finish(world.parts.services.instances.stop(WEB1, force=True))
    with pytest.raises(WrongState, match="not running"):
        snapshots(world).create(WEB1, stateful=True)
    await world.finish(snapshots(world).restore(WEB1, "then", stateful=True))
    assert guest(world).memory == b"first"


async def test_without_room_there_is_no_snapshot_and_it_runs_on(world: World) -> None:
    world.runtime.saves = False
    with pytest.raises(HostFailure, match="saved"):
        await take(world)
    assert snapshots(world).of(instance(world)) == [] and await left(world) == ()
    assert world.parts.services.instances.status(instance(world)) is Status.RUNNING
    assert guest(world).memory == b"first"
    world.runtime.saves = True
    await take(world)


async def test_it_goes_with_its_snapshot(world: World) -> None:
    for name in ("one", "two", "three"):
        await take(world, name)
    assert len(await left(world)) == 3
    await world.finish(snapshots(world).delete(WEB1, "one"))
    assert len(await left(world)) == 2
    await world.finish(snapshots(world).rename(WEB1, "two", "other"))
    remember(world, b"second")
    await world.finish(snapshots(world).restore(WEB1, "other", stateful=True))
    assert guest(world).memory == b"first"
    until = world.host.clock.now() + timedelta(hours=1)
    await world.finish(snapshots(world).create(WEB1, "passing", stateful=True, expires_at=until))
    assert len(await left(world)) == 3
    await snapshots(world).look(until)
    assert len(await left(world)) == 2
    await world.finish(world.parts.services.instances.delete(WEB1, force=True))
    assert await left(world) == ()


async def test_copies_have_the_files_alone(world: World) -> None:
    await take(world)
    instances = world.parts.services.instances
    await world.finish(instances.copy(Source(WEB1), InstanceRequest(name="copy")))
    copied = snapshots(world).get(Ref.default("copy"), "then")
    assert not copied.stateful and len(await left(world)) == 1
    with pytest.raises(WrongState, match="no saved memory"):
        snapshots(world).restore(Ref.default("copy"), "then", stateful=True)


async def test_a_setting_forbids_it(world: World) -> None:
    instances = world.parts.services.instances

    def forbid(found: Instance) -> InstanceUpdate:
        return InstanceUpdate(
            config=dict(found.config) | {"migration.stateful": "false"},
            devices=found.devices,
            profiles=found.profiles,
        )

    await world.finish(instances.update(WEB1, forbid))
    with pytest.raises(InvalidInput, match=r"migration\.stateful"):
        snapshots(world).create(WEB1, stateful=True)
    with pytest.raises(InvalidInput, match=r"migration\.stateful"):
        instances.stop(WEB1, stateful=True)


async def test_a_frozen_one_can_be_taken(world: World) -> None:
    await world.finish(world.parts.services.instances.pause(WEB1))
    await take(world)
    remember(world, b"second")
    await world.finish(snapshots(world).restore(WEB1, "then", stateful=True))
    assert guest(world).memory == b"first"
