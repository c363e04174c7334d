"""Saved states: instances that stop with their memory, and continue from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from isola.errors import HostFailure, InvalidInput, NotFound, Unsupported, WrongState
from isola.instances.saved import PLACE
from isola.model.instance import Status
from isola.model.reference import Ref
from isola.model.state_change import Action, StateChange
from isola.runtimes import Capability, Lack, RuntimeCapabilities
from isola.testing.parts import World
from isola.testing.vm import FakeVm

WEB1 = Ref.default("web1")


async def saved(world: World) -> Path:
    """An instance that is stopped with its memory; where that is."""
    await world.create("web1", start=True)
    world.on_host("web1").memory = b"known"
    await world.finish(world.parts.services.instances.stop(WEB1, stateful=True))
    return place(world)


def place(world: World) -> Path:
    return world.directory / PLACE / world.parts.services.instances.get(WEB1).id


async def left(world: World) -> Sequence[str]:
    return await world.host.files.names(world.directory / PLACE)


async def again(world: World) -> None:
    await world.parts.close()
    await world.start()


async def test_memory_is_kept_over_a_restart_of_the_daemon(world: World) -> None:
    await saved(world)
    instances = world.parts.services.instances
    assert instances.status(instances.get(WEB1)) is Status.STOPPED and instances.is_saved(instances.get(WEB1))
    await again(world)
    instances = world.parts.services.instances
    assert instances.is_saved(instances.get(WEB1))
    await world.finish(instances.change_state(WEB1, StateChange(Action.START)))
    assert world.on_host("web1").memory == b"known" and not instances.is_saved(instances.get(WEB1))
    assert await left(world) == ()
    await world.finish(instances.stop(WEB1, force=True))
    with pytest.raises(WrongState, match="no saved state"):
        await world.finish(instances.start(WEB1, stateful=True))
    await world.finish(instances.start(WEB1))
    assert world.on_host("web1").memory == b""


async def test_what_a_daemon_left_half_made_or_used_is_removed_and_not_used(world: World) -> None:
    for name in ("making", "used"):
        directory = await saved(world)
        await world.host.files.rename(directory / "saved", directory / name)
        await again(world)
        assert await left(world) == ()
        await world.finish(world.parts.services.instances.start(WEB1))
        assert world.on_host("web1").memory == b""
        await world.finish(world.parts.services.instances.delete(WEB1, force=True))


async def test_a_state_of_an_instance_without_record_is_left_alone(world: World) -> None:
    stray = world.directory / PLACE / ("f" * 16)
    await world.host.files.make_directory(stray.parent, stray)
    await world.host.files.write(stray / "making", b"{}")
    await again(world)
    assert await left(world) == ("f" * 16,)


async def test_a_failure_to_save_leaves_it_running_and_nothing_else(world: World) -> None:
    await world.create("web1", start=True)
    number = world.on_host("web1").number
    world.runtime.saves = False
    instances = world.parts.services.instances
    with pytest.raises(HostFailure, match="saved"):
        await world.finish(instances.stop(WEB1, stateful=True))
    assert instances.status(instances.get(WEB1)) is Status.RUNNING and world.on_host("web1").number == number
    assert await left(world) == ()


async def test_a_state_that_cannot_be_restored_is_kept_until_it_is_discarded(world: World) -> None:
    directory = await saved(world)
    await world.host.files.remove_tree(directory / "images" / "memory")
    instances = world.parts.services.instances
    with pytest.raises(NotFound):
        await world.finish(instances.start(WEB1))
    assert instances.is_saved(instances.get(WEB1)) and await left(world)
    await world.finish(instances.start(WEB1, stateful=False))
    assert world.on_host("web1").memory == b"" and await left(world) == ()


async def test_a_start_that_fails_after_its_programs_ran_uses_the_state_up(world: World) -> None:
    instances = world.parts.services.instances
    await saved(world)
    command = instances.get(WEB1).start.command[0]
    for wanted in (None, False):
        world.runtime.dying[command] = (b"no\n", 1)
        with pytest.raises(HostFailure, match="ended at once"):
            await world.finish(instances.start(WEB1, stateful=wanted))
        assert not instances.is_saved(instances.get(WEB1)) and await left(world) == ()
        del world.runtime.dying[command]
        await world.finish(instances.start(WEB1))
        assert world.on_host("web1").memory == b""
        await world.finish(instances.stop(WEB1, stateful=True))


async def test_a_start_that_fails_before_its_programs_ran_keeps_it(world: World) -> None:
    directory = await saved(world)
    memory = await world.host.files.read(directory / "images" / "memory")
    instances = world.parts.services.instances
    for wanted in (None, False):
        world.runtime.refuses_held = True
        with pytest.raises(HostFailure, match="first process"):
            await world.finish(instances.start(WEB1, stateful=wanted))
        world.runtime.refuses_held = False
        assert instances.is_saved(instances.get(WEB1))
    await world.finish(instances.start(WEB1))
    assert world.on_host("web1").memory == memory == b"known"


async def test_another_runtime_cannot_use_it(world: World) -> None:
    directory = await saved(world)
    await world.host.files.write(directory / "saved", json.dumps({"runtime": "other"}).encode())
    with pytest.raises(WrongState, match="other"):
        await world.finish(world.parts.services.instances.start(WEB1))


async def test_a_restore_of_files_discards_what_was_in_memory(world: World) -> None:
    instances = world.parts.services.instances
    await world.create("web1")
    await world.finish(instances.snapshots.create(WEB1, name="then"))
    await world.finish(instances.start(WEB1))
    await world.finish(instances.stop(WEB1, stateful=True))
    await world.finish(instances.snapshots.restore(WEB1, "then"))
    assert not instances.is_saved(instances.get(WEB1)) and await left(world) == ()


async def test_a_frozen_one_is_saved_too_and_an_ephemeral_one_is_not(world: World) -> None:
    instances = world.parts.services.instances
    await world.create("web1", start=True)
    await world.finish(instances.pause(WEB1))
    await world.finish(instances.stop(WEB1, stateful=True))
    assert instances.is_saved(instances.get(WEB1))
    await world.create("passing", start=True, ephemeral=True)
    with pytest.raises(InvalidInput):
        instances.stop(Ref.default("passing"), stateful=True)
    with pytest.raises(WrongState):
        instances.stop(WEB1, stateful=True)


class Forgetful(FakeVm):
    """Its guests cannot be saved."""

    capabilities: ClassVar[RuntimeCapabilities] = dataclasses.replace(
        FakeVm.capabilities,
        lacks={**FakeVm.capabilities.lacks, Capability.CHECKPOINT: Lack("The fake keeps no state")},
    )


async def test_a_wall_that_cannot_save_says_why() -> None:
    world = World(engine=Forgetful)
    try:
        await world.start()
        await world.create("web1", start=True, image=None)
        instances = world.parts.services.instances
        with pytest.raises(Unsupported, match="no state"):
            instances.stop(WEB1, stateful=True)
        with pytest.raises(Unsupported, match="no state"):
            instances.snapshots.create(WEB1, stateful=True)
    finally:
        await world.parts.close()
        world.forget()
