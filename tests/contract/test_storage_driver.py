"""What every storage driver promises: the fake, and each of the registry, in memory and on the real host."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from network_host import act

from isola import registry
from isola.errors import AlreadyExists, HostFailure, IsolaError, NotFound
from isola.host import Host
from isola.host.linux import linux_host
from isola.model.identity import IdRange
from isola.model.storage import Pool, Volume
from isola.operations import Operation
from isola.storage import StorageDriver, Unpack
from isola.testing.host import fake_host
from isola.testing.storage import FakeStorage

IDS = IdRange(600000)
BASE, TOP = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@dataclass
class Subject:
    """A driver's class on a host."""

    kind: type[StorageDriver]
    host: Host
    directory: Path

    def __post_init__(self) -> None:
        self.driver = self.again()

    def again(self) -> StorageDriver:
        """One more, as the next daemon would have it."""
        return self.kind(self.host, Pool("p"), self.directory / "p")

    async def do(self, work: Callable[[Operation], Awaitable[object]]) -> None:
        await act(self.host, work)

    def layer(self, **files: str) -> Unpack:
        """Unpacks files with these names and contents, owned by root as the image sees it."""

        async def unpack(target: Path) -> None:
            async with self.host.files.root(target) as root:
                for name, text in files.items():
                    await root.write(f"/{name}", _stream(text), uid=0, gid=0, mode=0o644)

        return unpack

    async def volume(self, id: str = "v1", base: int = IDS.base) -> Volume:
        """A new volume over both layers."""
        volume = Volume(id, "p", layers=(BASE, TOP), idmap=IdRange(base))
        await self.do(lambda op: self.driver.create_volume(op, volume))
        return volume

    async def mount(self, volume: Volume) -> Path:
        found: list[Path] = []

        async def work(op: Operation) -> None:
            found.append(await self.driver.mount(op, volume))

        await self.do(work)
        return found[0]

    async def unmount(self, volume: Volume) -> None:
        await self.do(lambda op: self.driver.unmount(op, volume))

    async def read(self, directory: Path, path: str) -> str:
        async with self.host.files.root(directory) as root:
            return b"".join([block async for block in await root.read(path)]).decode()

    async def write(self, directory: Path, path: str, text: str) -> None:
        async with self.host.files.root(directory, idmap=IDS) as root:
            await root.write(path, _stream(text), uid=0, gid=0, mode=0o644)

    async def picture(self) -> object:
        """What is on the host."""
        mounts = await self.host.mounts.below(self.directory)
        return await self.driver.volumes(), await self.driver.layers(), mounts


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
        host: Host = fake_host()
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
            left = await host.mounts.below(directory)
            for mount in left:
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

    async def work(op: Operation) -> None:
        await pool.driver.ensure_layer(op, BASE, pool.layer(a="base", b="base"))
        await pool.driver.ensure_layer(op, TOP, pool.layer(b="top"))

    await pool.do(work)
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
    assert await subject.picture() == ((), (), ())
    assert (await subject.driver.space()).total > 0
    await subject.do(subject.driver.delete_pool)
    assert await subject.host.files.names(subject.directory) == ()


async def test_a_pool_goes_with_all_that_is_in_it(filled: Subject) -> None:
    await filled.mount(await filled.volume())
    await filled.do(filled.driver.delete_pool)
    assert await filled.host.files.names(filled.directory) == ()
    assert await filled.host.mounts.below(filled.directory) == ()
    await filled.do(filled.driver.delete_pool)


# --- layers ----------------------------------------------------------------------------------------------------


async def test_layers_are_listed_and_deleted(filled: Subject) -> None:
    assert await filled.driver.layers() == (BASE, TOP)
    await filled.driver.delete_layer(BASE)
    await filled.driver.delete_layer(BASE)
    assert await filled.driver.layers() == (TOP,)


async def test_a_layer_is_unpacked_once_even_for_many_at_once(pool: Subject) -> None:
    times: list[Path] = []
    fill = pool.layer(a="x")

    async def unpack(target: Path) -> None:
        times.append(target)
        await asyncio.sleep(0.05)
        await fill(target)

    await asyncio.gather(*(pool.do(lambda op: pool.driver.ensure_layer(op, BASE, unpack)) for _ in range(5)))
    await pool.do(lambda op: pool.driver.ensure_layer(op, BASE, unpack))
    assert len(times) == 1
    assert await pool.driver.layers() == (BASE,)


