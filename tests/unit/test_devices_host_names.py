"""A NIC with the same host name as a link of the host does not change that link."""

from __future__ import annotations

import pytest
from instance_updates import update
from instance_verbs import NIC_ONE as NIC
from memory_audit import differences

from isola.errors import AlreadyExists
from isola.model.reference import Ref
from isola.testing.parts import World


async def of_the_host(world: World, kind: str) -> str:
    """A link of the host: its uplink, or the bridge of a network."""
    return next(view.name for view in await world.host.links.all() if view.kind == kind)


@pytest.mark.parametrize("kind", ["physical", "bridge"])
async def test_plugged_in(world: World, kind: str) -> None:
    name = await of_the_host(world, kind)
    await world.create("web1", start=True)
    before = await world.host.links.names()
    with pytest.raises(AlreadyExists) as caught:
        await update(world, devices={"eth1": NIC | {"name": "eth1", "host_name": name}})
    assert caught.value.field == "devices.eth1.host_name"
    assert await world.host.links.names() == before and not await differences(world)


@pytest.mark.parametrize("kind", ["physical", "bridge"])
async def test_at_a_start(world: World, kind: str) -> None:
    name = await of_the_host(world, kind)
    with pytest.raises(AlreadyExists):
        await world.create("web1", start=True, devices={"eth1": NIC | {"name": "eth1", "host_name": name}})
    assert name in await world.host.links.names()


async def test_a_link_that_comes_later(world: World) -> None:
    await world.create("web1", devices={"eth1": NIC | {"name": "eth1", "host_name": "later0"}})
    world.host.links.add_physical("later0")
    with pytest.raises(AlreadyExists):
        await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    assert "later0" in await world.host.links.names()
    await world.finish(world.parts.services.instances.delete(Ref.default("web1")))
    assert "later0" in await world.host.links.names()


async def test_its_own_link_is_not_a_conflict(world: World) -> None:
    await world.create("web1", start=True, devices={"eth1": NIC | {"name": "eth1", "host_name": "mine0"}})
    await update(world, devices={"eth1": NIC | {"name": "eth1", "host_name": "mine0", "limits.egress": "1Mbit"}})
    await world.finish(world.parts.services.instances.restart(Ref.default("web1")))
    assert "mine0" in await world.host.links.names() and not await differences(world)
    await world.finish(world.parts.services.instances.stop(Ref.default("web1"), force=True))
    assert "mine0" not in await world.host.links.names()
