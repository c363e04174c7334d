"""Pools on the fake host: records, validation, deletion, and cleanup of incomplete ones by the next daemon."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from channels import eventually

from isola.errors import AlreadyExists, DriverUnavailable, HostFailure, InUse, InvalidInput, IsolaError, NotFound
from isola.events import Events
from isola.model.event import EventKind, Lifecycle
from isola.model.reference import Entity, Kind, Ref
from isola.model.storage import Pool, Volume
from isola.operations import Observer, Operation, Operations
from isola.state import Collection, References, record_codec
from isola.state.follow import Follower
from isola.storage import Pools
from isola.testing.host import FakeHost, fake_host
from isola.testing.store import FakeStore

HOME = Path("/var/lib/isola")
LAYER = f"sha256:{'a' * 64}"


class House:
    """A daemon's pools on a fake host; ``again`` is the next daemon."""

    def __init__(self, host: FakeHost | None = None, store: FakeStore | None = None) -> None:
        self.host = host or fake_host()
        self.store = store or FakeStore(self.host.clock)
        self.references = References()
        self.records = Collection(self.store, "storage pool", "/pools/", record_codec(Pool))
        self.events = Events(self.host.clock.now)
        self.pools = Pools(self.host, self.records, self.operations(), self.events, HOME, self.references)

    def operations(self, observer: Observer | None = None) -> Operations:
        clock = self.host.clock
        return Operations(self.events, now=clock.now, new_id=clock.uuid, observer=observer)

    async def open(self) -> House:
        await self.records.load()
        await self.pools.probe()
        await self.pools.open()
        return self

    async def again(self) -> House:
        return await House(self.host, self.store).open()

    async def do(self, work: Callable[[Operation], Awaitable[object]], observer: Observer | None = None) -> None:
        operations = self.operations(observer)
        await operations.finish(operations.start("test", work))

    async def create(self, name: str = "p", **config: str) -> None:
        await self.do(lambda op: self.pools.create(op, Pool(name, config=config)))

    async def on_disk(self) -> tuple[str, ...]:
        return await self.host.files.names(HOME / "pools")


@pytest.fixture
async def house() -> AsyncIterator[House]:
    yield await House().open()


async def test_a_pool_is_created_recorded_and_published(house: House) -> None:
    followed = house.events.follow({EventKind.LIFECYCLE})
    await house.create("p", **{"user.note": "mine"})
    pool = house.pools.get("p")
    assert (pool.driver, pool.ready, pool.config) == ("overlay", True, {"user.note": "mine"})
    assert [pool.name for pool in house.pools] == ["p"]
    assert await house.on_disk() == ("p",)
    assert await house.pools.driver("p").volumes() == ()
    assert (await house.pools.space("p")).total > 0
    event = await anext(aiter(followed))
    assert event.content == Lifecycle("storage-pool-created", Entity.of_host(Kind.STORAGE_POOL, "p"))


async def test_a_pool_is_adopted_by_the_next_daemon(house: House) -> None:
    await house.create()
    await house.do(lambda op: house.pools.driver("p").create_volume(op, Volume("v1", "p")))
    later = await house.again()
    assert later.pools.get("p") == house.pools.get("p")
    assert await later.pools.driver("p").volumes() == ("v1",)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": "10GiB"}, "cannot be limited"),
        ({"source": "relative"}, "absolute path"),
        ({"source": "/a/../b"}, "absolute path"),
        ({"source": "/not/there"}, "does not exist"),
        ({"source": str(HOME / "elsewhere")}, "own directory"),
        ({"source": "/var"}, "own directory"),
        ({"sorce": "/x"}, "source"),
        ({"zfs.pool_name": "x"}, "Unknown"),
    ],
)
async def test_wrong_settings_are_named_with_the_remedy(house: House, config: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        await house.create("p", **config)
    assert caught.value.field == f"config.{next(iter(config))}"
    assert list(house.pools) == []
    assert await house.on_disk() == ()


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "x" * 64, "a b"])
async def test_wrong_names_are_refused(house: House, name: str) -> None:
    with pytest.raises(InvalidInput):
        await house.create(name)


