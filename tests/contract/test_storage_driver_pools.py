"""Copies of roots and snapshots between pools of all drivers: complete, with ids, links, attributes and holes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from storage_subject import BASE, IDS, TOP, Subject

from isola import registry
from isola.errors import HostFailure, NotFound
from isola.model.identity import IdRange
from isola.model.storage import Volume
from isola.operations import Operation

LINUX = [f"{name} on linux" for name in registry.names("storage")]
THEIRS = IdRange(IDS.base + 5 * IDS.size)


@pytest.fixture(params=registry.names("storage"))
async def other(request: pytest.FixtureRequest, filled: Subject) -> AsyncIterator[Subject]:
    """A second pool on the same host."""
    subject = Subject(registry.load("storage", request.param), filled.host, filled.directory.parent / "other")
    await filled.host.files.make_directory(subject.directory, mode=0o711)
    await subject.do(subject.driver.create_pool)
    yield subject
    await subject.do(subject.driver.delete_pool)


async def carry(source: Subject, volume: Volume, target: Subject, new: Volume, snapshot: str | None = None) -> None:
    async def work(op: Operation) -> None:
        async with source.driver.contents(volume, snapshot, target.driver.ids_of(new)) as tree:
            await target.driver.fill_volume(op, new, tree)

    await target.do(work)


async def test_a_root_and_its_snapshots_are_copied_to_another_pool(filled: Subject, other: Subject) -> None:
    volume = await filled.volume()
    root = await filled.mount(volume)
    await filled.write(root, "/file", "then")
    await filled.unmount(volume)
    await filled.do(lambda op: filled.driver.create_snapshot(op, volume, "s1"))
    root = await filled.mount(volume)
    await filled.write(root, "/file", "now")
    async with filled.host.files.root(root, idmap=IDS) as seen:
        await seen.remove("/a")
    await filled.unmount(volume)
    new = Volume("v9", "p", idmap=THEIRS)
    await carry(filled, volume, other, new)

    async def with_snapshot(op: Operation) -> None:
        async with filled.driver.contents(volume, "s1", other.driver.ids_of(new)) as tree:
            await other.driver.fill_snapshot(op, new, "t1", tree)

    await other.do(with_snapshot)
    place = await other.mount(new)
    assert (await other.read(place, "/file"), await other.read(place, "/b")) == ("now", "top")
    with pytest.raises(NotFound):
        await other.read(place, "/a")
    async with other.host.files.root(place) as raw:
        assert {(await raw.stat(path)).uid for path in ("/", "/file", "/b")} == {THEIRS.base}
        assert (await raw.stat("/")).mode == 0o755
    await other.write(place, "/b", "changed", THEIRS)
    await other.unmount(new)
    assert await other.driver.snapshots(new) == ("t1",)
    await other.do(lambda op: other.driver.restore_snapshot(op, new, "t1"))
    place = await other.mount(new)
    assert [await other.read(place, name) for name in ("/file", "/a", "/b")] == ["then", "base", "top"]
    await other.unmount(new)
    assert await filled.picture() == (("v1",), (), filled.ids(BASE, TOP), (), ())
    await other.driver.settled()
    assert await other.host.files.names(other.driver.place / "partial") == ()


async def test_a_root_is_refreshed_from_another_pool(filled: Subject, other: Subject) -> None:
    """Only what differs is copied; and where both share layers, only what lies above them."""
    volume = await filled.volume()
    await filled.write(await filled.mount(volume), "/file", "then")
    await filled.unmount(volume)
    shared = filled.driver.capabilities.shared_layers and other.driver.capabilities.shared_layers
    new = Volume("v9", "p", layers=volume.layers if shared else (), idmap=THEIRS)

    async def copy(op: Operation) -> None:
        if shared:
            await other.driver.layers.bring(op, new.layers, filled.driver.layers)
        show = filled.driver.changes if shared else filled.driver.contents
        async with show(volume, None, other.driver.ids_of(new)) as tree:
            if await other.driver.has_volume(new):
                await other.driver.prepare_refresh(op, new, "r1", tree)
            else:
                await other.driver.fill_volume(op, new, tree)

    await other.do(copy)
    if shared:
        assert await other.driver.usage(new) <= 64 << 10
        assert sorted(await other.driver.layers.stored()) == sorted(other.ids(BASE, TOP))
    root = await filled.mount(volume)
    await filled.write(root, "/file", "changed")
    async with filled.host.files.root(root, idmap=IDS) as seen:
        await seen.remove("/a")
    await filled.unmount(volume)
    await other.write(await other.mount(new), "/b", "theirs", THEIRS)
    await other.unmount(new)
    await other.do(copy)
    await other.driver.apply_restore(new, "r1")
    place = await other.mount(new)
    assert [await other.read(place, name) for name in ("/file", "/b")] == ["changed", "top"]
    with pytest.raises(NotFound):
        await other.read(place, "/a")
    async with other.host.files.root(place) as raw:
        assert {(await raw.stat(path)).uid for path in ("/", "/file", "/b")} == {THEIRS.base}
    await other.unmount(new)
    await other.driver.settled()
    assert await other.host.files.names(other.driver.place / "partial") == ()


async def test_a_failed_copy_leaves_nothing(filled: Subject, other: Subject) -> None:
    volume, new = await filled.volume(), Volume("v9", "p", idmap=THEIRS)
    before = await other.picture()

    async def work(op: Operation) -> None:
        async with filled.driver.contents(volume, None, other.driver.ids_of(new)) as tree:
            await other.driver.fill_volume(op, new, tree)
            raise HostFailure("the disk is full")

    with pytest.raises(HostFailure):
        await other.do(work)
    assert await other.picture() == before
    await filled.driver.settled()
    assert await filled.host.files.names(filled.driver.place / "partial") == ()
    with pytest.raises(NotFound):
        await carry(filled, volume, other, new, "s1")
    assert await other.picture() == before


@pytest.mark.parametrize("subject", LINUX, indirect=True)
async def test_all_attributes_of_files_are_kept(filled: Subject, other: Subject, tmp_path: Path) -> None:
    volume, new = Volume("v1", "p", idmap=IDS), Volume("v9", "p", idmap=THEIRS)
    ids = filled.driver.ids_of(volume)
    _furnish(tmp_path, ids.base if ids else 0)
    await filled.do(lambda op: filled.driver.fill_volume(op, volume, tmp_path))
    await carry(filled, volume, other, new)
    _check(await other.mount(new), THEIRS.base)
    await other.unmount(new)
    back = Volume("v10", "p", idmap=IdRange(THEIRS.base + IDS.size))
    await carry(other, new, filled, back)
    _check(await filled.mount(back), THEIRS.base + IDS.size)
    await filled.unmount(back)


def _furnish(root: Path, base: int) -> None:
    (root / "one").write_text("linked")
    os.link(root / "one", root / "two")
    os.setxattr(root / "one", "user.mark", b"kept")
    os.symlink("one", root / "link")
    os.mkfifo(root / "pipe")
    with open(root / "sparse", "wb") as file:
        file.seek(16 << 20)
        file.write(b"end")
    for path in (root, *root.iterdir()):
        os.chown(path, base, base, follow_symlinks=False)
    os.chown(root / "one", base + 33, base + 44)
    os.chmod(root / "one", 0o4711)
    os.utime(root / "sparse", ns=(10**18, 10**18 + 7))


def _check(root: Path, base: int) -> None:
    one, two = (root / "one").stat(), (root / "two").stat()
    assert one.st_ino == two.st_ino and one.st_nlink == 2
    assert (one.st_uid - base, one.st_gid - base, one.st_mode & 0o7777) == (33, 44, 0o4711)
    assert os.getxattr(root / "one", "user.mark") == b"kept"
    assert os.readlink(root / "link") == "one"
    assert (root / "pipe").is_fifo()
    sparse = (root / "sparse").stat()
    assert sparse.st_size == (16 << 20) + 3 and sparse.st_blocks * 512 < 1 << 20
    assert sparse.st_mtime_ns == 10**18 + 7
