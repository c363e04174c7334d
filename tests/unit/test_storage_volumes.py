"""Custom volumes on fake hosts: records, verbs, holders, and cleanup of interrupted changes by the next daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from heard import lifecycle
from volume_house import COPY, DATA, HOME, IDS, OTHERS, House, copied, furnished, with_data

from isola.devices.driver import Parts, Plug, Target
from isola.devices.drivers.disk import Disk
from isola.errors import AlreadyExists, InUse, InvalidInput, IsolaError, NotFound
from isola.model.device import DeviceState
from isola.model.event import EventKind
from isola.model.identity import HostNames
from isola.model.instance import Instance
from isola.model.network import NetworkNamespace, Nic
from isola.model.reference import Entity, Kind, Ref
from isola.model.volume import VolumeRef
from isola.network import Networks
from isola.operations import Operation


@pytest.fixture
async def house() -> AsyncIterator[House]:
    yield await furnished()


# --- lifecycle of a volume ------------------------------------------------------------------------------------------


async def test_a_volume_is_created_recorded_and_published(house: House) -> None:
    followed = house.events.follow({EventKind.LIFECYCLE})
    await house.finish(house.volumes.create(DATA, {"size": "64MiB", "user.a": "b"}, "mine"))
    record = house.volumes.get(DATA)
    assert (record.description, record.size, record.ready) == ("mine", 64 << 20, True)
    event = await anext(aiter(followed))
    assert lifecycle(event).action == "storage-volume-created"
    assert lifecycle(event).source == DATA.entity
    assert lifecycle(event).context == {"type": "custom"}
    await house.picture()
    later = await house.again()
    assert later.volumes.get(DATA) == record
    assert (await later.volumes.usage(DATA)).total == 64 << 20


async def test_new_volumes_get_the_defaults_of_their_pool(house: House) -> None:
    with pytest.raises(InvalidInput, match="five fields") as caught:
        await house.pools.update("fast", lambda pool: replace(pool, config={"volume.snapshots.schedule": "* *"}))
    assert caught.value.field == "config.volume.snapshots.schedule"
    defaults = {"volume.snapshots.schedule": "@daily", "volume.snapshots.expiry": "3d"}
    await house.finish(house.volumes.create(DATA, {}))
    await house.pools.update("fast", lambda pool: replace(pool, config={**pool.config, **defaults}))
    own = VolumeRef.custom("fast", "own")
    await house.finish(house.volumes.create(own, {"snapshots.expiry": "1w"}))
    assert house.volumes.get(DATA).config == {}, "it was there before"
    await house.pools.update("fast", lambda pool: replace(pool, config={**pool.config, **dict.fromkeys(defaults, "")}))
    assert house.volumes.get(own).config == {"snapshots.schedule": "@daily", "snapshots.expiry": "1w"}


@pytest.mark.parametrize(
    ("ref", "config", "error", "message"),
    [
        (VolumeRef.custom("fast", "a/b"), {}, InvalidInput, "Invalid name"),
        (VolumeRef.custom("fast", ".."), {}, InvalidInput, "Invalid name"),
        (VolumeRef.custom("none", "a"), {}, NotFound, "none"),
        (VolumeRef("fast", "container", "default", "a"), {}, InvalidInput, "Only custom"),
        (VolumeRef.custom("fast", "a"), {"sise": "1GiB"}, InvalidInput, "sise"),
        (VolumeRef.custom("fast", "a"), {"size": "lots"}, InvalidInput, "size"),
        (VolumeRef.custom("slow", "a"), {"size": "1GiB"}, InvalidInput, "no project quotas"),
        (VolumeRef.custom("fast", "a"), {"snapshots.schedule": "* * *"}, InvalidInput, "five fields"),
        (VolumeRef.custom("fast", "a"), {"snapshots.pattern": "../x"}, InvalidInput, "expected"),
        (VolumeRef.custom("fast", "a"), {"snapshots.expiry": "soon"}, InvalidInput, "period"),
    ],
)
async def test_invalid_requests_are_refused_before_any_effect(
    house: House, ref: VolumeRef, config: dict[str, str], error: type[IsolaError], message: str
) -> None:
    with pytest.raises(error, match=message):
        await house.volumes.create(ref, config)
    assert list(house.volumes) == []
    await house.picture()


async def test_a_copy_in_a_pool_without_limits_has_none(house: House) -> None:
    await house.finish(house.volumes.create(DATA, {"size": "64MiB", "user.a": "b"}))
    source, copy = house.volumes.get(DATA), VolumeRef.custom("slow", "data")
    for config in (None, source.config):  # clients of LXD send the source's configuration
        await house.finish(house.volumes.copy(DATA, copy, config=config))
        assert house.volumes.get(copy).config == {"user.a": "b"}
        await house.finish(house.volumes.delete(copy))
    await house.finish(house.volumes.copy(DATA, COPY))
    assert house.volumes.get(COPY).config == source.config
    with pytest.raises(InvalidInput, match="no project quotas"):
        await house.volumes.copy(DATA, copy, config={"size": "32MiB"})
    with pytest.raises(InvalidInput, match="no project quotas") as refused:
        await house.volumes.move(DATA, copy)
    assert "unset size" in refused.value.remedy


async def test_names_are_unique_per_pool(house: House) -> None:
    await house.finish(house.volumes.create(DATA, {}))
    with pytest.raises(AlreadyExists):
        await house.volumes.create(DATA, {})
    await house.finish(house.volumes.create(VolumeRef.custom("slow", "data"), {}))
    assert [record.pool for record in house.volumes] == ["fast", "slow"]
    assert house.volumes.in_pool("slow") == [house.volumes.get(VolumeRef.custom("slow", "data"))]


async def test_size_and_description_change(house: House) -> None:
    await house.finish(house.volumes.create(DATA, {}))
    await house.finish(
        house.volumes.update(DATA, lambda found: replace(found, config={"size": "2GiB"}, description="new"))
    )
    assert (house.volumes.get(DATA).size, house.volumes.get(DATA).description) == (2 << 30, "new")
    assert house.host.subvolumes.limits
    with pytest.raises(InvalidInput):
        await house.volumes.update(DATA, lambda found: replace(found, config={"size": "x"}))
    with pytest.raises(NotFound):
        await house.volumes.update(COPY, lambda found: found)


async def test_a_used_volume_is_neither_removed_nor_moved(house: House) -> None:
    await house.finish(house.volumes.create(DATA, {}))
    web = Entity.of(Kind.INSTANCE, Ref.default("web1"))
    house.references.hold(web, {DATA.entity})
    for begin in (house.volumes.delete(DATA), house.volumes.move(DATA, COPY)):
        with pytest.raises(InUse, match="web1"):
            await begin
    house.references.hold(web)
    await house.attach(DATA, "one")
    with pytest.raises(InUse):
        await house.volumes.delete(DATA)
    await house.detach(DATA, "one")
    await house.finish(house.volumes.delete(DATA))
    with pytest.raises(NotFound):
        house.volumes.get(DATA)
    await house.picture()


# --- holders ---------------------------------------------------------------------------------------------------


async def test_two_holders_share_a_volume_until_the_last_detaches(house: House) -> None:
    await house.finish(house.volumes.create(DATA, {}))
    one, two = await house.attach(DATA, "one"), await house.attach(DATA, "two", OTHERS)
    assert await house.attach(DATA, "one") == one != two
    assert house.volumes.get(DATA).attachments == ("one", "two")
    await house.host.files.write(one / "file", b"shared")
    await house.detach(DATA, "one")
    assert await house.host.files.read(two / "file") == b"shared"
    later = await house.again()
    assert later.volumes.get(DATA).attachments == ("two",)
    await later.detach(DATA, "two")
    await later.detach(DATA, "two")
    await later.detach(COPY, "two")
    assert later.volumes.get(DATA).attachments == ()


async def test_concurrent_attachment_and_deletion(house: House) -> None:
    """One of them wins: a deleted volume is never attached."""
    away = VolumeRef.custom("slow", "data")
    begins: list[Callable[[], Coroutine[Any, Any, Operation]]] = [
        lambda: house.volumes.delete(DATA),
        lambda: house.volumes.move(DATA, away),
    ]
    for begin in begins:
        for turns in range(12):
            await house.finish(house.volumes.create(DATA, {}))

            async def late(turns: int = turns) -> None:
                for _ in range(turns):
                    await asyncio.sleep(0)
                await house.attach(DATA, "one")

            attached, removed = await asyncio.gather(late(), house.finish(begin()), return_exceptions=True)
            assert isinstance(attached, IsolaError) != isinstance(removed, IsolaError)
            for record in list(house.volumes):
                await house.detach(record.ref, "one")
                await house.finish(house.volumes.delete(record.ref))
            await house.picture()


async def test_after_a_reboot_it_has_no_holder(house: House) -> None:
    await house.finish(house.volumes.create(DATA, {}))
    await house.attach(DATA, "one")
    for mount in await house.host.mounts.below(HOME):
        await house.host.mounts.unmount(mount)
    later = await house.again()
    assert later.volumes.get(DATA).attachments == ()
    assert await later.attach(DATA, "one")


async def test_a_disk_device_shows_a_volume_to_two_instances(house: House) -> None:
    await house.finish(house.volumes.create(DATA, {}))
    parts = Parts(
        house.host,
        HOME,
        HostNames("isola"),
        cast(Networks, None),
        house.pools,
        house.volumes,
        volume_ref=lambda project, pool, name: VolumeRef.custom(pool, name, project),
        network_ref=Ref,
        nic=lambda plug: cast(Nic, None),
    )
    disk = Disk(parts)
    state = DeviceState("disk", {"pool": "fast", "source": "data", "path": "/srv"})
    plugs = []
    for number, ids in enumerate((IDS, OTHERS)):
        instance = Instance(f"{number:016x}", f"web{number}", "", ids, house.host.clock.now())
        guest = await house.guest(instance.id, ids)
        plug, target = Plug(instance, "data", state), Target(NetworkNamespace(Path("/netns/1")), guest)
        plugs.append((plug, target))
        await disk.require(plug)
        await house.do(lambda op, plug=plug, target=target: disk.attach(op, plug, target))  # type: ignore[misc]
    assert len(house.volumes.get(DATA).attachments) == 2
    with pytest.raises(InUse):
        await house.volumes.delete(DATA)
    for plug, target in plugs:
        for _ in range(2):
            await house.do(lambda op, plug=plug, target=target: disk.detach(op, plug, target))  # type: ignore[misc]
    assert house.volumes.get(DATA).attachments == ()
    assert [mount for mount in house.host.mounts.table if "mounts" in str(mount.target)] == []
    part = replace(plugs[0][0], state=DeviceState("disk", {"pool": "fast", "source": "data/sub", "path": "/srv"}))
    await disk.require(part)
    await house.finish(house.volumes.delete(DATA))
    with pytest.raises(NotFound):
        await disk.require(part)
    with pytest.raises(NotFound, match="data") as caught:
        await disk.require(plugs[0][0])
    assert caught.value.field == "devices.data.source"


# --- copies, moves, snapshots ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["fast", "slow"])
async def test_a_copy_has_the_snapshots_too(pool: str) -> None:
    house = await with_data()
    copy = VolumeRef.custom(pool, "copy")
    await house.finish(house.volumes.copy(DATA, copy))
    assert [snapshot.name for snapshot in house.volumes.snapshots.of(copy)] == ["s-one", "s-two"]
    assert (await house.read(copy), house.volumes.get(copy).description) == ("three", "mine")
    assert house.volumes.get(copy).parent == house.volumes.get(DATA).id
    await house.finish(house.volumes.snapshots.restore(copy, "s-one"))
    assert (await house.read(copy), await house.read(DATA)) == ("one", "three")
    only = VolumeRef.custom(pool, "only")
    await house.finish(house.volumes.copy(DATA, only, snapshot="s-two", config={}))
    assert (await house.read(only), house.volumes.snapshots.of(only)) == ("two", [])
    await house.picture()


@pytest.mark.parametrize("pool", ["fast", "slow"])
async def test_a_refreshed_copy_has_the_present_content_and_snapshots(pool: str) -> None:
    house, copy = await copied(pool)
    before, heard = house.volumes.get(copy), house.events.follow({EventKind.LIFECYCLE})
    kept = house.volumes.snapshots.get(copy, "s-two").id
    await house.finish(house.volumes.refresh(DATA, copy))
    assert [each.name for each in house.volumes.snapshots.of(copy)] == ["s-two", "s-one"]
    assert (await house.read(copy), await house.read(DATA)) == ("five", "five")
    assert (house.volumes.get(copy), house.volumes.snapshots.get(copy, "s-two").id) == (before, kept)
    assert lifecycle(await anext(aiter(heard))).action == "storage-volume-updated"
    await house.finish(house.volumes.snapshots.restore(copy, "s-one"))
    assert await house.read(copy) == "four"
    await house.finish(house.volumes.refresh(DATA, copy, snapshot="s-two"))
    await house.finish(house.volumes.snapshots.delete(DATA, "s-one"))
    await house.finish(house.volumes.refresh(DATA, copy, with_snapshots=False))
    assert [each.name for each in house.volumes.snapshots.of(copy)] == ["s-two", "s-one"]
    await house.picture()


async def test_invalid_refreshes_of_volumes_are_refused() -> None:
    house, copy = await copied("fast")
    with pytest.raises(InvalidInput):
        house.volumes.refresh(DATA, DATA)
    with pytest.raises(NotFound):
        house.volumes.refresh(DATA, copy, snapshot="none")
    await house.attach(copy, "one")
    with pytest.raises(InUse):
        house.volumes.refresh(DATA, copy)
    assert (await house.read(copy), len(house.volumes.snapshots.of(copy))) == ("three", 3)


async def test_an_incomplete_snapshot_is_neither_shown_nor_copied_but_can_be_removed() -> None:
    house = await with_data()
    key = house.volumes.snapshots.get(DATA, "s-one").key
    await house.snapshot_records.change(key, lambda found: replace(found, ready=False))
    assert [each.name for each in house.volumes.snapshots.of(DATA)] == ["s-two"]
    with pytest.raises(NotFound):
        house.volumes.snapshots.restore(DATA, "s-one")
    await house.finish(house.volumes.copy(DATA, COPY))
    assert [each.name for each in house.volumes.snapshots.of(COPY)] == ["s-two"]
    await house.finish(house.volumes.snapshots.delete(DATA, "s-one"))
    await house.picture()


async def test_a_volume_is_renamed_and_moved_to_another_pool() -> None:
    house = await with_data()
    id = house.volumes.get(DATA).id
    await house.finish(house.volumes.move(DATA, COPY))
    assert (house.volumes.get(COPY).id, len(house.volumes.snapshots.of(COPY))) == (id, 2)
    slow = VolumeRef.custom("slow", "data")
    await house.finish(house.volumes.move(COPY, slow))
    assert await house.read(slow) == "three"
    assert [snapshot.name for snapshot in house.volumes.snapshots.of(slow)] == ["s-one", "s-two"]
    assert [record.name for record in house.volumes] == ["data"]
    await house.picture()


async def test_snapshots_are_renamed_changed_restored_and_removed() -> None:
    house = await with_data()
    snapshots = house.volumes.snapshots
    with pytest.raises(AlreadyExists):
        snapshots.create(DATA, "s-one")
    await house.finish(snapshots.rename(DATA, "s-one", "first"))
    tomorrow = house.host.clock.now() + timedelta(days=1)
    await house.finish(
        snapshots.update(DATA, "first", lambda found: replace(found, description="d", expires_at=tomorrow))
    )
    assert (snapshots.get(DATA, "first").description, snapshots.get(DATA, "first").expires_at) == ("d", tomorrow)
    await house.attach(DATA, "one")
    with pytest.raises(InUse):
        snapshots.restore(DATA, "first")
    await house.detach(DATA, "one")
    await house.finish(snapshots.restore(DATA, "first"))
    assert await house.read(DATA) == "one"
    await house.finish(snapshots.delete(DATA, "first"))
    with pytest.raises(NotFound):
        snapshots.restore(DATA, "first")
    await house.picture()
    await house.finish(house.volumes.delete(DATA))
    assert len(house.snapshot_records) == 0


async def test_snapshots_are_taken_and_deleted_by_schedule(house: House) -> None:
    config = {"snapshots.schedule": "@hourly", "snapshots.expiry": "2H", "snapshots.pattern": "auto-%d"}
    await house.finish(house.volumes.create(DATA, config))
    hour = house.host.clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    names = []
    for step in range(4):
        await house.host.clock.advance((hour + timedelta(hours=step) - house.host.clock.now()).total_seconds())
        await house.volumes.snapshots.look(hour + timedelta(hours=step))
        await house.volumes.snapshots.look(hour + timedelta(hours=step, minutes=1))
        names.append([snapshot.name for snapshot in house.volumes.snapshots.of(DATA)])
    assert names == [["auto-0"], ["auto-0", "auto-1"], ["auto-1", "auto-2"], ["auto-2", "auto-3"]]
