"""The contract of storage drivers for what a root changed of its image layers: listed, and packed as one more layer."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard
from storage_subject import BASE, IDS, TOP, Subject, stream_of

from isola.errors import AlreadyExists, HostFailure, NotFound
from isola.host.archive.archives import LayerReport
from isola.model.file_change import ChangeKind, FileChange
from isola.model.identity import IdRange
from isola.model.storage import Volume
from isola.storage.layers import AT_ONCE

EPOCH = 1_500_000_000
MORE = f"sha256:{'d' * 64}"
CHANGED = [
    FileChange("/a", ChangeKind.MODIFIED),
    FileChange("/b", ChangeKind.DELETED),
    FileChange("/kept", ChangeKind.MODIFIED),
    FileChange("/kept/new", ChangeKind.ADDED),
    FileChange("/link", ChangeKind.ADDED),
    FileChange("/made", ChangeKind.ADDED),
    FileChange("/made/file", ChangeKind.ADDED),
    FileChange("/old", ChangeKind.MODIFIED),
    FileChange("/old/inside", ChangeKind.DELETED),
    FileChange("/old/other", ChangeKind.ADDED),
]


@pytest.fixture
async def layered(pool: Subject) -> Subject:
    """A pool with an image of two layers: files and directories."""
    await pool.ensure(lambda layer, target: unpacked(pool, layer, target), BASE, TOP)
    return pool


async def unpacked(subject: Subject, layer: str, target: Path) -> None:
    if layer == MORE:
        await subject.host.archives.unpack(subject.directory.parent / "layer", target, whiteouts=True)
        return
    async with subject.host.files.root(target) as root:
        for path in ("/kept", "/old") if layer == BASE else ():
            await root.make_directory(path, uid=0, gid=0, mode=0o755)
        for name in ("a", "b", "kept/same", "old/inside") if layer == BASE else ("b",):
            await root.write(f"/{name}", stream_of(layer), uid=0, gid=0, mode=0o644)


async def change(subject: Subject, volume: Volume) -> None:
    """What ``CHANGED`` lists. A directory is replaced by another one of its name."""
    directory = await subject.mount(volume)
    async with subject.host.files.root(directory, idmap=volume.idmap) as root:
        await root.write("/a", stream_of("changed"), uid=3, gid=4, mode=0o640)
        await root.remove("/b")
        await root.write("/kept/new", stream_of("new"), uid=0, gid=0, mode=0o644)
        await root.make_symlink("/link", "a", uid=0, gid=0)
        await root.make_directory("/made", uid=5, gid=6, mode=0o700)
        await root.write("/made/file", stream_of("x" * 5000), uid=0, gid=0, mode=0o644)
        await root.remove("/old/inside")
        await root.remove("/old")
        await root.make_directory("/old", uid=0, gid=0, mode=0o755)
        await root.write("/old/other", stream_of("other"), uid=0, gid=0, mode=0o644)
    await subject.unmount(volume)


async def packed(subject: Subject, volume: Volume, name: str = "layer", snapshot: str | None = None) -> LayerReport:
    return await subject.driver.pack_layer(volume, subject.directory.parent / name, snapshot=snapshot, newest=EPOCH)


async def members(subject: Subject, name: str = "layer") -> Mapping[str, tarfile.TarInfo]:
    data = await subject.host.files.read(subject.directory.parent / name)
    await subject.host.files.remove_tree(subject.directory.parent / name)
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {member.name: member for member in archive}


async def listed(subject: Subject, volume: Volume, snapshot: str | None = None) -> list[FileChange]:
    scratch = subject.directory.parent / "list"
    found = list(await subject.driver.list_changes(volume, scratch, snapshot=snapshot))
    assert not await subject.host.files.exists(scratch)
    return found


async def test_a_new_root_has_no_changes(layered: Subject) -> None:
    volume = await layered.volume()
    before = await layered.picture()
    assert await listed(layered, volume) == []
    assert (await packed(layered, volume)).entries == 0
    assert await members(layered) == {}
    assert await layered.picture() == before


async def test_changes_are_listed(layered: Subject) -> None:
    volume = await layered.volume()
    await change(layered, volume)
    assert await listed(layered, volume) == CHANGED
    assert await layered.mounted() == ()


async def test_changes_become_a_layer_with_the_ids_inside(layered: Subject) -> None:
    volume = await layered.volume()
    await change(layered, volume)
    report = await packed(layered, volume)
    found = await members(layered)
    assert list(found) == [
        "a", ".wh.b", "kept", "kept/new", "link", "made", "made/file", "old", "old/.wh.inside", "old/other",
    ]  # fmt: skip
    assert report.entries == len(found)
    assert {(each.uid, each.gid, each.mode) for each in (found["a"], found["made"])} == {(3, 4, 0o640), (5, 6, 0o700)}
    assert (found["link"].linkname, found["made/file"].size) == ("a", 5000)
    assert {each.mtime for name, each in found.items() if ".wh." not in name} == {EPOCH}


async def test_the_layer_makes_an_equal_root(layered: Subject) -> None:
    volume = await layered.volume()
    await change(layered, volume)
    await packed(layered, volume)
    await layered.ensure(lambda layer, target: unpacked(layered, layer, target), BASE, TOP, MORE)
    copy = Volume("v2", "p", layers=(BASE, TOP, MORE), idmap=IdRange(IDS.base + IDS.size))
    await layered.do(lambda op: layered.driver.create_volume(op, copy))
    root = await layered.mount(copy)
    assert [await layered.read(root, path) for path in ("/a", "/kept/same", "/old/other")] == ["changed", BASE, "other"]
    async with layered.host.files.root(root, idmap=copy.idmap) as seen:
        assert sorted([name async for piece in await seen.names("/old") for name in piece]) == ["other"]
        assert ((await seen.stat("/made")).uid, (await seen.stat("/made")).mode) == (5, 0o700)
        with pytest.raises(NotFound):
            await seen.stat("/b")
    await layered.unmount(copy)
    assert await listed(layered, copy) == []
    await layered.host.files.remove_tree(layered.directory.parent / "layer")


async def test_equal_changes_are_equal_layers(layered: Subject) -> None:
    """Times after the given one are left out, so that a build can be repeated."""
    ids = []
    for number in range(2):
        volume = await layered.volume(f"v{number}", IDS.base + number * IDS.size)
        await change(layered, volume)
        ids.append((await packed(layered, volume, f"layer{number}")).diff_id)
        await members(layered, f"layer{number}")
    assert ids[0] == ids[1]


async def test_a_snapshot_has_the_changes_of_its_time(layered: Subject) -> None:
    volume = await layered.volume()
    await change(layered, volume)
    await layered.do(lambda op: layered.driver.create_snapshot(op, volume, "s1"))
    await layered.write(await layered.mount(volume), "/later", "x")
    await layered.unmount(volume)
    assert await listed(layered, volume, "s1") == CHANGED
    assert FileChange("/later", ChangeKind.ADDED) in await listed(layered, volume)
    await packed(layered, volume, snapshot="s1")
    assert "later" not in await members(layered)


async def test_a_root_without_layers_is_all_new(pool: Subject) -> None:
    volume = Volume("v1", "p", idmap=IDS)
    await pool.do(lambda op: pool.driver.create_volume(op, volume))
    await pool.write(await pool.mount(volume), "/x", "y")
    await pool.unmount(volume)
    assert await listed(pool, volume) == [FileChange("/x", ChangeKind.ADDED)]


async def test_paths_that_are_left_out(layered: Subject) -> None:
    volume = await layered.volume()
    await change(layered, volume)
    target = layered.directory.parent / "layer"
    await layered.driver.pack_layer(volume, target, leave_out=("kept/new", "b"))
    assert not {"kept/new", ".wh.b"} & set(await members(layered))
    await layered.driver.pack_layer(volume, target, leave_out=("made/file", "old/deep"))
    found = set(await members(layered))
    assert not {"made", "made/file"} & found, "a new directory only led to what is left out"
    assert {"kept/new", "old"} <= found
    await layered.driver.pack_layer(volume, target, leave_out=("made/other",))
    assert {"made", "made/file"} <= set(await members(layered))


async def test_a_missing_volume_and_an_existing_file(layered: Subject) -> None:
    before = await layered.picture()
    with pytest.raises(NotFound):
        await packed(layered, Volume("v9", "p", layers=(BASE, TOP), idmap=IDS))
    volume = await layered.volume()
    await layered.host.files.write(layered.directory.parent / "layer", b"precious")
    with pytest.raises(AlreadyExists):
        await packed(layered, volume)
    assert await layered.host.files.read(layered.directory.parent / "layer") == b"precious"
    await layered.host.files.remove_tree(layered.directory.parent / "layer")
    await layered.do(lambda op: layered.driver.delete_volume(op, volume))
    assert await layered.picture() == before


async def test_layers_are_unpacked_side_by_side_where_they_do_not_depend_on_each_other(pool: Subject) -> None:
    under_way: set[str] = set()
    seen: list[int] = []
    layers = [f"sha256:{number:064x}" for number in range(8)]
    steps = pool.driver.layers.steps(layers)
    together = len(set(steps)) > 1 and all(step.parent is None for step in steps)
    full = asyncio.Event()

    async def unpack(layer: str, target: Path) -> None:
        under_way.add(layer)
        seen.append(len(under_way))
        if len(under_way) == (AT_ONCE if together else 1):
            full.set()
        await asyncio.wait_for(full.wait(), 60)
        await asyncio.sleep(0.02)  # no further one begins
        await unpacked(pool, BASE, target)
        under_way.discard(layer)

    await pool.ensure(unpack, *layers)
    assert max(seen) == (AT_ONCE if together else 1)
    assert sorted(await pool.driver.layers.stored()) == list(pool.ids(*layers))


async def test_a_layer_that_fails_stops_the_others(pool: Subject) -> None:
    layers = [f"sha256:{number:064x}" for number in range(8)]

    async def unpack(layer: str, target: Path) -> None:
        if layer == layers[2]:
            raise HostFailure("aborted")
        await asyncio.sleep(0.05)
        await unpacked(pool, BASE, target)

    with pytest.raises(HostFailure, match="aborted"):
        await pool.ensure(unpack, *layers)
    picture = await pool.picture()
    assert isinstance(picture, tuple) and (picture[3], picture[4]) == ((), ())
    await pool.ensure(lambda layer, target: unpacked(pool, BASE, target), *layers)
    assert sorted(await pool.driver.layers.stored()) == list(pool.ids(*layers))