async def test_unknown_drivers_and_second_pools_of_a_name(house: House) -> None:
    with pytest.raises(InvalidInput, match="no storage driver 'zfs'") as caught:
        await house.do(lambda op: house.pools.create(op, Pool("p", driver="zfs")))
    assert caught.value.field == "driver"
    await house.create()
    with pytest.raises(AlreadyExists):
        await house.create()
    assert await house.on_disk() == ("p",)


async def test_an_unavailable_driver_has_a_reason() -> None:
    host = fake_host()
    host.mounts.failure = HostFailure("Cannot mount", evidence="no overlay", remedy="load the module 'overlay'")
    house = await House(host).open()
    probe = house.pools.probes["overlay"]
    assert (probe.available, probe.reason, probe.remedy) == (
        False,
        "Cannot mount: no overlay",
        "load the module 'overlay'",
    )
    with pytest.raises(DriverUnavailable, match="no overlay"):
        await house.create()


async def test_a_pool_may_use_another_empty_directory(house: House) -> None:
    await house.host.files.make_directory(Path("/srv/data"))
    await house.create("p", source="/srv/data")
    assert await house.host.files.names(Path("/srv/data")) == (
        "custom", "descriptions", "empty", "layers", "mounts", "partial", "volumes"
    )  # fmt: skip
    await house.do(lambda op: house.pools.delete(op, "p"))
    assert await house.host.files.names(Path("/srv/data")) == ()


async def test_a_directory_that_is_not_empty_is_left_alone(house: House) -> None:
    await house.host.files.make_directory(Path("/srv/data/layers"))
    await house.host.files.write(Path("/srv/data/layers/precious"), b"x")
    with pytest.raises(InvalidInput, match="not empty"):
        await house.create("p", source="/srv/data")
    assert await house.host.files.read(Path("/srv/data/layers/precious")) == b"x"
    assert await (await house.again()).on_disk() == ()
    assert await house.host.files.exists(Path("/srv/data/layers/precious"))


async def test_description_and_own_keys_may_change_the_source_not(house: House) -> None:
    await house.create()
    before = house.pools.revision("p")
    await house.pools.update("p", lambda pool: replace(pool, description="for tests", config={"user.a": "b"}))
    assert (house.pools.get("p").description, house.pools.get("p").config) == ("for tests", {"user.a": "b"})
    assert house.pools.revision("p") != before
    with pytest.raises(InvalidInput, match="cannot be changed"):
        await house.pools.update("p", lambda pool: replace(pool, description="", config={"source": "/srv"}))
    with pytest.raises(InvalidInput, match="cannot be limited"):
        await house.pools.update("p", lambda pool: replace(pool, description="", config={"size": "1GiB"}))
    with pytest.raises(NotFound):
        await house.pools.update("nothing", lambda pool: replace(pool, description="", config={}))


async def test_a_pool_in_use_is_not_deleted(house: House) -> None:
    await house.create()
    web = Entity.of(Kind.INSTANCE, Ref.default("web1"))
    house.references.hold(web, {Entity.of_host(Kind.STORAGE_POOL, "p")})
    with pytest.raises(InUse, match="web1"):
        await house.do(lambda op: house.pools.delete(op, "p"))
    assert house.pools.used_by("p") == [web]
    house.references.hold(web)
    await house.do(lambda op: house.pools.delete(op, "p"))
    assert list(house.pools) == []
    assert await house.on_disk() == ()
    for ask in (house.pools.get, house.pools.driver):
        with pytest.raises(NotFound):
            ask("p")


class StopsAt:
    """Fails an operation at its n-th point, or stops it there without rollback, like a kill."""

    def __init__(self, number: int, *, kill: bool) -> None:
        self.left = number
        self.kill = kill

    async def reached(self, operation: Operation, point: str) -> None:
        self.left -= 1
        if self.left == -1:
            if self.kill:
                operation._rollback.forget()
            raise HostFailure(f"Injected at {point}")


