"""The contract of state stores, for the fake and every driver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from channels import eventually

from isola import registry
from isola.errors import Compacted, PreconditionFailed
from isola.state import Check, Delete, Expect, Put, Store
from isola.testing.store import FakeStore


@dataclass
class HandClock:
    """A clock that is advanced by tests; sleeping only yields to other tasks."""

    moment: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    numbers: count[int] = field(default_factory=count)

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.005)

    def token(self, size: int = 32) -> str:
        return f"{next(self.numbers):0{2 * size}x}"

    def uuid(self) -> str:
        return self.token(16)


Reopen = Callable[[], Store]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=["fake", *registry.names("state")])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> Reopen:
    """Opens another object over the same data, as after a restart."""
    if request.param == "fake":
        fake = FakeStore(clock)
        return lambda: fake
    return lambda: registry.load("state", request.param)(tmp_path, clock)


@pytest.fixture
async def store(reopen: Reopen) -> AsyncIterator[Store]:
    store = reopen()
    await store.open()
    yield store
    await store.close()


async def test_what_was_written_is_read_back_with_its_revision(store: Store) -> None:
    revision = await store.put("/a/1", b"one")
    entry = await store.get("/a/1")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"one", revision)
    assert await store.get("/a/2") is None


async def test_range_is_ordered_and_ends_at_the_prefix(store: Store) -> None:
    for key in ("/a/2", "/b/1", "/a/10", "/a/1", "/aa/1"):
        await store.put(key, key.encode())
    assert [entry.key for entry in await store.range("/a/")] == ["/a/1", "/a/10", "/a/2"]


async def test_compare_and_swap_admits_one_of_two(store: Store) -> None:
    first = await store.compare_and_swap("/k", b"1", 0)
    with pytest.raises(PreconditionFailed):
        await store.compare_and_swap("/k", b"2", 0)
    await store.compare_and_swap("/k", b"3", first)
    with pytest.raises(PreconditionFailed):
        await store.compare_and_swap("/k", b"4", first)
    entry = await store.get("/k")
    assert entry is not None and entry.value == b"3"


async def test_of_concurrent_swaps_of_one_revision_exactly_one_succeeds(store: Store) -> None:
    revision = await store.put("/k", b"0")
    results = await asyncio.gather(
        *(store.compare_and_swap("/k", str(n).encode(), revision) for n in range(20)), return_exceptions=True
    )
    assert sum(isinstance(result, int) for result in results) == 1
    assert all(isinstance(result, int | PreconditionFailed) for result in results)


async def test_of_many_commits_at_once_each_has_its_own_revision_and_result(store: Store) -> None:
    first = await store.put("/taken", b"0")
    heard: list[tuple[str, int]] = []

    async def watch() -> None:
        async for change in store.watch("/n", first):
            heard.append((change.key, change.revision))

    watcher = asyncio.create_task(watch())
    commits = [store.commit(Check(f"/{'taken' if n % 5 == 0 else n}", 0), Put(f"/n{n:02}", b"x")) for n in range(50)]
    results = await asyncio.gather(*commits, return_exceptions=True)
    refused = [n for n, result in enumerate(results) if isinstance(result, PreconditionFailed)]
    assert refused == list(range(0, 50, 5))
    revisions = [result for result in results if isinstance(result, int)]
    assert sorted(revisions) == list(range(first + 1, first + 41))
    entries = await store.range("/n")
    assert {entry.key: entry.revision for entry in entries} == {
        f"/n{n:02}": result for n, result in enumerate(results) if isinstance(result, int)
    }
    await eventually(lambda: len(heard) == 40)
    assert sorted(heard, key=lambda each: each[1]) == heard and len(set(heard)) == 40
    watcher.cancel()


async def test_a_commit_is_all_or_nothing(store: Store) -> None:
    await store.put("/old", b"x")
    with pytest.raises(PreconditionFailed):
        await store.commit(Put("/new", b"y"), Delete("/old"), Check("/old", 999))
    assert await store.get("/new") is None
    assert await store.get("/old") is not None
    await store.commit(Put("/new", b"y"), Delete("/old"))
    assert await store.get("/old") is None
    assert await store.get("/new") is not None


async def test_data_survives_a_restart_and_revisions_continue(store: Store, reopen: Reopen) -> None:
    before = await store.put("/k", b"v")
    await store.close()
    again = reopen()
    await again.open()
    entry = await again.get("/k")
    assert entry is not None and (entry.value, entry.revision) == (b"v", before)
    assert await again.put("/k", b"w") > before
    await again.close()
    await store.open()


async def test_watch_reports_changes_below_its_prefix_in_order(store: Store) -> None:
    seen: list[tuple[str, bytes | None]] = []

    async def follow() -> None:
        async for change in store.watch("/w/"):
            seen.append((change.key, change.value))

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.01)
    await store.put("/w/1", b"a")
    await store.put("/x/1", b"a")
    await store.commit(Put("/w/2", b"b"), Delete("/w/1"))
    await eventually(lambda: len(seen) == 3)
    task.cancel()
    assert seen == [("/w/1", b"a"), ("/w/2", b"b"), ("/w/1", None)]


class Follower:
    """Reads a watch in the background."""

    def __init__(self, store: Store, prefix: str = "/w/", since: int | None = None) -> None:
        self.seen: list[tuple[str, bytes | None]] = []
        self._task = asyncio.create_task(self._follow(store, prefix, since))

    async def _follow(self, store: Store, prefix: str, since: int | None) -> None:
        async for change in store.watch(prefix, since):
            self.seen.append((change.key, change.value))

    async def received(self, count: int) -> list[tuple[str, bytes | None]]:
        """The events, once there are so many."""
        for _ in range(12_000):
            if len(self.seen) >= count or self._task.done():
                break
            await asyncio.sleep(0.005)
        return self.seen

    async def refused(self) -> bool:
        """Whether it ends with the request to read everything again."""
        await asyncio.wait([self._task], timeout=60)
        return self._task.done() and isinstance(self._task.exception(), Compacted)

    def stop(self) -> None:
        self._task.cancel()


@pytest.fixture
async def other(store: Store, reopen: Reopen) -> AsyncIterator[Store]:
    """The same data with separate connections, as in another process."""
    other = reopen()
    if other is store:
        yield other
        return
    await other.open()
    yield other
    await other.close()


async def test_a_watch_continues_a_snapshot_without_a_gap(store: Store) -> None:
    await store.put("/w/1", b"a")
    snapshot = await store.snapshot("/w/")
    assert [(entry.key, entry.revision) for entry in snapshot.entries] == [("/w/1", snapshot.revision)]
    await store.put("/w/2", b"b")
    await store.commit(Put("/x/1", b"c"), Delete("/w/1"))
    follower = Follower(store, since=snapshot.revision)
    assert await follower.received(2) == [("/w/2", b"b"), ("/w/1", None)]
    await store.put("/w/3", b"d")
    assert (await follower.received(3))[2:] == [("/w/3", b"d")]
    follower.stop()


async def test_a_watch_started_during_writes_reports_each_once(store: Store) -> None:
    snapshot = await store.snapshot("/w/")

    async def write(number: int) -> None:
        await store.put(f"/w/{number:03}", b"%d" % number)

    writing = asyncio.gather(*(write(number) for number in range(200)))
    followers = []
    for _ in range(10):
        followers.append(Follower(store, since=snapshot.revision))
        await asyncio.sleep(0.002)
    await writing
    for follower in followers:
        received = await follower.received(200)
        assert sorted(received) == [(f"/w/{number:03}", b"%d" % number) for number in range(200)]
        follower.stop()


async def test_writes_of_another_process_are_reported_in_order_with_own_ones(store: Store, other: Store) -> None:
    follower = Follower(store, since=(await store.snapshot("")).revision)
    await asyncio.sleep(0.05)
    await other.put("/w/1", b"theirs")
    await store.put("/w/2", b"ours")
    await other.commit(Put("/w/3", b"theirs"), Delete("/w/1"))
    received = await follower.received(4)
    assert received == [("/w/1", b"theirs"), ("/w/2", b"ours"), ("/w/3", b"theirs"), ("/w/1", None)]
    follower.stop()


async def test_writes_of_another_process_are_reported_while_idle(store: Store, other: Store) -> None:
    follower = Follower(store, since=(await store.snapshot("")).revision)
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await other.put("/w/1", b"theirs")
    assert await follower.received(1) == [("/w/1", b"theirs")]
    assert time.monotonic() - began < 30
    follower.stop()


async def test_a_write_based_on_a_record_changed_by_another_process_is_refused(store: Store, other: Store) -> None:
    revision = await store.put("/k", b"ours")
    await other.put("/k", b"theirs")
    with pytest.raises(PreconditionFailed):
        await store.compare_and_swap("/k", b"decided on ours", revision)


async def test_a_watch_from_a_too_old_revision_must_read_again(store: Store) -> None:
    store.changes_kept = 20
    revision = await store.put("/w/0", b"")
    for number in range(60):
        await store.put("/w/1", b"%d" % number)
    assert await Follower(store, since=revision).refused()
    assert await Follower(store, since=revision + 1000).refused(), "a revision in the future belongs to another store"
    follower = Follower(store, since=(await store.snapshot("")).revision - 1)
    assert (await follower.received(1))[-1] == ("/w/1", b"59")
    follower.stop()


async def test_a_slow_watcher_must_read_again(store: Store) -> None:
    store.changes_kept = 10
    watch = store.watch("/w/")
    first = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0.05)
    await store.put("/w/0", b"")
    await first
    for number in range(12):
        await store.put("/w/1", b"%d" % number)
    with pytest.raises(Compacted):
        await anext(watch)


async def test_changes_are_known_after_a_restart(store: Store, reopen: Reopen) -> None:
    revision = await store.put("/w/1", b"a")
    await store.put("/w/2", b"b")
    await store.close()
    again = reopen()
    await again.open()
    follower = Follower(again, since=revision)
    assert await follower.received(1) == [("/w/2", b"b")]
    follower.stop()
    await again.close()
    await store.open()


async def test_keys_of_an_expired_lease_are_deleted(store: Store, clock: HandClock) -> None:
    lease = await store.lease(10)
    await store.commit(Put("/member/1", b"me", lease=lease.id))
    clock.moment += timedelta(seconds=8)
    assert await store.renew(lease)
    clock.moment += timedelta(seconds=8)
    await asyncio.sleep(0.05)
    assert await store.get("/member/1") is not None
    clock.moment += timedelta(seconds=3)
    async with asyncio.timeout(60):
        while await store.get("/member/1") is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not await store.renew(lease)


async def test_a_revoked_lease_is_deleted_at_once_and_reported(store: Store) -> None:
    seen: list[str] = []

    async def follow() -> None:
        async for change in store.watch("/m/"):
            seen.append(f"{change.key}={change.value!r}")

    lease = await store.lease(10)
    task = asyncio.create_task(follow())
    await asyncio.sleep(0.01)
    await store.commit(Put("/m/1", b"x", lease=lease.id))
    await store.revoke(lease)
    await eventually(lambda: len(seen) == 2)
    task.cancel()
    assert await store.get("/m/1") is None
    assert seen == ["/m/1=b'x'", "/m/1=None"]
    with pytest.raises(PreconditionFailed):
        await store.commit(Put("/m/2", b"x", lease=lease.id))


async def test_a_cancelled_writer_knows_its_result(store: Store) -> None:
    """A cancellation during a commit takes effect after it: the value is written, the next await is cancelled."""
    wrote = asyncio.Event()

    async def writer() -> None:
        await store.put("/k", b"v")
        wrote.set()
        await asyncio.sleep(10)

    task = asyncio.create_task(writer())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    entry = await store.get("/k")
    assert wrote.is_set() == (entry is not None)


async def test_a_commit_may_expect_that_something_begins_with_a_prefix_or_nothing(store: Store) -> None:
    await store.put("/uses/a/1", b"")
    for prefix, some in (("/uses/a/", False), ("/uses/b/", True), ("/uses/a/12", True)):
        with pytest.raises(PreconditionFailed):
            await store.commit(Expect(prefix, some=some), Put("/x", b""))
    assert await store.get("/x") is None
    await store.commit(Expect("/uses/a/", some=True), Expect("/uses/b/", some=False), Put("/x", b""))
    await store.commit(Delete("/uses/a/1"))
    await store.commit(Expect("/uses/a/", some=False), Put("/y", b""))
    assert await store.get("/y") is not None
