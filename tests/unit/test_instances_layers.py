"""Layers of images: they are deleted with the last instance that has them."""

from __future__ import annotations

import asyncio

import pytest
from channels import eventually
from memory_audit import differences, settle

from isola.model.reference import Ref
from isola.state.store import Delete, Step
from isola.testing.parts import HostedRuntime, World
from isola.testing.vm import FakeVm

pytestmark = pytest.mark.parametrize("world", [HostedRuntime, FakeVm], ids=["container", "vm"], indirect=True)


async def test_a_layer_is_deleted_with_its_last_user(world: World) -> None:
    instance = await world.create("web1")
    driver = world.parts.services.pools.driver("default")
    await world.finish(world.parts.services.images.start_delete(Ref.default(instance.image)))
    assert await driver.layers.stored() == instance.start.layers
    await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    await world.finish(world.parts.services.instances.delete(Ref.default("web1"), force=True))
    assert await driver.layers.stored() == () and not await differences(world)


async def test_layers_are_deleted_with_users_that_are_deleted_side_by_side(world: World) -> None:
    instance = await world.create("web1")
    await world.create("web2")
    services = world.parts.services
    await world.finish(services.images.start_delete(Ref.default(instance.image)))
    operations = [services.instances.delete(Ref.default(name)) for name in ("web1", "web2")]
    await asyncio.gather(*map(world.finish, operations))
    assert await services.pools.driver("default").layers.stored() == () and not await differences(world)


async def test_an_image_that_is_deleted_while_its_last_instance_ends_leaves_no_layers(world: World) -> None:
    instance = await world.create("web1", start=True, ephemeral=True)
    services = world.parts.services
    commit = world.store.commit

    async def interrupted(*steps: Step) -> int:
        if any(isinstance(step, Delete) and step.key.startswith("/instances/") for step in steps):
            await world.finish(services.images.start_delete(Ref.default(instance.image)))
        return await commit(*steps)

    world.store.commit = interrupted  # type: ignore[method-assign]
    world.runtime.end(instance.id)
    await eventually(lambda: len(services.instances) == 0)
    await settle(world)
    assert not services.images.holds(instance.image)
    assert await services.pools.driver("default").layers.stored() == () and not await differences(world)