async def test_a_layer_that_cannot_be_unpacked_is_not_there(pool: Subject) -> None:
    async def unpack(target: Path) -> None:
        await pool.layer(a="half")(target)
        raise HostFailure("broken off")

    with pytest.raises(HostFailure, match="broken off"):
        await pool.do(lambda op: pool.driver.ensure_layer(op, BASE, unpack))
    assert await pool.picture() == ((), (), ())
    await pool.do(lambda op: pool.driver.ensure_layer(op, BASE, pool.layer(a="whole")))
    assert await pool.driver.layers() == (BASE,)


async def test_when_the_first_of_two_is_cancelled_the_second_unpacks(pool: Subject) -> None:
    begun = asyncio.Event()

    async def hangs(target: Path) -> None:
        begun.set()
        await asyncio.sleep(60)

    first = asyncio.create_task(pool.do(lambda op: _cancelled(op, pool.driver.ensure_layer(op, BASE, hangs), begun)))
    await begun.wait()
    await pool.do(lambda op: pool.driver.ensure_layer(op, BASE, pool.layer(a="x")))
    with pytest.raises(IsolaError):
        await first
    assert await pool.driver.layers() == (BASE,)


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
        await pool.driver.ensure_layer(op, BASE, pool.layer(a="x"))
        raise HostFailure("later")

    with pytest.raises(HostFailure, match="later"):
        await pool.do(work)
    assert await pool.again().layers() == (BASE,)


async def test_a_layer_that_is_being_deleted_is_unpacked_again(filled: Subject) -> None:
    async def create(op: Operation) -> None:
        await filled.driver.ensure_layer(op, BASE, filled.layer(a="again"))
        await filled.driver.create_volume(op, Volume("v1", "p", layers=(BASE,), idmap=IDS))

    await asyncio.gather(filled.driver.delete_layer(BASE), filled.do(create))
    root = await filled.mount(Volume("v1", "p", layers=(BASE,), idmap=IDS))
    assert await filled.read(root, "/a") == "again"


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
    assert len(await filled.host.mounts.below(filled.directory)) <= 1
    await filled.unmount(volume)
    await filled.unmount(volume)
    assert await filled.host.mounts.below(filled.directory) == ()


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
    assert await filled.picture() == ((), (BASE, TOP), ())


async def test_what_is_not_there_cannot_be_mounted(filled: Subject) -> None:
    with pytest.raises(NotFound):
        await filled.mount(Volume("nothing", "p", layers=(BASE,), idmap=IDS))
    await filled.unmount(Volume("nothing", "p"))
    assert await filled.picture() == ((), (BASE, TOP), ())


async def test_use_grows_with_what_is_written_only(filled: Subject) -> None:
    volume = await filled.volume()
    before = await filled.driver.usage(volume)
    root = await filled.mount(volume)
    await filled.write(root, "/x", "x" * (1 << 20))
    await filled.unmount(volume)
    assert await filled.driver.usage(volume) - before >= 1 << 20
    assert before <= 64 << 10


# --- visits ----------------------------------------------------------------------------------------------------


async def test_a_visit_mounts_for_as_long_as_it_lasts(filled: Subject) -> None:
    volume = await filled.volume()
    async with filled.driver.visit(volume) as one:
        async with filled.driver.visit(volume) as two:
            assert one == two
            assert await filled.read(two, "/a") == "base"
        assert await filled.read(one, "/a") == "base"
    assert await filled.host.mounts.below(filled.directory) == ()


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
    assert await filled.host.mounts.below(filled.directory) == ()


async def test_many_visits_at_once(filled: Subject) -> None:
    volume = await filled.volume()

    async def visit() -> str:
        async with filled.driver.visit(volume) as root:
            await asyncio.sleep(0.001)
            return await filled.read(root, "/a")

    assert await asyncio.gather(*(visit() for _ in range(20))) == ["base"] * 20
    assert await filled.host.mounts.below(filled.directory) == ()


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
        await filled.driver.mount(op, volume)

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
    digest = f"sha256:{'c' * 64}"
    halfway: asyncio.Future[Path] = asyncio.get_running_loop().create_future()

    async def unpack(target: Path) -> None:
        await filled.layer(a="half")(target)
        halfway.set_result(target)
        await asyncio.sleep(60)

    work = asyncio.create_task(filled.driver._add_layer(digest, unpack))
    partial = await halfway
    successor = filled.again()
    assert digest not in await successor.layers()
    await successor.clean()
    assert not await filled.host.files.exists(partial)
    work.cancel()
    await asyncio.wait([work])
    assert await successor.layers() == (BASE, TOP)


async def test_cleaning_leaves_what_is_whole(filled: Subject) -> None:
    volume = await filled.volume()
    root = await filled.mount(volume)
    await filled.again().clean()
    assert await filled.read(root, "/a") == "base"
    assert await filled.driver.layers() == (BASE, TOP)
