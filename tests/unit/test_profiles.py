"""Profiles: validation, and changes that are applied to all instances that use one, or to none."""

from __future__ import annotations

import asyncio

import pytest
from channels import eventually
from heard import lifecycle
from memory_audit import differences

from isola.errors import HostFailure, IsolaError, PreconditionFailed
from isola.host.building import NewFile
from isola.model.event import EventKind
from isola.model.instance import Config, Devices, InstanceUpdate
from isola.model.profile import Profile
from isola.model.reference import Entity, Kind, Ref
from isola.model.storage import Volume
from isola.operations import Operation
from isola.testing.parts import World

ROOT = {"type": "disk", "path": "/", "pool": "default"}
NIC = {"type": "nic", "network": "isolabr0", "name": "eth0"}


async def change(
    world: World, config: Config, devices: Devices | None = None, *, name: str = "default", description: str = ""
) -> None:
    wanted = {"root": ROOT, "eth0": NIC} if devices is None else devices
    await world.parts.services.profiles.update(Ref.default(name), lambda _: Profile(name, description, config, wanted))


async def test_a_change_reaches_all_instances_at_once(world: World) -> None:
    for name in ("web1", "web2"):
        await world.create(name, start=True)
    await world.create("web3")
    await world.create("other", start=True, profiles=("default",), config={"limits.processes": "7"})
    await change(world, {"limits.processes": "50"}, {"root": ROOT, "eth0": NIC, "eth1": NIC | {"name": "eth1"}})
    limits = {name: world.on_host(name).limits.processes for name in ("web1", "web2", "other")}
    assert limits == {"web1": 50, "web2": 50, "other": 7}
    assert len(world.host.links.inside) == 6 and not await differences(world)
    await world.finish(world.parts.services.instances.start(Ref.default("web3")))
    assert world.on_host("web3").limits.processes == 50 and not await differences(world)
    await change(world, {})
    assert world.on_host("web1").limits.processes == 8192 and not await differences(world)


async def test_a_change_during_a_creation_reaches_the_new_instance(world: World) -> None:
    storage = world.parts.services.pools.driver("default")
    make = storage.create_volume

    async def slow(op: Operation, volume: Volume, *beside: NewFile) -> None:
        await make(op, volume, *beside)
        await change(world, {}, {"root": ROOT, "eth1": NIC})

    storage.create_volume = slow  # type: ignore[method-assign]
    with pytest.raises(PreconditionFailed, match="profile"):
        await world.create("web1", start=True)
    assert not list(world.parts.services.instances) and not await differences(world)
    await change(world, {})
    storage.create_volume = make  # type: ignore[method-assign]
    instance = await world.create("web1", start=True)
    assert "hwaddr" in instance.plugged["eth0"].facts and not await differences(world)


async def test_a_change_that_fails_for_one_instance_is_reverted_for_all(world: World) -> None:
    for name in ("web1", "web2", "web3"):
        await world.create(name, start=True)
    await change(world, {"limits.processes": "50"})
    before = world.parts.services.profiles.get(Ref.default("default"))
    refusing = world.on_host("web3").spec.id
    world.runtime.refuses = lambda id, limits: id == refusing and limits.processes == 60
    with pytest.raises(HostFailure):
        await change(world, {"limits.processes": "60"}, {"root": ROOT, "eth1": NIC})
    assert world.parts.services.profiles.get(Ref.default("default")) == before
    assert [world.on_host(name).limits.processes for name in ("web1", "web2", "web3")] == [50, 50, 50]
    assert not await differences(world)


async def test_while_an_instance_is_busy_nothing_is_changed(world: World) -> None:
    await world.create("web1", start=True)
    await world.create("web2", start=True)
    world.runtime.ends_on = frozenset({9})
    stopping = world.parts.services.instances.stop(Ref.default("web2"), timeout=None)
    await eventually(lambda: world.on_host("web2").signals)
    changing = asyncio.ensure_future(change(world, {"limits.processes": "50"}))
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.parts.services.profiles.get(Ref.default("default")).config == {}
    assert world.on_host("web1").limits.processes == 8192
    stopping.cancel()
    await changing
    assert world.on_host("web2").limits.processes == 50 and not await differences(world)


