"""The contract of storage drivers for pools and layers: for the fake, and for the registry in memory and on the
host.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from pathlib import Path

import pytest
from network_host import act
from storage_subject import BASE, EMPTY, IDS, TOP, StopsAt, Subject
from tars import directory, member, symlink, tar

from isola.errors import HostFailure, IsolaError
from isola.model.image import chain_ids
from isola.model.storage import Volume
from isola.operations import Operation
from isola.testing.storage import FakeStorage

# --- pools -----------------------------------------------------------------------------------------------------


async def test_the_driver_has_name_and_capabilities(subject: Subject) -> None:
    probe = await subject.kind.probe(subject.host, subject.directory / "trials")
    assert probe.available
    assert probe.version
    assert subject.kind.settings.find("user.anything") is not None


async def test_the_probe_leaves_nothing(subject: Subject) -> None:
    before = await subject.host.files.names(subject.directory)
    await subject.kind.probe(subject.host, subject.directory / "trials")
    assert set(await subject.host.files.names(subject.directory)) <= {*before, "trials"}
    assert await subject.host.mounts.below(subject.directory) == ()


async def test_a_new_pool_is_empty_and_leaves_nothing(subject: Subject) -> None:
    await subject.do(subject.driver.create_pool)
    assert await subject.picture() == EMPTY
    assert (await subject.driver.space()).total > 0
    await subject.do(subject.driver.delete_pool)
    assert await subject.host.files.names(subject.directory) == ()


async def test_a_pool_is_deleted_with_its_contents(filled: Subject) -> None:
    await filled.mount(await filled.volume())
    await filled.do(filled.driver.delete_pool)
    assert await filled.host.files.names(filled.directory) == ()
    assert await filled.mounted() == ()
    await filled.do(filled.driver.delete_pool)


async def test_a_pool_distinguishes_its_files_from_foreign_ones(filled: Subject) -> None:
    volume = await filled.volume()
    await filled.mount(volume)
    await filled.unmount(volume)
    await filled.mount(await filled.custom())
    await filled.do(lambda op: filled.driver.delete_volume(op, volume))
    await filled.do(lambda op: filled.driver.delete_volume(op, Volume("c1", "p", kind="custom")))
    assert list(await filled.driver.foreign()) == []
    if filled.kind is FakeStorage:
        return
    place = filled.driver.place
    foreign = [place / part / "theirs" for part in ("", "layers", "volumes", "custom", "descriptions", "mounts/theirs")]
    for each in foreign:
        await filled.host.files.make_directory(each.parent)
        await filled.host.files.write(each, b"precious")
    await filled.host.files.make_directory(place / "volumes" / "0123456789abcdef" / "data")
    assert set(await filled.again().foreign()) == {*foreign, place / "volumes" / "0123456789abcdef"}


# --- layers ----------------------------------------------------------------------------------------------------


async def test_layers_are_listed_and_deleted(filled: Subject) -> None:
    assert sorted(await filled.driver.layers.stored()) == list(filled.ids(BASE, TOP))
    for id in filled.ids(BASE, TOP) * 2:
        await filled.driver.layers.delete(id)
    assert await filled.driver.layers.stored() == ()


async def test_a_layer_is_unpacked_once_even_for_many_at_once(pool: Subject) -> None:
    times: list[str] = []
    fill = pool.layer(a="x")

    async def unpack(layer: str, target: Path) -> None:
        times.append(layer)
        await asyncio.sleep(0.02)
        await fill(layer, target)

    await asyncio.gather(*(pool.ensure(unpack, BASE, TOP) for _ in range(5)))
    await pool.ensure(unpack, BASE, TOP)
    assert sorted(times) == sorted([BASE, TOP]), "each once, in any order"
    assert sorted(await pool.driver.layers.stored()) == list(pool.ids(BASE, TOP))


async def test_the_same_layer_on_another_is_another_tree(pool: Subject) -> None:
    other = f"sha256:{'c' * 64}"
    unpack = pool.image({BASE: {"a": "base"}, other: {"a": "other"}, TOP: {"b": "top"}})
    await pool.ensure(unpack, BASE, TOP)
    await pool.ensure(unpack, other, TOP)
    for number, (below, seen) in enumerate(((BASE, "base"), (other, "other"))):
        volume = Volume(f"v{number}", "p", layers=(below, TOP), idmap=IDS)
        await pool.do(lambda op, volume=volume: pool.driver.create_volume(op, volume))  # type: ignore[misc]
        root = await pool.mount(volume)
        assert (await pool.read(root, "/a"), await pool.read(root, "/b")) == (seen, "top")
        await pool.unmount(volume)


async def test_chains_are_those_of_the_image_specification() -> None:
    first, second = chain_ids([BASE, TOP])
    assert first == BASE
    assert second == "sha256:" + hashlib.sha256(f"{BASE} {TOP}".encode()).hexdigest()


async def test_a_layer_hides_files_of_lower_ones(pool: Subject) -> None:
    """With whiteouts of the unpacker; a deleted directory that is created again is a new one."""

    async def unpack(layer: str, target: Path) -> None:
        archive = {BASE: _lower(), TOP: _upper()}[layer]
        source = pool.directory.parent / f"{layer[7:12]}.tar"
        await pool.host.files.write(source, archive)
        await pool.host.archives.unpack(source, target, whiteouts=True)
        await pool.host.files.remove_tree(source)

    await pool.ensure(unpack, BASE, TOP)
    volume = await pool.volume()
    root = await pool.mount(volume)
    async with pool.host.files.root(root) as seen:
        names = {path: [name async for piece in await seen.names(path) for name in piece] for path in ("/", "/d", "/o")}
        assert {path: sorted(each) for path, each in names.items()} == {
            "/": ["d", "file", "kept", "link", "o"],
            "/d": ["kept"],
            "/o": ["new"],
        }
        assert (await seen.stat("/link", follow=False)).kind == "directory"
        assert (await seen.stat("/d")).mode == 0o700
    await pool.unmount(volume)


async def test_only_unused_layers_are_deleted(filled: Subject) -> None:
    other = f"sha256:{'c' * 64}"
    await filled.ensure(filled.layer(z="z"), other)
    store = filled.driver.layers
    await store.delete_unused({BASE, TOP, other}, lambda: [(BASE, TOP)])
    assert sorted(await store.stored()) == sorted(filled.ids(BASE, TOP))
    await filled.ensure(filled.layer(z="z"), other)
    await store.delete_unused({TOP}, lambda: [(BASE,)])
    assert other in await store.stored()
    assert not set(filled.ids(BASE, TOP)) - set(filled.ids(BASE)) & set(await store.stored())


async def test_foreign_files_are_left_alone(filled: Subject) -> None:
    """By the next daemon, and when unused layers are deleted: only objects that a record names are ever removed."""
    foreign = [filled.driver.place / name / "foreign" for name in ("layers", "volumes", "custom")]
    for place in foreign:
        await filled.host.files.make_directory(place / "deep")
        await filled.host.files.write(place / "file", b"precious")
    successor = filled.again()
    await successor.open()
    await successor.clean()
    await successor.layers.delete_unused({BASE, TOP, "foreign", "sha256:foreign"}, list)
    for place in foreign:
        assert await filled.host.files.read(place / "file") == b"precious"


async def test_a_layer_that_cannot_be_unpacked_does_not_exist(pool: Subject) -> None:
    async def unpack(layer: str, target: Path) -> None:
        await pool.layer(a="half")(layer, target)
        raise HostFailure("aborted")

    with pytest.raises(HostFailure, match="aborted"):
        await pool.ensure(unpack, BASE)
    assert await pool.picture() == EMPTY
    await pool.ensure(pool.layer(a="whole"), BASE)
    assert await pool.driver.layers.stored() == pool.ids(BASE)


async def test_when_the_first_of_two_is_cancelled_the_second_unpacks(pool: Subject) -> None:
    begun = asyncio.Event()

    async def hangs(layer: str, target: Path) -> None:
        begun.set()
        await asyncio.sleep(60)

    first = asyncio.create_task(pool.do(lambda op: _cancelled(op, pool.driver.layers.ensure(op, [BASE], hangs), begun)))
    await begun.wait()
    await pool.ensure(pool.layer(a="x"), BASE)
    with pytest.raises(IsolaError):
        await first
    assert await pool.driver.layers.stored() == pool.ids(BASE)


async def _cancelled(op: Operation, work: Awaitable[object], begun: asyncio.Event) -> None:
    async def soon() -> None:
        await begun.wait()
        await asyncio.sleep(0.05)
        op.cancel()

    ending = asyncio.create_task(soon())
    try:
        await work
    finally:
        ending.cancel()


async def test_a_layer_outlives_its_failed_operation(pool: Subject) -> None:
    async def work(op: Operation) -> None:
        await pool.driver.layers.ensure(op, [BASE], pool.layer(a="x"))
        raise HostFailure("later")

    with pytest.raises(HostFailure, match="later"):
        await pool.do(work)
    assert await pool.again().layers.stored() == pool.ids(BASE)


async def test_a_layer_that_is_being_deleted_is_unpacked_again(pool: Subject) -> None:
    await pool.ensure(pool.layer(a="first"), BASE)
    (id,) = pool.ids(BASE)

    async def create(op: Operation) -> None:
        await pool.driver.layers.ensure(op, [BASE], pool.layer(a="again"))
        await pool.driver.create_volume(op, Volume("v1", "p", layers=(BASE,), idmap=IDS))

    await asyncio.gather(pool.driver.layers.delete(id), pool.do(create))
    root = await pool.mount(Volume("v1", "p", layers=(BASE,), idmap=IDS))
    assert await pool.read(root, "/a") == "again"


def _lower() -> bytes:
    return tar(
        directory("d"), member("d/kept", b"x"), member("d/hidden", b"x"), directory("o"), member("o/old", b"x"),
        member("file", b"x"), member("kept", b"x"), directory("gone"), member("gone/deep", b"x"), symlink("link", "o"),
    )  # fmt: skip


def _upper() -> bytes:
    return tar(
        directory("d", mode=0o700), member("d/.wh.hidden", b""), directory("o"), member("o/.wh..wh..opq", b""),
        member("o/new", b"x"), member(".wh.gone", b""), member("file", b"new"), directory("link"),
    )  # fmt: skip


# --- failures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["fail", "cancel"])
async def test_every_step_is_undone(filled: Subject, action: str) -> None:
    volume = Volume("v1", "p", layers=(BASE, TOP), idmap=IDS)

    async def work(op: Operation) -> None:
        await filled.driver.create_volume(op, volume)
        await filled.driver.mount(op, volume, "v1")

    before = await filled.picture()
    for number in range(100):
        try:
            await act(filled.host, work, StopsAt(number, action))
        except IsolaError:
            assert await filled.picture() == before
            continue
        break
    assert number >= 4
    assert (await filled.driver.volumes()) == ("v1",)


async def test_incomplete_layers_are_removed_by_the_next_daemon(filled: Subject) -> None:
    """A daemon dies while it unpacks: its incomplete layer is neither listed nor kept."""
    layer = f"sha256:{'c' * 64}"
    halfway: asyncio.Future[Path] = asyncio.get_running_loop().create_future()

    async def unpack(layer: str, target: Path) -> None:
        await filled.layer(a="half")(layer, target)
        halfway.set_result(target)
        await asyncio.sleep(60)

    store = filled.driver.layers
    work = asyncio.create_task(store._add(store.steps([layer])[-1], unpack))
    partial = await halfway
    successor = filled.again()
    assert sorted(await successor.layers.stored()) == list(filled.ids(BASE, TOP))
    await successor.clean()
    assert not await filled.host.files.exists(partial)
    work.cancel()
    await asyncio.wait([work])
    assert sorted(await successor.layers.stored()) == list(filled.ids(BASE, TOP))


async def test_cleaning_keeps_complete_layers(filled: Subject) -> None:
    volume = await filled.volume()
    root = await filled.mount(volume)
    await filled.again().clean()
    assert await filled.read(root, "/a") == "base"
    assert sorted(await filled.driver.layers.stored()) == list(filled.ids(BASE, TOP))
