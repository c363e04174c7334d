"""How many writes the verbs of an instance need: each costs a sync of the disk, for which clients wait."""

from __future__ import annotations

import itertools

from memory_audit import differences, settle

from isola.model.last_run import Until
from isola.model.reference import Ref
from isola.testing.parts import World

NAME = "c1"
REF = Ref.default(NAME)


async def commits(world: World) -> int:
    """To the store so far."""
    return (await world.store.snapshot("/none/")).revision


async def test_the_first_start_does_not_describe_the_instance_again(world: World) -> None:
    instance = await world.create(NAME)
    file = world.context.descriptions("default").place(instance.id)
    described = await world.host.files.read(file)
    await world.finish(world.parts.services.instances.start(REF))
    assert await world.host.files.read(file) == described


async def test_commits_of_a_life(world: World) -> None:
    await world.create("first")  # notes when the image was used, which is not written for each instance
    counted = [await commits(world)]
    await world.create(NAME)
    counted.append(await commits(world))
    await world.finish(world.parts.services.instances.start(REF))
    counted.append(await commits(world))
    await world.finish(world.parts.services.instances.stop(REF))
    counted.append(await commits(world))
    await world.finish(world.parts.services.instances.delete(REF))
    counted.append(await commits(world))
    create, start, stop, delete = (after - before for before, after in itertools.pairwise(counted))
    assert (create, start, stop, delete) == (2, 1, 1, 2)


async def test_an_ephemeral_instance_is_gone_with_one_commit(world: World) -> None:
    instance = await world.create(NAME, start=True, ephemeral=True)
    before = await commits(world)
    removed = world.parts.services.instances.wait(REF, Until.REMOVED)
    world.runtime.end(instance.id, 3)
    assert await removed == 3
    assert world.parts.records.instances.find(REF) is None
    await settle(world)
    assert await commits(world) - before == 2, "one removed the record, one the intent that stood for its files"
    assert not await differences(world)


async def test_the_files_of_an_ephemeral_instance_are_removed_until_it_succeeds(world: World) -> None:
    instance = await world.create(NAME, start=True, ephemeral=True)
    driver = world.context.storage(instance)
    async with driver.visit(world.context.volume(instance)):
        removed = world.parts.services.instances.wait(REF, Until.REMOVED)
        world.runtime.end(instance.id)
        await removed
        assert (await world.create(NAME, ephemeral=True)).id != instance.id
    await settle(world)
    assert not await differences(world)