@pytest.mark.parametrize("kill", [False, True])
async def test_an_interrupted_creation_is_rolled_back(kill: bool) -> None:
    """Afterwards, or after the next start of the daemon, host and records agree."""
    reached = 0
    for number in range(100):
        house = await House().open()
        try:
            await house.do(lambda op: house.pools.create(op, Pool("p")), StopsAt(number, kill=kill))  # noqa: B023
        except IsolaError:
            reached += 1
            later = await house.again() if kill else house
            made = tuple(pool.name for pool in later.pools)
            assert await later.on_disk() == made
            if made:
                assert later.pools.get("p").ready
                assert await later.pools.driver("p").volumes() == ()
            continue
        break
    assert reached >= 6


async def test_deleting_a_pool_is_finished_by_the_next_daemon() -> None:
    reached = 0
    for number in range(100):
        house = await House().open()
        await house.create()
        try:
            await house.do(lambda op: house.pools.delete(op, "p"), StopsAt(number, kill=True))  # noqa: B023
        except IsolaError:
            reached += 1
            later = await house.again()
            assert await later.on_disk() == tuple(pool.name for pool in later.pools)
            assert all(pool.ready for pool in later.pools)
            continue
        break
    assert reached >= 4


async def test_a_record_of_a_missing_driver_does_not_stop_the_daemon(house: House) -> None:
    await house.create()
    await house.records.add("old", replace(house.pools.get("p"), name="old", driver="vanished"))
    later = await house.again()
    assert [pool.name for pool in later.pools] == ["old", "p"]
    with pytest.raises(NotFound, match="not part of this installation"):
        later.pools.driver("old")
    assert await later.pools.driver("p").layers.stored() == ()


def usable(house: House, name: str) -> bool:
    with contextlib.suppress(NotFound):
        return bool(house.pools.driver(name))
    return False


async def test_a_pool_created_by_another_process_can_be_used(house: House) -> None:
    follower = Follower(house.store, house.host.clock, [house.records])
    follower.begin()
    other = await house.again()
    await other.create("p")
    await eventually(lambda: usable(house, "p"))
    await house.do(lambda op: house.pools.driver("p").create_volume(op, Volume("v1", "p")))
    await other.pools.update("p", lambda pool: replace(pool, description="theirs"))
    await eventually(lambda: house.pools.driver("p").pool.description == "theirs")
    await other.do(lambda op: other.pools.driver("p").delete_volume(op, Volume("v1", "p")))
    await other.do(lambda op: other.pools.delete(op, "p"))
    await eventually(lambda: not list(house.pools))
    with pytest.raises(NotFound):
        house.pools.driver("p")
    await house.create("p")
    assert await house.pools.driver("p").volumes() == ()
    await follower.end()


async def test_a_pool_with_foreign_files_is_not_deleted(house: House) -> None:
    await house.create()
    place = HOME / "pools/p/volumes/theirs"
    await house.host.files.make_directory(place)
    await house.host.files.write(place / "file", b"precious")
    with pytest.raises(InUse, match="no record names") as refused:
        await house.do(lambda op: house.pools.delete(op, "p"))
    assert str(place) in refused.value.evidence and "move them away" in refused.value.remedy
    assert house.pools.get("p").ready and await house.host.files.read(place / "file") == b"precious"
    await house.host.files.remove_tree(place)
    await house.do(lambda op: house.pools.delete(op, "p"))
    assert await house.on_disk() == ()


async def test_foreign_files_survive_an_interrupted_deletion(house: House) -> None:
    await house.create()
    place = HOME / "pools/p/volumes/theirs"
    await house.host.files.make_directory(place)
    await house.records.change("p", lambda found: replace(found, ready=False))
    later = await house.again()
    assert await later.host.files.exists(place)
    await later.host.files.remove_tree(place)
    await later.do(lambda op: later.pools.delete(op, "p"))
    assert list(later.pools) == [] and await later.on_disk() == ()
