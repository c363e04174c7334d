"""What every storage driver promises: the fake, and each of the registry, in memory and on the real host."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from network_host import act
from tars import directory, member, symlink, tar

from isola import registry
from isola.errors import AlreadyExists, HostFailure, InUse, IsolaError, NotFound, Unsupported
from isola.host import Host
from isola.host.linux import linux_host
from isola.model.identity import IdRange
from isola.model.image import chain_ids
from isola.model.storage import Pool, Volume
from isola.operations import Operation
from isola.storage import Feature, Unpack, VolumeDriver
from isola.testing.host import fake_host
from isola.testing.storage import FakeStorage
from isola.testing.system import FakeSystem

IDS = IdRange(600000)
EMPTY = ((), (), (), (), ())
BASE, TOP = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@dataclass
class Subject:
    """A driver's class on a host."""

    kind: type[VolumeDriver]
    host: Host
    directory: Path

    def __post_init__(self) -> None:
        self.driver = self.again()

    def again(self) -> VolumeDriver:
        """One more, as the next daemon would have it."""
        config = {"size": "256MiB"} if self.kind.settings.find("btrfs.mount_options") else {}
        return self.kind(self.host, Pool("p", config=config), self.directory / "p")

    async def do(self, work: Callable[[Operation], Awaitable[object]]) -> None:
        await act(self.host, work)

    def layer(self, **files: str) -> Unpack:
        """Unpacks files with these names and contents, owned by root as the image sees it."""

        async def unpack(layer: str, target: Path) -> None:
            async with self.host.files.root(target) as root:
                for name, text in files.items():
                    await root.write(f"/{name}", _stream(text), uid=0, gid=0, mode=0o644)

        return unpack

    def image(self, layers: Mapping[str, Mapping[str, str]]) -> Unpack:
        """The same for several layers."""

        async def unpack(layer: str, target: Path) -> None:
            await self.layer(**layers[layer])(layer, target)

        return unpack

    async def volume(self, id: str = "v1", base: int = IDS.base) -> Volume:
        """A new volume over both layers."""
        volume = Volume(id, "p", layers=(BASE, TOP), idmap=IdRange(base))
        await self.do(lambda op: self.driver.create_volume(op, volume))
        return volume

    async def mount(self, volume: Volume, holder: str = "") -> Path:
        found: list[Path] = []

        async def work(op: Operation) -> None:
            found.append(await self.driver.mount(op, volume, holder or volume.id))

        await self.do(work)
        return found[0]

    async def unmount(self, volume: Volume, holder: str = "") -> None:
        await self.do(lambda op: self.driver.unmount(op, volume, holder or volume.id))

    async def custom(self, id: str = "c1", size: int | None = None) -> Volume:
        """A new empty custom volume."""
        volume = Volume(id, "p", kind="custom", size=size)
        await self.do(lambda op: self.driver.create_volume(op, volume))
        return volume

    async def ensure(self, unpack: Unpack, *layers: str) -> None:
        await self.do(lambda op: self.driver.layers.ensure(op, layers, unpack))

    def ids(self, *layers: str) -> tuple[str, ...]:
        """What is stored of these layers, in order of name."""
        return tuple(sorted(self.driver.layers.ids(layers)))

    async def mounted(self) -> tuple[Path, ...]:
        """What is mounted, besides the pool itself."""
        return tuple(each for each in await self.host.mounts.below(self.directory) if each != self.driver.place)

    async def read(self, directory: Path, path: str) -> str:
        async with self.host.files.root(directory) as root:
            return b"".join([block async for block in await root.read(path)]).decode()

    async def write(self, directory: Path, path: str, text: str, idmap: IdRange | None = IDS) -> None:
        async with self.host.files.root(directory, idmap=idmap) as root:
            await root.write(path, _stream(text), uid=0, gid=0, mode=0o644)

    async def picture(self) -> object:
        """What is on the host."""
        driver = self.driver
        partial = await self.host.files.names(driver.place / "partial")
        volumes = await driver.volumes(), await driver.volumes("custom")
        return *volumes, tuple(sorted(await driver.layers.stored())), await self.mounted(), partial