async def test_an_instance_that_takes_the_profile_while_its_change_waits_gets_it_too(world: World) -> None:
    instances = world.parts.services.instances
    await world.parts.services.profiles.create(Profile("extra", config={"limits.processes": "5"}))
    await world.create("web1", start=True, profiles=("default", "extra"))
    await world.create("web2", start=True)
    world.runtime.ends_on = frozenset({9})
    stopping = instances.stop(Ref.default("web1"), timeout=None)
    await eventually(lambda: world.on_host("web1").signals)
    changing = asyncio.ensure_future(change(world, {"limits.processes": "50"}, {}, name="extra"))
    await asyncio.sleep(0)
    taking = InstanceUpdate(config={}, devices={}, profiles=("default", "extra"))
    await world.finish(instances.update(Ref.default("web2"), lambda _: taking))
    assert world.on_host("web2").limits.processes == 5
    stopping.cancel()
    await changing
    assert [world.on_host(name).limits.processes for name in ("web1", "web2")] == [50, 50]
    assert not await differences(world)


async def test_concurrent_changes_are_made_in_order(world: World) -> None:
    await world.create("web1", start=True)
    await asyncio.gather(*(change(world, {"limits.processes": str(number)}) for number in (10, 20)))
    assert world.on_host("web1").limits.processes == 20 and not await differences(world)


@pytest.mark.parametrize(
    ("config", "devices", "code"),
    [
        ({"bogus": "1"}, None, "invalid"),
        ({"limits.memory": "much"}, None, "invalid"),
        ({}, {"gpu": {"type": "gpu"}}, "unsupported"),
        ({}, {"root": ROOT, "eth0": NIC | {"network": "nope"}}, "not_found"),
        ({}, {"eth0": NIC}, "invalid"),
        ({"limits.cpu": "7-9"}, None, "invalid"),
    ],
)
async def test_invalid_changes_are_refused_without_effect(
    config: Config, devices: Devices | None, code: str, world: World
) -> None:
    await world.create("web1", start=True)
    before = world.parts.services.profiles.get(Ref.default("default"))
    with pytest.raises(IsolaError) as caught:
        await change(world, config, devices)
    assert caught.value.code == code
    assert world.parts.services.profiles.get(Ref.default("default")) == before
    assert not await differences(world)


async def test_names_and_users(world: World) -> None:
    profiles = world.parts.services.profiles
    await profiles.create(Profile("extra", config={"limits.processes": "9"}))
    for again, code in ((Profile("extra"), "already_exists"), (Profile("a/b"), "invalid"), (Profile(""), "invalid")):
        with pytest.raises(IsolaError) as caught:
            await profiles.create(again)
        assert caught.value.code == code
    await world.create("web1", profiles=("default", "extra"))
    assert profiles.used_by(Ref.default("extra")) == [Entity.of(Kind.INSTANCE, Ref.default("web1"))]
    for refused, code in (
        (profiles.delete(Ref.default("extra")), "in_use"),
        (profiles.rename(Ref.default("extra"), "other"), "in_use"),
        (profiles.delete(Ref.default("default")), "forbidden"),
        (profiles.rename(Ref.default("default"), "other"), "forbidden"),
        (profiles.delete(Ref.default("nope")), "not_found"),
        (profiles.rename(Ref.default("nope"), "other"), "not_found"),
    ):
        with pytest.raises(IsolaError) as caught:
            await refused
        assert caught.value.code == code
    await world.finish(world.parts.services.instances.delete(Ref.default("web1")))
    revision = profiles.revision(Ref.default("extra"))
    await profiles.rename(Ref.default("extra"), "other")
    assert (
        profiles.get(Ref.default("other")).config == {"limits.processes": "9"}
        and profiles.revision(Ref.default("other")) > revision
    )
    await profiles.delete(Ref.default("other"))
    assert [profile.name for profile in profiles] == ["default"]


async def test_changes_publish_events(world: World) -> None:
    follower = world.parts.services.events.follow([EventKind.LIFECYCLE])
    profiles = world.parts.services.profiles
    await profiles.create(Profile("extra"))
    await change(world, {}, {}, name="extra", description="x")
    await profiles.rename(Ref.default("extra"), "other")
    await profiles.delete(Ref.default("other"))
    world.parts.services.events.close()
    told = [lifecycle(event).action async for event in follower]
    assert told == ["profile-created", "profile-updated", "profile-renamed", "profile-deleted"]
