"""References: the index follows all writers, and used objects cannot be removed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from isola.daemon.records import Records
from isola.errors import InUse, IsolaError, NotFound
from isola.host.clock import LinuxClock
from isola.model.device import DeviceState
from isola.model.identity import IdRange
from isola.model.instance import Instance
from isola.model.network import Network
from isola.model.profile import Profile
from isola.model.project import FEATURES, Project
from isola.model.reference import Entity, Kind, Ref
from isola.model.storage import Pool
from isola.model.volume import VolumeRecord, VolumeRef
from isola.state import Keyed, Scoped, Store
from isola.state.drivers.sqlite import SqliteStore
from isola.state.follow import Follower
from isola.state.references import PREFIXES, USES, References, use_key
from isola.testing.parts import World
from isola.testing.store import FakeStore

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WEB, LAN, FAST = Ref.default("web"), Ref.default("lan"), "fast"
WEB_ENTITY = Entity.of(Kind.INSTANCE, WEB)
DATA = VolumeRef.custom(FAST, "data")
VOLUME = VolumeRecord("v1", FAST, "custom", "default", "data", NOW)
NIC = {"eth0": {"type": "nic", "network": "lan"}}
PLUGGED = {"eth0": DeviceState("nic", {}, {"network": "lan"})}
DISK = {"data": {"type": "disk", "path": "/data", "pool": FAST, "source": "data"}}


def instance(name: str = "web", project: str = "default", **facts: Any) -> Instance:
    given = {"profiles": (), **facts}
    return Instance(f"{project}-{name}", name, "", IdRange(1 << 20), NOW, project, **given)


@dataclass
class Daemons:
    """Two daemons over one state, which follow each other only on request."""

    first: Records
    second: Records
    stores: list[Store]

    async def keys(self) -> set[str]:
        return {entry.key for prefix in PREFIXES for entry in await self.stores[0].range(prefix)}


@pytest.fixture(params=["fake", "sqlite"])
async def daemons(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Daemons]:
    stores: list[Store] = [FakeStore(LinuxClock())] * 2
    if request.param == "sqlite":
        stores = [SqliteStore(tmp_path, LinuxClock()) for _ in range(2)]
    for store in stores:
        await store.open()
    first = await Records.load(stores[0], "one")
    await first.pools.add(FAST, Pool(FAST))
    await first.networks.add(LAN, Network("lan"))
    await first.profiles.add(WEB, Profile("web"))
    await first.volumes.add(DATA.key, VOLUME)
    yield Daemons(first, await Records.load(stores[1], "two"), stores)
    for store in stores:
        await store.close()


USED: dict[str, tuple[str, Any, Any]] = {
    "a profile": ("profiles", WEB, {"profiles": ("web",)}),
    "a network": ("networks", LAN, {"devices": NIC}),
    "a network of a profile's NIC": (
        "networks",
        LAN,
        {"plugged": PLUGGED},
    ),
    "a pool": ("pools", FAST, {"volatile": {"root.pool": FAST}}),
    "a volume": ("volumes", DATA.key, {"devices": DISK}),
}


@pytest.mark.parametrize("used", USED)
@pytest.mark.parametrize("doomed", [False, True])
async def test_objects_used_by_another_process_are_not_removed(daemons: Daemons, used: str, doomed: bool) -> None:
    noun, name, facts = USED[used]
    records: Keyed[Any, Any] = getattr(daemons.first, noun)
    await daemons.second.instances.add(WEB, instance(**facts))
    with pytest.raises(InUse, match="instance web"):  # it is not notified
        await remove(records, name, doomed=doomed)
    assert name in records
    await daemons.second.instances.remove(WEB)
    if noun == "pools":
        await daemons.second.volumes.remove(DATA.key)
    await remove(records, name, doomed=doomed)


@pytest.mark.parametrize("used", USED)
@pytest.mark.parametrize("doomed", [False, True])
async def test_objects_removed_by_another_process_are_not_used(daemons: Daemons, used: str, doomed: bool) -> None:
    noun, name, facts = USED[used]
    if noun == "pools":
        await daemons.first.volumes.remove(DATA.key)
    before = instance(description="before")
    await daemons.second.instances.add(WEB, before)
    await remove(getattr(daemons.first, noun), name, doomed=doomed)
    keys = await daemons.keys()
    with pytest.raises(NotFound, match="deleted meanwhile"):
        await daemons.second.instances.add(WEB.renamed("db"), instance("db", **facts))
    with pytest.raises(NotFound, match="deleted meanwhile"):
        await daemons.second.instances.change(WEB, lambda found: replace(found, **facts))
    assert daemons.second.instances.get(WEB).description == "before"
    assert await daemons.keys() == keys


async def remove(records: Keyed[Any, Any], name: Any, *, doomed: bool) -> None:
    """Remove it at once, or mark it first, so that it cannot be used any more."""
    if doomed and hasattr(records.get(name), "ready"):
        await records.change(name, lambda found: replace(found, ready=False))
    await records.remove(name)


async def test_a_used_project_is_neither_removed_nor_renamed_nor_changed(daemons: Daemons) -> None:
    projects = daemons.first.projects
    await projects.add("blue", Project("blue", config={key: "true" for key in FEATURES}))
    await daemons.second.projects.load()
    await daemons.second.instances.add(Ref("blue", "web"), instance(project="blue"))
    held = projects.read("blue")
    shared = {**held.value.config, "features.networks": "false"}
    for refused in (
        projects.remove("blue"),
        projects.rename("blue", "green", replace(held.value, name="green"), at=held.revision),
        projects.change("blue", lambda found: replace(found, config=shared)),
    ):
        with pytest.raises(InUse, match="web"):
            await refused
    await projects.change("blue", lambda found: replace(found, description="this much may change"))


async def test_the_index_follows_other_writers(daemons: Daemons) -> None:
    follower = Follower(daemons.stores[0], LinuxClock(), daemons.first.collections)
    follower.begin()
    index, lan = daemons.first.references, Entity.of(Kind.NETWORK, LAN)

    async def users(*expected: Entity) -> None:
        for _ in range(1000):
            if index.users(lan) == list(expected):
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"it says {index.users(lan)}")

    await daemons.second.instances.add(WEB, instance(devices=NIC))
    await users(WEB_ENTITY)
    held = daemons.second.instances.read(WEB)
    await daemons.second.instances.rename(WEB, WEB.renamed("db"), replace(held.value, name="db"), at=held.revision)
    await users(Entity.of(Kind.INSTANCE, WEB.renamed("db")))
    await daemons.second.instances.change(WEB.renamed("db"), lambda found: replace(found, devices={}))
    await users()
    await follower.end()


async def test_references_of_an_older_daemon_are_indexed_at_the_next_start(daemons: Daemons) -> None:
    await daemons.first.instances.add(WEB, instance(devices=NIC | DISK, profiles=("web",)))
    keys = await daemons.keys()
    store = daemons.stores[0]
    stale = use_key(Entity.of(Kind.NETWORK, LAN), Entity.of(Kind.INSTANCE, WEB.renamed("long-gone")))
    for key in keys:
        await store.delete(key)
    await store.put(stale, b"")
    again = await Records.load(store)
    assert await daemons.keys() == keys
    with pytest.raises(InUse, match="instance web"):
        await again.networks.remove(LAN)


async def test_concurrent_writes_during_indexing_are_kept(daemons: Daemons) -> None:
    store = daemons.stores[0]
    for key in await daemons.keys():
        if key.startswith(USES):
            await store.delete(key)
    loading = asyncio.create_task(Records.load(store))
    for number in range(20):
        await daemons.second.instances.add(WEB.renamed(f"i{number}"), instance(f"i{number}", devices=NIC))
        await asyncio.sleep(0)
    await loading
    assert await daemons.keys() == expected(await Records.load(store))


def expected(records: Records) -> set[str]:
    return {key for each in records.collections for _, keys in each.beside() for key in keys}


@pytest.mark.parametrize("seed", range(5))
async def test_the_index_always_matches_the_records(daemons: Daemons, seed: int) -> None:
    dice, index = random.Random(seed), daemons.first.references
    instances, profiles = daemons.first.instances, daemons.first.profiles
    devices: list[dict[str, dict[str, str]]] = [{}, NIC, DISK, NIC | DISK]
    for _ in range(80):
        name = f"i{dice.randrange(4)}"
        ref, wanted = WEB.renamed(name), instance(name, devices=dice.choice(devices))
        try:
            match dice.randrange(6):
                case 0:
                    await instances.add(ref, wanted)
                case 1:
                    await instances.put(ref, wanted, at=instances.revision(ref))
                case 2:
                    await instances.remove(ref)
                case 3:
                    new, held = f"i{dice.randrange(4)}", instances.read(ref)
                    renamed = replace(held.value, name=new)
                    await instances.rename(ref, WEB.renamed(new), renamed, at=held.revision)
                case 4:
                    await instances.replace_all({ref: replace(instances.read(ref), value=wanted)})
                case _:
                    await profiles.change(WEB, lambda found: replace(found, devices=dice.choice(devices)))
        except IsolaError:
            continue
    assert await daemons.keys() == expected(daemons.first)
    loaded = (await Records.load(daemons.stores[0])).references
    for kind in Kind:
        assert dict(index.of_kind(kind)) == dict(loaded.of_kind(kind))


async def test_a_name_of_another_object_is_indexed_again(daemons: Daemons) -> None:
    records, default = daemons.first, Ref("blue", "default")
    shared = {"features.networks": "false", "features.profiles": "true"}
    await records.projects.add("blue", Project("blue", config=shared))
    await records.profiles.add(default, Profile("default", devices=NIC, project="blue"))
    own = {"features.networks": "true", "features.profiles": "true"}
    await records.projects.change("blue", lambda found: replace(found, config=own))
    await records.profiles.refer_anew(default)
    assert records.references.users(Entity.of(Kind.NETWORK, LAN)) == []
    assert records.references.users(Entity.of(Kind.NETWORK, Ref("blue", "lan"))) == [Entity.of(Kind.PROFILE, default)]
    assert await daemons.keys() == expected(records)
    await records.networks.remove(LAN)


def test_unused_objects_take_no_space() -> None:
    index, lan = References(), Entity.of(Kind.NETWORK, LAN)
    index.hold(WEB_ENTITY, {lan})
    index.hold(WEB_ENTITY)
    assert list(index.of_kind(Kind.NETWORK)) == [] and index._same == {} and index._used == {}


class Unwalked(Scoped[Instance]):
    """A collection that cannot be iterated."""

    def __iter__(self) -> Iterator[Instance]:
        raise AssertionError("a lookup has gone through all instances")


async def test_users_are_found_without_iterating_over_instances(world: World) -> None:
    for name in ("web1", "web2"):
        await world.create(name)
    services = world.parts.services
    expected_users = [Entity.of(Kind.INSTANCE, Ref.default(name)) for name in ("web1", "web2")]
    world.parts.records.instances.__class__ = Unwalked
    image = next(iter(services.images)).ref
    for users in (
        services.images.used_by(image),
        services.profiles.used_by(Ref.default("default")),
        services.networks.used_by(Ref.default("isolabr0")),
        services.pools.used_by("default"),
        services.projects.used_by("default"),
    ):
        assert [user for user in users if user.kind is Kind.INSTANCE] == expected_users
    assert len(world.context.nics.on(Ref.default("isolabr0"))) == 2
    world.parts.records.instances.__class__ = Scoped


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    await world.import_image()
    yield world
    await world.parts.close()
