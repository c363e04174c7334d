"""The contract of storage drivers for volumes: holders, snapshots, copies and visits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from network_host import act
from storage_subject import BASE, IDS, TOP, StopsAt, Subject

from isola.errors import AlreadyExists, InUse, IsolaError, NotFound, Unsupported
from isola.model.identity import IdRange
from isola.model.storage import Volume
from isola.operations import Operation
from isola.storage import Feature
from isola.storage.tree_layers import Trees

# --- volumes ---------------------------------------------------------------------------------------------------


async def test_a_volume_shows_its_layers_with_its_own_ids(filled: Subject) -> None:
    root = await filled.mount(await filled.volume())
    assert await filled.read(root, "/a") == "base"
    assert await filled.read(root, "/b") == "top"
    async with filled.host.files.root(root) as raw:
        assert (await raw.stat("/a")).uid == IDS.base
        assert (await raw.stat("/")).uid == IDS.base
        assert (await raw.stat("/")).mode == 0o755


async def test_volumes_share_layers_and_nothing_else(filled: Subject) -> None:
    one = await filled.mount(await filled.volume("v1"))
    two = await filled.mount(await filled.volume("v2", IDS.base + IDS.size))
    await filled.write(one, "/a", "changed")
    await filled.write(one, "/new", "new")
    assert await filled.read(two, "/a") == "base"
    with pytest.raises(NotFound):
        await filled.read(two, "/new")
    async with filled.host.files.root(two) as raw:
        assert (await raw.stat("/a")).uid == IDS.base + IDS.size


async def test_writes_persist(filled: Subject) -> None:
    volume = await filled.volume()
    await filled.write(await filled.mount(volume), "/a", "changed")
    await filled.unmount(volume)
    filled.driver = filled.again()
    assert await filled.read(await filled.mount(volume), "/a") == "changed"


async def test_mounting_and_unmounting_twice(filled: Subject) -> None:
    volume = await filled.volume()
    assert await filled.mount(volume) == await filled.mount(volume)
    assert len(await filled.mounted()) <= 1
    await filled.unmount(volume)
    await filled.unmount(volume)
    assert await filled.mounted() == ()


async def test_a_volume_without_layers_is_empty(pool: Subject) -> None:
    volume = Volume("v1", "p", idmap=IDS)
    await pool.do(lambda op: pool.driver.create_volume(op, volume))
    root = await pool.mount(volume)
    async with pool.host.files.root(root, idmap=IDS) as seen:
        assert [piece async for piece in await seen.names("/")] == []
    await pool.write(root, "/x", "y")
    assert await pool.read(root, "/x") == "y"


async def test_a_volume_needs_its_layers(pool: Subject) -> None:
    with pytest.raises(NotFound):
        await pool.do(lambda op: pool.driver.create_volume(op, Volume("v1", "p", layers=(BASE,), idmap=IDS)))
    assert await pool.driver.volumes() == ()


async def test_a_second_volume_of_one_id_leaves_the_first_alone(filled: Subject) -> None:
    volume = await filled.volume()
    await filled.write(await filled.mount(volume), "/a", "precious")
    with pytest.raises(AlreadyExists):
        await filled.volume()
    assert await filled.read(await filled.mount(volume), "/a") == "precious"


async def test_volumes_are_listed_and_deleted_even_while_mounted(filled: Subject) -> None:
    first, second = await filled.volume("v1"), await filled.volume("v2")
    await filled.mount(first)
    assert await filled.driver.volumes() == ("v1", "v2")
    for volume in (first, first, second):
        await filled.do(lambda op, volume=volume: filled.driver.delete_volume(op, volume))  # type: ignore[misc]
    assert await filled.picture() == ((), (), filled.ids(BASE, TOP), (), ())


async def test_missing_volumes_cannot_be_mounted(filled: Subject) -> None:
    with pytest.raises(NotFound):
        await filled.mount(Volume("nothing", "p", layers=(BASE,), idmap=IDS))
    await filled.unmount(Volume("nothing", "p"))
    assert await filled.picture() == ((), (), filled.ids(BASE, TOP), (), ())


async def test_usage_grows_only_with_writes(filled: Subject) -> None:
    volume = await filled.volume()
    before = await filled.driver.usage(volume)
    root = await filled.mount(volume)
    await filled.write(root, "/x", "x" * (1 << 20))
    await filled.unmount(volume)
    await filled.host.files.sync(filled.driver.place)  # data that is not on disk may not be counted yet
    assert await filled.driver.usage(volume) - before >= 1 << 20
    if filled.driver.capabilities.shared_layers:
        assert before <= 64 << 10


# --- custom volumes and holders --------------------------------------------------------------------------------


async def test_a_custom_volume_is_shown_to_each_holder_with_ids_of_its_own(pool: Subject) -> None:
    volume = await pool.custom()
    theirs = IdRange(IDS.base + IDS.size)
    one = await pool.mount(replace(volume, idmap=IDS), "one")
    two = await pool.mount(replace(volume, idmap=theirs), "two")
    assert one != two
    await pool.write(one, "/file", "shared")
    assert await pool.read(two, "/file") == "shared"
    async with pool.host.files.root(one) as raw:
        assert ((await raw.stat("/file")).uid, (await raw.stat("/")).mode) == (IDS.base, 0o711)
    async with pool.host.files.root(two) as raw:
        assert (await raw.stat("/file")).uid == theirs.base


async def test_the_first_detach_does_not_affect_the_second_holder(pool: Subject) -> None:
    volume = replace(await pool.custom(), idmap=IDS)
    one, two = await pool.mount(volume, "one"), await pool.mount(volume, "two")
    await pool.write(one, "/file", "x")
    await pool.unmount(volume, "one")
    await pool.unmount(volume, "one")
    assert await pool.read(two, "/file") == "x"
    assert not await pool.driver.is_mounted(volume, "one")
    pool.driver = pool.again()  # also for the next daemon
    assert await pool.driver.is_mounted(volume, "two")
    await pool.unmount(volume, "two")
    assert await pool.mounted() == ()


async def test_two_holders_of_one_root(filled: Subject) -> None:
    volume = await filled.volume()
    root = await filled.mount(volume, "one")
    assert await filled.mount(volume, "two") == root
    await filled.unmount(volume, "one")
    assert await filled.read(root, "/a") == "base"
    await filled.unmount(volume, "two")
    assert await filled.mounted() == ()


async def test_custom_volumes_and_roots_are_distinguished(filled: Subject) -> None:
    await filled.volume("v1")
    volume = await filled.custom("c1")
    assert (await filled.driver.volumes(), await filled.driver.volumes("custom")) == (("v1",), ("c1",))
    await filled.mount(volume, "one")
    await filled.do(lambda op: filled.driver.delete_volume(op, volume))
    await filled.do(lambda op: filled.driver.delete_volume(op, volume))
    assert (await filled.driver.volumes(), await filled.driver.volumes("custom")) == (("v1",), ())
    assert await filled.mounted() == ()


async def test_a_size_is_enforced_or_refused_with_a_reason(pool: Subject) -> None:
    reason = await pool.driver.why_not(Feature.QUOTA)
    if reason:
        with pytest.raises(Unsupported) as caught:
            await pool.custom(size=64 << 20)
        assert reason in str(caught.value)
        return
    volume = await pool.custom(size=16 << 20)
    await pool.do(lambda op: pool.driver.resize_volume(op, volume, 32 << 20))
    await pool.do(lambda op: pool.driver.resize_volume(op, volume, None))
    assert await pool.driver.volumes("custom") == ("c1",)


@pytest.mark.parametrize("feature", [Feature.SEND, Feature.RECEIVE])
async def test_missing_features_have_a_reason(pool: Subject, feature: Feature) -> None:
    assert await pool.driver.why_not(feature)
    with pytest.raises(Unsupported):
        await pool.driver.require(feature)


# --- snapshots and copies --------------------------------------------------------------------------------------


async def test_a_snapshot_keeps_the_content(filled: Subject) -> None:
    for volume in (await filled.volume(), replace(await filled.custom(), idmap=IDS)):
        root = await filled.mount(volume, "one")
        await filled.write(root, "/file", "then")
        await filled.unmount(volume, "one")
        await filled.do(lambda op, volume=volume: filled.driver.create_snapshot(op, volume, "s1"))  # type: ignore[misc]
        assert await filled.driver.snapshots(volume) == ("s1",)
        root = await filled.mount(volume, "one")
        assert await filled.read(root, "/file") == "then"
        await filled.write(root, "/file", "now")
        await filled.write(root, "/more", "now")
        await filled.unmount(volume, "one")
        await filled.do(lambda op, volume=volume: filled.driver.restore_snapshot(op, volume, "s1"))  # type: ignore[misc]
        root = await filled.mount(volume, "one")
        assert await filled.read(root, "/file") == "then"
        with pytest.raises(NotFound):
            await filled.read(root, "/more")
        await filled.write(root, "/file", "again")
        await filled.unmount(volume, "one")
        assert await filled.driver.snapshots(volume) == ("s1",)


async def test_a_restore_does_not_wait_for_the_removal_of_the_old_content(filled: Subject) -> None:
    volume = await filled.volume()
    await filled.do(lambda op: filled.driver.create_snapshot(op, volume, "s1"))
    removing, go_on = asyncio.Event(), asyncio.Event()
    trees = getattr(filled.driver, "trees", None)
    assert isinstance(trees, Trees)
    remove = trees.destroy

    async def slowly(path: Path) -> None:
        if path.name.endswith(".restored"):
            removing.set()
            await go_on.wait()
        await remove(path)

    trees.destroy = slowly  # type: ignore[assignment, method-assign]
    await filled.do(lambda op: filled.driver.restore_snapshot(op, volume, "s1"))
    await removing.wait()
    # Another restore meanwhile; the next daemon completes the removal.
    await filled.do(lambda op: filled.driver.restore_snapshot(op, volume, "s1"))
    partial = filled.driver.place / "partial"
    assert len(await filled.host.files.names(partial)) == 2
    successor = filled.again()
    await successor.clean()
    await successor.settled()
    assert await filled.host.files.names(partial) == ()
    go_on.set()
    await filled.driver.settled()
    assert await filled.picture() == (("v1",), (), filled.ids(BASE, TOP), (), ())


async def test_a_refresh_brings_what_differs(filled: Subject) -> None:
    """Also of a volume that was never the same; and what was prepared takes effect on what is there then."""
    source, copy = await filled.custom("c1"), await filled.custom("c2")
    for volume, text in ((source, "new"), (copy, "old")):
        root = await filled.mount(replace(volume, idmap=IDS), "one")
        await filled.write(root, "/file", text)
        await filled.write(root, f"/{text}", text)
        await filled.unmount(volume, "one")

    async def prepare(op: Operation) -> None:
        async with filled.driver.changes(source) as tree:
            await filled.driver.prepare_refresh(op, copy, "r1", tree, same_pool=True)

    for _ in range(2):
        await filled.do(prepare)
        await filled.driver.apply_restore(copy, "r1")
        root = await filled.mount(replace(copy, idmap=IDS), "one")
        assert (await filled.read(root, "/file"), await filled.read(root, "/new")) == ("new", "new")
        with pytest.raises(NotFound):
            await filled.read(root, "/old")
        await filled.unmount(copy, "one")
    await filled.do(prepare)
    root = await filled.mount(replace(copy, idmap=IDS), "one")
    with pytest.raises(InUse):
        await filled.do(prepare)
    await filled.write(root, "/late", "late")
    await filled.unmount(copy, "one")
    with pytest.raises(NotFound):  # it may have been written to since
        await filled.driver.apply_restore(copy, "r1")
    await filled.driver.settled()
    assert await filled.host.files.names(filled.driver.place / "partial") == ()


async def test_a_deletion_does_not_wait_for_the_removal_of_files(filled: Subject) -> None:
    volume, custom = await filled.volume(), await filled.custom()
    await filled.do(lambda op: filled.driver.create_snapshot(op, volume, "s1"))
    go_on = asyncio.Event()
    trees = getattr(filled.driver, "trees", None)
    assert isinstance(trees, Trees)
    destroy = trees.destroy

    async def slowly(path: Path) -> None:
        await go_on.wait()
        await destroy(path)

    trees.destroy = slowly  # type: ignore[assignment, method-assign]
    await filled.do(lambda op: filled.driver.delete_snapshot(op, volume, "s1"))
    for each in (volume, custom):
        await filled.do(lambda op, each=each: filled.driver.delete_volume(op, each))  # type: ignore[misc]
    assert (await filled.driver.volumes(), await filled.driver.volumes("custom")) == ((), ())
    assert len(await filled.host.files.names(filled.driver.place / "partial")) == 3
    # The name is free at once; deleting the pool waits for the removal.
    trees.destroy = destroy  # type: ignore[method-assign]
    await filled.volume()
    removal = asyncio.ensure_future(filled.do(filled.driver.delete_pool))
    await asyncio.wait({removal}, timeout=0.05)
    assert not removal.done()
    go_on.set()
    await removal
    assert await filled.host.files.names(filled.directory) == ()


async def test_foreign_files_among_incomplete_trees_stay(filled: Subject) -> None:
    partial = filled.driver.place / "partial"
    for name in ("theirs", "v7.new", "c2.0123.deleted", "0123456789abcdef"):
        await filled.host.files.make_directory(partial / name / "data")
    successor = filled.again()
    await successor.clean()
    await successor.settled()
    assert await filled.host.files.names(partial) == ("theirs",)
    assert partial / "theirs" in await successor.foreign()
    await filled.host.files.remove_tree(partial / "theirs")


async def test_a_mounted_volume_is_not_restored(filled: Subject) -> None:
    volume = await filled.volume()
    await filled.do(lambda op: filled.driver.create_snapshot(op, volume, "s1"))
    await filled.mount(volume)
    with pytest.raises(InUse):
        await filled.do(lambda op: filled.driver.restore_snapshot(op, volume, "s1"))


async def test_snapshots_are_deleted_singly_or_with_their_volume(filled: Subject) -> None:
    volume = await filled.custom()
    for id in ("s1", "s2"):
        await filled.do(lambda op, id=id: filled.driver.create_snapshot(op, volume, id))  # type: ignore[misc]
    with pytest.raises(AlreadyExists):
        await filled.do(lambda op: filled.driver.create_snapshot(op, volume, "s1"))
    for _ in range(2):
        await filled.do(lambda op: filled.driver.delete_snapshot(op, volume, "s1"))
    assert await filled.driver.snapshots(volume) == ("s2",)
    with pytest.raises(NotFound):
        await filled.do(lambda op: filled.driver.restore_snapshot(op, volume, "s1"))
    await filled.do(lambda op: filled.driver.delete_volume(op, volume))
    assert await filled.driver.snapshots(volume) == ()
    assert await filled.picture() == ((), (), filled.ids(BASE, TOP), (), ())


async def test_a_copy_is_independent_and_has_ids_of_its_own(filled: Subject) -> None:
    source = await filled.volume()
    root = await filled.mount(source)
    await filled.write(root, "/file", "then")
    await filled.unmount(source)
    await filled.do(lambda op: filled.driver.create_snapshot(op, source, "s1"))
    root = await filled.mount(source)
    await filled.write(root, "/file", "now")
    await filled.unmount(source)
    ids = IdRange(IDS.base + 3 * IDS.size)
    for id, snapshot, seen in (("v2", None, "now"), ("v3", "s1", "then")):
        copy = Volume(id, "p", layers=(BASE, TOP), idmap=ids)
        await filled.do(
            lambda op, copy=copy, snapshot=snapshot: filled.driver.clone_volume(op, copy, source, snapshot)  # type: ignore[misc]
        )
        place = await filled.mount(copy)
        assert (await filled.read(place, "/file"), await filled.read(place, "/a")) == (seen, "base")
        async with filled.host.files.root(place) as raw:
            assert {(await raw.stat(path)).uid for path in ("/", "/file", "/a")} == {ids.base}
        await filled.unmount(copy)


async def test_content_is_copied_from_another_pool(pool: Subject) -> None:
    volume = await pool.custom()
    await pool.write(await pool.mount(replace(volume, idmap=IDS), "one"), "/file", "x")
    other = Volume("c2", "p", kind="custom")
    async with pool.driver.contents(volume) as tree:
        await pool.do(lambda op: pool.driver.fill_volume(op, other, tree))
    assert await pool.read(await pool.mount(replace(other, idmap=IDS), "one"), "/file") == "x"
    async with pool.driver.visit(other) as raw, pool.host.files.root(raw) as root:
        assert (await root.stat("/file")).uid == 0


@pytest.mark.parametrize("action", ["fail", "cancel"])
async def test_every_step_of_a_copy_with_snapshots_is_undone(filled: Subject, action: str) -> None:
    source = await filled.custom()
    copy = Volume("c2", "p", kind="custom")

    async def work(op: Operation) -> None:
        await filled.driver.create_snapshot(op, source, "s1")
        await filled.driver.clone_volume(op, copy, source, "s1")
        await filled.driver.mount(op, copy, "one")

    before = await filled.picture()
    for number in range(100):
        try:
            await act(filled.host, work, StopsAt(number, action))
        except IsolaError:
            assert await filled.picture() == before
            assert await filled.driver.snapshots(source) == ()
            continue
        break
    assert number >= 6


# --- visits ----------------------------------------------------------------------------------------------------


async def test_a_visit_mounts_for_as_long_as_it_lasts(filled: Subject) -> None:
    volume = await filled.volume()
    async with filled.driver.visit(volume) as one:
        async with filled.driver.visit(volume) as two:
            assert one == two
            assert await filled.read(two, "/a") == "base"
        assert await filled.read(one, "/a") == "base"
    assert await filled.mounted() == ()


async def test_a_visit_keeps_used_volumes_mounted(filled: Subject) -> None:
    volume = await filled.volume()
    root = await filled.mount(volume)
    async with filled.driver.visit(volume):
        pass
    assert await filled.read(root, "/a") == "base"
    filled.driver = filled.again()  # the next daemon has no list of users, but finds it mounted
    async with filled.driver.visit(volume):
        pass
    assert await filled.read(root, "/a") == "base"


async def test_stopping_during_a_visit_does_not_unmount_it(filled: Subject) -> None:
    volume = await filled.volume()
    await filled.mount(volume)
    async with filled.driver.visit(volume) as root:
        await filled.unmount(volume)
        assert await filled.read(root, "/a") == "base"
    assert await filled.mounted() == ()


async def test_many_visits_at_once(filled: Subject) -> None:
    volume = await filled.volume()

    async def visit() -> str:
        async with filled.driver.visit(volume) as root:
            await asyncio.sleep(0.001)
            return await filled.read(root, "/a")

    assert await asyncio.gather(*(visit() for _ in range(20))) == ["base"] * 20
    assert await filled.mounted() == ()
