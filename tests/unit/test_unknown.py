"""Objects on the host without a record: unchanged until they are adopted or removed; adoption restores them."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from memory_audit import differences

from isola.daemon.bootstrap import NETWORK, POOL
from isola.errors import AlreadyExists, Conflict, InUse, InvalidInput, NotFound
from isola.instances.identity import nics_of
from isola.instances.move import Destination
from isola.model.instance import Instance, Status
from isola.model.reference import Ref
from isola.model.storage import Pool
from isola.model.volume import VolumeRef
from isola.operations import Operation
from isola.state import Intent
from isola.testing.parts import World


async def lost(world: World, *names: str, noun: str = "instances") -> None:
    """Restart the daemon without the records."""
    await world.parts.close()
    for name in names:
        await world.store.delete(f"/{noun}/default/{name}")
    await world.start()


async def everything_of(world: World, instance: Instance) -> object:
    """All objects of an instance on the host."""
    pool = world.directory / "pools/default"
    run = world.runtime.instances.get(instance.id)
    return (
        await world.host.files.exists(pool / "volumes" / instance.id / "upper"),
        await world.host.files.exists(pool / "descriptions" / f"{instance.id}.json"),
        [await world.host.files.exists(pool / "layers" / layer[7:]) for layer in instance.start.layers],
        run.number if run is not None and run.status is None else None,
        await world.host.files.names(world.directory / "networks" / NETWORK),
        sorted(pair.host for pair, _ in world.host.links.inside.values()),
    )


async def test_unknown_instances_keep_running_and_can_be_adopted(world: World) -> None:
    instance = await world.create("web1", start=True, config={"limits.cpu": "1"})
    quiet = await world.create("web2", description="kept")
    before = await everything_of(world, instance), await everything_of(world, quiet)
    await lost(world, "web1", "web2")
    for _ in range(2):
        assert (await everything_of(world, instance), await everything_of(world, quiet)) == before
        assert {each.id: each.running for each in world.parts.services.instances.unknown()} == {
            instance.id: True, quiet.id: False,
        }  # fmt: skip
        await world.parts.close()
        await world.start()
    await world.finish(world.parts.services.instances.adopt("web1"))
    await world.finish(world.parts.services.instances.adopt(quiet.id, "other"))
    assert (await everything_of(world, instance), await everything_of(world, quiet)) == before
    adopted = world.parts.services.instances.get(Ref.default("web1"))
    assert world.parts.services.instances.status(adopted) is Status.RUNNING
    assert (adopted.config, adopted.idmap, nics_of(world.context, adopted)) == (
        instance.config, instance.idmap, nics_of(world.context, instance),
    )  # fmt: skip
    assert world.parts.services.instances.get(Ref.default("other")).description == "kept"
    assert not await differences(world)
    await world.finish(world.parts.services.instances.stop(Ref.default("web1")))
    await world.finish(world.parts.services.instances.start(Ref.default("other")))
    assert not await differences(world)


async def test_adopted_instances_keep_ids_addresses_and_layers(world: World) -> None:
    instance = await world.create("web1", start=True)
    await lost(world, "web1")
    other = await world.create("web2", start=True)
    assert other.idmap != instance.idmap
    addresses = {nic.ipv4 for nic in nics_of(world.context, instance)}
    assert addresses.isdisjoint(nic.ipv4 for nic in nics_of(world.context, other))
    services = world.parts.services
    for image in list(services.images):
        await world.finish(services.images.start_delete(image.ref))
    await world.finish(services.instances.delete(Ref.default("web2"), force=True))
    assert set(await world.context.pools.driver(POOL).layers.stored()) == set(instance.start.layers)
    with pytest.raises(InUse):
        await world.finish(
            services.operations.start("x", lambda op: services.networks.delete(op, Ref.default(NETWORK)))
        )
    with pytest.raises(InUse):
        await world.finish(services.operations.start("x", lambda op: services.pools.delete(op, POOL)))


async def test_a_pool_is_deleted_after_a_foreign_directory_was_removed_by_hand(world: World) -> None:
    services = world.parts.services
    await world.finish(services.pool_verbs.create(Pool("second", driver="dir")))
    foreign = world.directory / "pools/second/volumes/0123456789abcdef"
    await world.host.files.make_directory(foreign)
    await services.instances.look()

    def deleted() -> Operation:
        return services.pool_verbs.delete("second", services.instances.look)

    with pytest.raises(InUse, match="0123456789abcdef"):
        await world.finish(deleted())
    await world.host.files.remove_tree(foreign)
    await world.finish(deleted())
    assert "second" not in {pool.name for pool in services.pools}


async def test_unknown_instances_are_removed_on_request(world: World) -> None:
    instance = await world.create("web1", start=True)
    await lost(world, "web1")
    await world.finish(world.parts.services.instances.remove_unknown("web1"))
    assert instance.id not in world.runtime.instances and not await differences(world)
    with pytest.raises(NotFound):
        world.parts.services.instances.remove_unknown("web1")


async def test_errors_of_adoption_have_a_reason(world: World) -> None:
    services = world.parts.services
    await services.profiles.create(dataclasses.replace(services.profiles.get(Ref.default("default")), name="special"))
    await world.create("web1")
    await world.create("web2", profiles=("special",))
    mute = await world.create("web3")
    await world.host.files.remove_tree(world.directory / "pools/default/descriptions" / f"{mute.id}.json")
    await lost(world, "web1", "web2", "web3")
    await lost(world, "special", noun="profiles")
    await world.create("web1")
    instances = world.parts.services.instances
    for reference, kind, message in (
        ("web1", AlreadyExists, "already exists"),
        ("web2", InvalidInput, "special"),
        (mute.id, InvalidInput, "no description"),
    ):
        with pytest.raises(kind, match=message):
            await world.finish(instances.adopt(reference))
    assert len(instances.unknown()) == 3
    await world.finish(instances.adopt("web1", "web9"))
    assert {instance.name for instance in instances} == {"web1", "web9"}


async def test_a_pool_and_a_network_are_adopted_without_records(world: World) -> None:
    instance = await world.create("web1", start=True)
    network = world.parts.services.networks.get(Ref.default(NETWORK))
    before = await everything_of(world, instance)
    await world.parts.close()
    for entry in await world.store.range("/"):
        await world.store.delete(entry.key)
    await world.start()
    assert await everything_of(world, instance) == before
    assert world.parts.services.networks.get(Ref.default(NETWORK)) == network
    await world.finish(world.parts.services.instances.adopt("web1"))
    assert await everything_of(world, instance) == before
    assert len(await world.parts.services.images.unknown()) > 3, "blobs whose image is in no record"
    await world.parts.services.images.remove_unknown()
    assert set(await world.parts.services.images.unknown()) == set()


async def test_a_pool_is_adopted_with_its_contents(world: World) -> None:
    services = world.parts.services
    await world.finish(services.operations.start("x", lambda op: services.pools.create(op, Pool("second"))))
    root = {"root": {"type": "disk", "path": "/", "pool": "second"}}
    instance = await world.create("web1", devices=root)
    await world.parts.close()
    await world.store.delete("/pools/second")
    await world.store.delete("/instances/default/web1")
    await world.start()
    services = world.parts.services
    assert list(await services.pools.unknown()) == ["second"]
    with pytest.raises(Conflict):
        await world.finish(services.operations.start("x", lambda op: services.pools.create(op, Pool("second"))))
    await world.finish(services.operations.start("x", lambda op: services.pools.adopt(op, "second")))
    await services.instances.look()
    assert [each.id for each in services.instances.unknown()] == [instance.id]
    await world.finish(services.instances.adopt("web1"))
    await world.finish(services.instances.start(Ref.default("web1")))


async def test_only_incomplete_objects_are_removed(world: World) -> None:
    kept = await world.create("web1")
    half = await world.create("web2")
    await world.parts.close()
    for name in ("web1", "web2"):
        await world.store.delete(f"/instances/default/{name}")
    await world.parts.records.intents.begin(Intent(half.id, "instance", {"pool": POOL}))
    await world.start()
    assert [each.id for each in world.parts.services.instances.unknown()] == [kept.id]
    assert await world.context.pools.driver(POOL).volumes() == (kept.id,)
    assert not await world.store.range("/intents/")


async def test_a_volume_without_a_description_gets_one(world: World) -> None:
    instance = await world.create("web1")
    place = world.directory / "pools/default/descriptions"
    await world.host.files.remove_tree(place)
    await world.parts.close()
    await world.start()
    assert await world.host.files.names(place) == (f"{instance.id}.json",)


async def second_pool(world: World) -> None:
    services = world.parts.services
    await world.finish(services.operations.start("x", lambda op: services.pools.create(op, Pool("second"))))


async def put(world: World, place: str) -> Path:
    path = world.directory / "pools" / place
    await world.host.files.make_directory(path)
    return path


async def test_objects_that_appear_after_the_start_are_found(world: World) -> None:
    await put(world, "default/volumes/theirs")
    instances = world.parts.services.instances
    assert not instances.unknown()
    await instances.look()
    assert [each.key for each in instances.unknown()] == ["default/theirs"]
    await world.host.files.remove_tree(world.directory / "pools/default/volumes/theirs")
    await instances.look()
    assert not instances.unknown()


async def test_the_same_id_may_be_in_two_pools(world: World) -> None:
    await second_pool(world)
    for pool in ("default", "second"):
        await put(world, f"{pool}/volumes/theirs")
    instances = world.parts.services.instances
    await instances.look()
    assert [each.key for each in instances.unknown()] == ["default/theirs", "second/theirs"]
    with pytest.raises(InvalidInput, match="default/theirs, second/theirs"):
        instances.remove_unknown("theirs")
    await world.finish(instances.remove_unknown("second/theirs"))
    assert [each.key for each in instances.unknown()] == ["default/theirs"]
    assert await world.host.files.exists(world.directory / "pools/default/volumes/theirs")


async def test_removing_a_copy_of_a_volume_keeps_the_recorded_one(world: World) -> None:
    instance = await world.create("web1", start=True)
    before = await everything_of(world, instance)
    await second_pool(world)
    await put(world, f"second/volumes/{instance.id}")
    instances = world.parts.services.instances
    await instances.look()
    (found,) = instances.unknown()
    assert (found.key, found.running) == (f"second/{instance.id}", False)
    await world.finish(instances.remove_unknown(instance.id))
    assert await everything_of(world, instance) == before
    assert not await world.host.files.exists(world.directory / "pools/second/volumes" / instance.id)
    assert not await differences(world)


async def test_concurrent_creations_and_deletions_are_not_unknown(world: World) -> None:
    instances = world.parts.services.instances
    reports: list[str] = []
    looks: list[int] = []

    async def watch() -> None:
        while True:
            await instances.look()
            reports.extend(each.key for each in instances.unknown())
            looks.append(len(reports))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    try:
        await second_pool(world)
        for _ in range(5):
            await world.create("web1", start=True)
            await world.finish(instances.stop(Ref.default("web1"), force=True))
            await world.finish(instances.move(Ref.default("web1"), Destination(Ref.default("web1"), pool="second")))
            await world.finish(instances.delete(Ref.default("web1"), force=True))
    finally:
        watching.cancel()
    assert len(looks) > 50 and not reports


async def test_foreign_files_are_listed(world: World) -> None:
    volumes = world.parts.services.volumes
    await world.finish(await volumes.create(VolumeRef.custom(POOL, "data", "default"), {}, ""))
    assert not await volumes.foreign(POOL)
    theirs = [await put(world, f"default/{name}") for name in ("custom/theirs", "theirs")]
    assert list(await volumes.foreign(POOL)) == theirs