async def _stream(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


@pytest.fixture(
    params=["fake", *(f"{name} on {host}" for name in registry.names("storage") for host in ("fakes", "linux"))]
)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """Each driver in turn, without a pool."""
    name, _, where = request.param.partition(" on ")
    kind = FakeStorage if name == "fake" else registry.load("storage", name)
    if where != "linux":
        host: Host = fake_host(system=FakeSystem(programs={"mkfs.btrfs": Path("/usr/sbin/mkfs.btrfs")}))
        await host.files.make_directory(Path("/var/tmp"))
        yield Subject(kind, host, Path("/pools"))
        return
    host = linux_host()
    with tempfile.TemporaryDirectory(prefix="isola-storage-") as place:
        os.chmod(place, 0o711)
        directory = Path(place) / "pools"
        directory.mkdir(mode=0o711)
        probe = await kind.probe(host, Path(place) / "trials")
        assert probe.available, probe.reason
        try:
            yield Subject(kind, host, directory)
        finally:
            for mount in await host.mounts.below(directory):
                await host.mounts.unmount(mount)
            await host.files.remove_tree(directory)


@pytest.fixture
async def pool(subject: Subject) -> Subject:
    """A pool that holds nothing."""
    await subject.do(subject.driver.create_pool)
    return subject


@pytest.fixture
async def filled(pool: Subject) -> Subject:
    """A pool with two layers."""

    await pool.ensure(pool.image({BASE: {"a": "base", "b": "base"}, TOP: {"b": "top"}}), BASE, TOP)
    return pool


# --- pools -----------------------------------------------------------------------------------------------------


async def test_it_says_what_it_is(subject: Subject) -> None:
    probe = await subject.kind.probe(subject.host, subject.directory / "trials")
    assert probe.available
    assert probe.version
    assert subject.kind.settings.find("user.anything") is not None


async def test_the_probe_leaves_nothing(subject: Subject) -> None:
    before = await subject.host.files.names(subject.directory)
    await subject.kind.probe(subject.host, subject.directory / "trials")
    assert set(await subject.host.files.names(subject.directory)) <= {*before, "trials"}
    assert await subject.host.mounts.below(subject.directory) == ()


async def test_a_pool_begins_empty_and_leaves_nothing(subject: Subject) -> None:
    await subject.do(subject.driver.create_pool)
    assert await subject.picture() == EMPTY
    assert (await subject.driver.space()).total > 0
    await subject.do(subject.driver.delete_pool)
    assert await subject.host.files.names(subject.directory) == ()


async def test_a_pool_goes_with_all_that_is_in_it(filled: Subject) -> None:
    await filled.mount(await filled.volume())
    await filled.do(filled.driver.delete_pool)
    assert await filled.host.files.names(filled.directory) == ()
    assert await filled.mounted() == ()
    await filled.do(filled.driver.delete_pool)


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
    assert times == [BASE, TOP]
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


async def test_a_layer_hides_what_lies_below(pool: Subject) -> None:
    """With marks as the unpacker makes them; a hidden directory that comes again is a new one."""

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


async def test_what_nothing_needs_is_deleted_and_nothing_else(filled: Subject) -> None:
    other = f"sha256:{'c' * 64}"
    await filled.ensure(filled.layer(z="z"), other)
    store = filled.driver.layers
    await store.delete_unused({BASE, TOP, other}, lambda: [(BASE, TOP)])
    assert sorted(await store.stored()) == sorted(filled.ids(BASE, TOP))
    await filled.ensure(filled.layer(z="z"), other)
    await store.delete_unused({TOP}, lambda: [(BASE,)])
    assert other in await store.stored()
    assert not set(filled.ids(BASE, TOP)) - set(filled.ids(BASE)) & set(await store.stored())


async def test_foreign_things_are_left_alone(filled: Subject) -> None:
    """By the next daemon, and by whoever removes unused layers: only what a record names is ever removed."""
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


async def test_a_layer_that_cannot_be_unpacked_is_not_there(pool: Subject) -> None:
    async def unpack(layer: str, target: Path) -> None:
        await pool.layer(a="half")(layer, target)
        raise HostFailure("broken off")

    with pytest.raises(HostFailure, match="broken off"):
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


async def test_a_layer_outlives_the_operation_that_brought_it_and_failed(pool: Subject) -> None:
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


async def test_what_is_written_stays(filled: Subject) -> None:
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


async def test_what_is_not_there_cannot_be_mounted(filled: Subject) -> None:
    with pytest.raises(NotFound):
        await filled.mount(Volume("nothing", "p", layers=(BASE,), idmap=IDS))
    await filled.unmount(Volume("nothing", "p"))
    assert await filled.picture() == ((), (), filled.ids(BASE, TOP), (), ())


async def test_use_grows_with_what_is_written_only(filled: Subject) -> None:
    volume = await filled.volume()
    before = await filled.driver.usage(volume)
    root = await filled.mount(volume)
    await filled.write(root, "/x", "x" * (1 << 20))
    await filled.unmount(volume)
    await filled.host.files.sync(filled.driver.place)  # what is only in memory may not be counted yet
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


async def test_the_first_detach_takes_nothing_from_the_second(pool: Subject) -> None:
    volume = replace(await pool.custom(), idmap=IDS)
    one, two = await pool.mount(volume, "one"), await pool.mount(volume, "two")
    await pool.write(one, "/file", "x")
    await pool.unmount(volume, "one")
    await pool.unmount(volume, "one")
    assert await pool.read(two, "/file") == "x"
    assert not await pool.driver.is_mounted(volume, "one")
    pool.driver = pool.again()  # the next daemon knows as much
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


async def test_custom_volumes_and_roots_are_told_apart(filled: Subject) -> None:
    await filled.volume("v1")
    volume = await filled.custom("c1")
    assert (await filled.driver.volumes(), await filled.driver.volumes("custom")) == (("v1",), ("c1",))
    await filled.mount(volume, "one")
    await filled.do(lambda op: filled.driver.delete_volume(op, volume))
    await filled.do(lambda op: filled.driver.delete_volume(op, volume))
    assert (await filled.driver.volumes(), await filled.driver.volumes("custom")) == (("v1",), ())
    assert await filled.mounted() == ()


async def test_a_size_is_kept_or_refused_with_the_reason(pool: Subject) -> None:
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
async def test_what_is_not_offered_says_why(pool: Subject, feature: Feature) -> None:
    assert await pool.driver.why_not(feature)
    with pytest.raises(Unsupported):
        await pool.driver.require(feature)


# --- snapshots and copies --------------------------------------------------------------------------------------


async def test_a_snapshot_keeps_what_was(filled: Subject) -> None:
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


async def test_a_mounted_volume_is_not_restored(filled: Subject) -> None:
    volume = await filled.volume()
    await filled.do(lambda op: filled.driver.create_snapshot(op, volume, "s1"))
    await filled.mount(volume)
    with pytest.raises(InUse):
        await filled.do(lambda op: filled.driver.restore_snapshot(op, volume, "s1"))


async def test_snapshots_go_one_by_one_or_with_their_volume(filled: Subject) -> None:
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


async def test_content_comes_from_another_pool(pool: Subject) -> None:
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


async def test_a_visit_leaves_what_is_in_use_mounted(filled: Subject) -> None:
    volume = await filled.volume()
    root = await filled.mount(volume)
    async with filled.driver.visit(volume):
        pass
    assert await filled.read(root, "/a") == "base"
    filled.driver = filled.again()  # the next daemon knows no users, but finds it mounted
    async with filled.driver.visit(volume):
        pass
    assert await filled.read(root, "/a") == "base"


async def test_stopping_during_a_visit_does_not_take_it_away(filled: Subject) -> None:
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


# --- failures --------------------------------------------------------------------------------------------------


class StopsAt:
    """Fails or cancels an operation at its n-th point."""

    def __init__(self, number: int, action: str) -> None:
        self.left = number
        self.action = action

    async def reached(self, operation: Operation, point: str) -> None:
        self.left -= 1
        if self.left == -1:
            if self.action == "fail":
                raise HostFailure(f"Injected failure at {point}")
            operation.cancel()
            await asyncio.sleep(0)


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


async def test_half_made_things_are_cleaned_by_the_next_daemon(filled: Subject) -> None:
    """A daemon dies while it unpacks: what it leaves is neither listed nor kept."""
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


async def test_cleaning_leaves_what_is_whole(filled: Subject) -> None:
    volume = await filled.volume()
    root = await filled.mount(volume)
    await filled.again().clean()
    assert await filled.read(root, "/a") == "base"
    assert sorted(await filled.driver.layers.stored()) == list(filled.ids(BASE, TOP))
