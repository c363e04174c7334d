"""The custom volumes of a daemon on a fake host, for tests of several files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from isola.errors import Forbidden, NotFound
from isola.events import Events
from isola.model.identity import HostNames, IdRange
from isola.model.network import NetworkNamespace
from isola.model.storage import Pool
from isola.model.volume import VolumeRecord, VolumeRef, VolumeSnapshot
from isola.operations import Observer, Operation, Operations
from isola.runtimes import Guest, Root, RunSpec
from isola.state import Collection, References, record_codec
from isola.storage import Pools, Volumes
from isola.testing.clock import FakeClock
from isola.testing.host import FakeHost, fake_host
from isola.testing.runtime import FakeRuntime
from isola.testing.store import FakeStore
from isola.testing.system import FakeSystem

HOME = Path("/var/lib/isola")
IDS, OTHERS = IdRange(100000), IdRange(200000)
DATA, COPY = VolumeRef.custom("fast", "data"), VolumeRef.custom("fast", "copy")


class House:
    """A daemon's volumes on a fake host, in a btrfs pool ``fast`` and a dir pool ``slow``."""

    def __init__(self, host: FakeHost | None = None, store: FakeStore | None = None) -> None:
        programs = {"mkfs.btrfs": Path("/usr/sbin/mkfs.btrfs")}
        self.host = host or fake_host(system=FakeSystem(programs=programs), clock=FakeClock(skips=True))
        self.store = store or FakeStore(self.host.clock)
        self.references = References()
        self.most = 1 << 40
        self.observer: Observer | None = None
        self.events = Events(self.host.clock.now)
        clock = self.host.clock
        self.operations = Operations(self.events, now=clock.now, new_id=clock.uuid, observer=self)
        self.pool_records = Collection(self.store, "storage pool", "/pools/", record_codec(Pool))
        self.records = Collection(self.store, "storage volume", "/volumes/", record_codec(VolumeRecord))
        self.snapshot_records = Collection(self.store, "snapshot", "/volume-snapshots/", record_codec(VolumeSnapshot))
        self.pools = Pools(self.host, self.pool_records, self.operations, self.events, HOME)
        self.volumes = Volumes(
            self.host, self.pools, self.records, self.snapshot_records, self.operations, self.events,
            self.references, self.permit,
        )  # fmt: skip

    def permit(self, record: VolumeRecord) -> None:
        """Permission check, like that of a project with ``limits.disk``."""
        if (record.size or 0) > self.most:
            raise Forbidden("the project allows less")

    async def guest(self, id: str, ids: IdRange) -> Guest:
        """A running instance."""
        runtime, guests = FakeRuntime(self.host, HOME, HostNames("isola")), list[Guest]()
        network = NetworkNamespace(Path("/netns/1"))
        spec = RunSpec(id, "web", Root(Path("/root")), ("init",), ids, network=network)

        async def run(op: Operation) -> None:
            guests.append(await runtime.run(op, spec))
            await op.commit()

        await self.do(run)
        return guests[0]

    async def reached(self, operation: Operation, point: str) -> None:
        if self.observer is not None:
            await self.observer.reached(operation, point)

    async def open(self) -> House:
        for records in (self.pool_records, self.records, self.snapshot_records):
            await records.load()
        await self.pools.open()
        await self.volumes.open()
        return self

    async def again(self) -> House:
        return await House(self.host, self.store).open()

    async def finish(self, begun: Operation | Coroutine[Any, Any, Operation]) -> None:
        await self.operations.finish(begun if isinstance(begun, Operation) else await begun)

    async def do(self, work: Callable[[Operation], Awaitable[object]]) -> None:
        await self.finish(self.operations.start("test", work))

    async def attach(self, ref: VolumeRef, holder: str, ids: IdRange | None = IDS) -> Path:
        found: list[Path] = []

        async def work(op: Operation) -> None:
            found.append(await self.volumes.attach(op, ref, holder, ids))
            await op.commit()

        await self.do(work)
        return found[0]

    async def detach(self, ref: VolumeRef, holder: str) -> None:
        await self.do(lambda op: self.volumes.detach(op, ref, holder))

    async def put(self, ref: VolumeRef, text: str) -> None:
        """Write into a volume."""
        place = await self.attach(ref, "writer", None)
        await self.host.files.write(place / "file", text.encode())
        await self.detach(ref, "writer")

    async def read(self, ref: VolumeRef) -> str:
        place = await self.attach(ref, "reader", None)
        try:
            return (await self.host.files.read(place / "file")).decode()
        except NotFound:
            return ""
        finally:
            await self.detach(ref, "reader")

    async def picture(self) -> object:
        """Records and host, which must agree."""
        for pool in self.pools:
            on_host = set(await self.pools.driver(pool.name).volumes("custom"))
            assert on_host == {record.id for record in self.volumes.in_pool(pool.name)}
            await self.pools.driver(pool.name).settled()
            assert await self.host.files.names(self.pools.driver(pool.name).place / "partial") == ()
            for record in self.volumes.in_pool(pool.name):
                known = {snapshot.id for snapshot in self.snapshot_records if snapshot.volume == record.id}
                assert set(await self.pools.driver(pool.name).snapshots(record.volume())) == known
        snapshots = {(each.volume, each.name) for each in self.snapshot_records}
        return [replace(record, id="") for record in self.volumes], len(snapshots)


async def furnished() -> House:
    made = await House().open()
    await made.do(lambda op: made.pools.create(op, Pool("fast", "btrfs", config={"size": "1GiB"})))
    await made.do(lambda op: made.pools.create(op, Pool("slow", "dir")))
    return made


async def with_data() -> House:
    """A volume with two snapshots."""
    house = await furnished()
    await house.finish(house.volumes.create(DATA, {"user.a": "b"}, "mine"))
    for text in ("one", "two"):
        await house.put(DATA, text)
        await house.finish(house.volumes.snapshots.create(DATA, f"s-{text}"))
    await house.put(DATA, "three")
    return house


async def copied(pool: str) -> tuple[House, VolumeRef]:
    """``DATA`` with a copy; then ``DATA`` gets a new snapshot and other content, and loses an old snapshot."""
    house, copy = await with_data(), VolumeRef.custom(pool, "copy")
    await house.finish(house.volumes.copy(DATA, copy))
    await house.finish(house.volumes.update(copy, lambda found: replace(found, config={"user.a": "b"})))
    await house.finish(house.volumes.snapshots.create(copy, "own"))
    await house.finish(house.volumes.snapshots.delete(DATA, "s-one"))
    await house.host.clock.advance(5)
    await house.put(DATA, "four")
    await house.finish(house.volumes.snapshots.create(DATA, "s-one"))
    await house.put(DATA, "five")
    return house, copy
