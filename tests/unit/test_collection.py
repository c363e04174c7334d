"""Typed records in the store: the cache matches the store despite concurrent writers and cancellations."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from channels import eventually

from isola.errors import AlreadyExists, HostFailure, NotFound, PreconditionFailed
from isola.model.reference import Ref
from isola.state import Change, Codec, Collection, Scoped, Step, Versioned, mapping_codec, record_codec
from isola.state.codec import encode
from isola.state.collection import BATCH
from isola.testing.clock import FakeClock
from isola.testing.store import FakeStore


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Thing:
    name: str
    when: datetime | None = None
    inner: Inner | None = None
    parts: tuple[Inner, ...] = ()
    nested: dict[str, dict[str, str]] = field(default_factory=dict)


class SlowStore(FakeStore):
    """Commits take a moment, in which other tasks run, and may fail."""

    failing = False
    largest = 0
    at_once = 0
    most_at_once = 0

    async def commit(self, *steps: Step) -> int:
        self.largest = max(self.largest, len(steps))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if self.failing:
                raise HostFailure("the disk is full")
            revision = await super().commit(*steps)
            await asyncio.sleep(0.001)
            return revision
        finally:
            self.at_once -= 1


@pytest.fixture
def store() -> SlowStore:
    return SlowStore(FakeClock())


async def put(records: Collection[Thing], name: str, thing: Thing | None = None) -> None:
    await records.put(name, thing or Thing(name), at=records.revision(name))


def replace(records: Collection[Thing], size: int, name: str = "a") -> Awaitable[object]:
    return records.replace(name, Thing(name, inner=Inner(size)), at=records.revision(name))


def rename(records: Collection[Thing], old: str, new: str) -> Awaitable[object]:
    return records.rename(old, new, Thing(new), at=records.revision(old))


def replace_all(records: Collection[Thing], names: str, size: int = 2) -> Awaitable[object]:
    return records.replace_all(
        {name: Versioned(Thing(name, inner=Inner(size)), records.revision(name)) for name in names}
    )


def things(store: SlowStore) -> Collection[Thing]:
    return Collection(store, "thing", "/things/", record_codec(Thing))


async def same(store: SlowStore, records: Collection[Thing]) -> bool:
    """Whether the cache equals what a new daemon would read."""
    fresh = things(store)
    await fresh.load()
    return [(t, fresh.revision(t.name)) for t in fresh] == [(t, records.revision(t.name)) for t in records]


async def test_records_are_read_back_unchanged(store: SlowStore) -> None:
    records = things(store)
    thing = Thing("a", datetime(2026, 1, 1, tzinfo=UTC), Inner(2), (Inner(3), Inner(4)), {"x": {"y": "z"}})
    await records.add("a", thing)
    await put(records, "b")
    fresh = things(store)
    await fresh.load()
    assert list(fresh) == [thing, Thing("b")] and len(fresh) == 2 and "a" in fresh and "c" not in fresh


async def test_collections_are_separate(store: SlowStore) -> None:
    records = things(store)
    other = Collection(store, "other", "/others/", mapping_codec())
    await put(records, "a", Thing("a"))
    await other.add("config", {"k": "v"})
    await other.load()
    await records.load()
    assert list(other) == [{"k": "v"}] and list(records) == [Thing("a")]


async def test_names_are_unique(store: SlowStore) -> None:
    records = things(store)
    await records.add("a", Thing("a"))
    with pytest.raises(AlreadyExists, match="Thing 'a'"):
        await records.add("a", Thing("a"))
    await put(records, "b")
    with pytest.raises(AlreadyExists):
        await rename(records, "a", "b")
    with pytest.raises(NotFound):
        await rename(records, "nope", "c")
    with pytest.raises(NotFound):
        await replace(records, 1, "nope")
    await rename(records, "a", "c")
    assert [thing.name for thing in records] == ["b", "c"] and await same(store, records)


async def test_records_stay_sorted_while_they_come_go_and_change(store: SlowStore) -> None:
    records, there = things(store), set[str]()
    for name in "gdbhafceB":
        await records.add(name, Thing(name))
        there.add(name)
        assert [thing.name for thing in records] == sorted(there)
        await replace(records, 3, name)
        if len(there) > 3:
            gone = sorted(there)[len(there) // 2]
            await records.remove(gone)
            there.remove(gone)
        assert [thing.name for thing in records] == sorted(there)
    await rename(records, min(there), "z")
    assert [thing.name for thing in records] == [*sorted(there)[1:], "z"] and await same(store, records)


async def test_revisions_change_with_every_write_and_only_then(store: SlowStore) -> None:
    records = things(store)
    assert records.revision("a") == 0
    seen = []
    for size in range(3):
        await put(records, "a", Thing("a", inner=Inner(size)))
        seen.append(records.revision("a"))
    await put(records, "b")
    assert seen == sorted(set(seen)) and records.revision("a") == seen[-1]
    await records.remove("a")
    await records.remove("a")
    assert records.revision("a") == 0 and records.find("a") is None and await same(store, records)


async def test_of_two_concurrent_writers_one_is_refused(store: SlowStore) -> None:
    records = things(store)
    await put(records, "a", Thing("a"))
    writes = [replace(records, size) for size in range(5)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [Versioned] + [PreconditionFailed] * 4
    assert records.get("a").inner == Inner(0) and await same(store, records)


async def test_a_write_based_on_an_old_revision_is_refused(store: SlowStore) -> None:
    records = things(store)
    read = await records.add("a", Thing("a"))
    assert read == records.read("a") == Versioned(Thing("a"), records.revision("a"))
    other = await records.replace("a", Thing("a", inner=Inner(1)), at=read.revision)
    for write in (records.put, records.replace):
        with pytest.raises(PreconditionFailed):
            await write("a", Thing("a", inner=Inner(2)), at=read.revision)
    with pytest.raises(PreconditionFailed):
        await records.replace_all({"a": Versioned(Thing("a", inner=Inner(2)), read.revision)})
    with pytest.raises(PreconditionFailed):
        await records.rename("a", "b", Thing("b"), at=read.revision)
    assert records.read("a") == other and await same(store, records)


async def test_concurrent_changes_are_serialized(store: SlowStore) -> None:
    records = things(store)
    await records.add("a", Thing("a"))

    def longer(thing: Thing) -> Thing:
        return dataclasses.replace(thing, parts=(*thing.parts, Inner(len(thing.parts))))

    await asyncio.gather(*(records.change("a", longer) for _ in range(5)))
    assert records.get("a").parts == tuple(map(Inner, range(5))) and await same(store, records)
    with pytest.raises(NotFound):
        await records.change("b", longer)
    assert (await records.change("b", longer, otherwise=Thing("b"))).value == Thing("b", parts=(Inner(0),))


async def test_writes_to_different_records_are_committed_at_once(store: SlowStore) -> None:
    records = things(store)
    for name in "abcd":
        await records.add(name, Thing(name))
    await asyncio.gather(
        replace(records, 5, "a"),
        records.change("b", lambda thing: dataclasses.replace(thing, inner=Inner(5)), pure=True),
        records.remove("c"),
    )
    assert store.most_at_once == 3 and await same(store, records)
    assert [thing.inner and thing.inner.size for thing in records] == [5, 5, None]


async def test_pure_decisions_on_one_record_see_each_other(store: SlowStore) -> None:
    records = things(store)
    await records.add("a", Thing("a", inner=Inner(0)))

    def more(thing: Thing) -> Thing:
        return dataclasses.replace(thing, inner=Inner(thing.inner.size + 1 if thing.inner else 0))

    await asyncio.gather(*(records.change("a", more, pure=True) for _ in range(10)))
    assert records.get("a").inner == Inner(10) and store.most_at_once == 1


async def test_a_decision_on_several_records_sees_all_writes_before_it_and_none_beside_it(store: SlowStore) -> None:
    records = things(store)
    for name in "ab":
        await records.add(name, Thing(name, inner=Inner(1)))
    seen: list[int] = []

    def at_most_one_hundred() -> None:
        assert not store.at_once
        seen.append(sum(thing.inner.size for thing in records if thing.inner))
        if seen[-1] > 100:
            raise HostFailure("too large")

    added = records.add("c", Thing("c", inner=Inner(1)), allow=at_most_one_hundred)
    results = await asyncio.gather(replace(records, 60, "a"), replace(records, 60, "b"), added, return_exceptions=True)
    assert seen == [120] and isinstance(results[2], HostFailure) and "c" not in records


async def test_own_writes_are_not_decoded_again(store: SlowStore) -> None:
    codec, decoded = record_codec(Thing), list[bytes]()

    def decode(data: bytes) -> Thing:
        decoded.append(data)
        return codec.decode(data)

    records = Collection(store, "thing", "/things/", Codec(codec.encode, decode))
    heard: list[str] = []
    records.on_change = heard.append

    async def follow() -> None:
        async for change in store.watch("/things/", 0):
            records.apply(change)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    await records.add("a", Thing("a"))
    await replace(records, 3)
    await store.put("/things/b", codec.encode(Thing("b")))
    await eventually(lambda: "b" in heard)
    following.cancel()
    assert len(decoded) == 1 and records.get("a").inner == Inner(3) and await same(store, records)


async def test_a_record_whose_removal_is_refused_stays(store: SlowStore) -> None:
    records = things(store)
    await records.add("a", Thing("a"))

    def refuse(thing: Thing) -> None:
        if thing.inner is not None:
            raise HostFailure("it is in use")

    writing = asyncio.ensure_future(replace(records, 1))
    await asyncio.sleep(0)
    with pytest.raises(HostFailure):
        await records.remove("a", refuse)
    await writing
    assert records.get("a").inner == Inner(1) and await same(store, records)


async def test_an_earlier_write_of_another_daemon_is_noticed(store: SlowStore) -> None:
    records, other = things(store), things(store)
    await put(records, "a", Thing("a"))
    await other.load()
    held = records.read("a")
    await replace(other, 9)
    with pytest.raises(PreconditionFailed):
        await records.rename("a", "b", Thing("b"), at=held.revision)
    assert records.get("a").inner == Inner(9) and "b" not in records, "a failed write is not shown"
    with pytest.raises(PreconditionFailed):
        await records.replace("a", Thing("a"), at=held.revision)
    assert await same(store, records)


async def test_late_notifications_do_not_undo_newer_writes(store: SlowStore) -> None:
    records = things(store)
    await records.load()
    old = await records.add("a", Thing("a"))
    late = Change("/things/a", encode(old.value), old.revision)
    await replace(records, 2)
    records.apply(late)
    assert records.get("a").inner == Inner(2)
    await records.remove("a")
    records.apply(late)
    assert "a" not in records
    records.apply(Change("/things/a", encode(Thing("a")), old.revision + 100))
    records.apply(Change("/things/a", None, old.revision + 50))
    assert "a" in records


async def test_a_record_is_found_by_its_identity_under_every_name(store: SlowStore) -> None:
    def identified() -> Scoped[Thing]:
        return Scoped(store, "thing", "/things/", record_codec(Thing), identity=lambda thing: thing.name)

    def sizes(records: Scoped[Thing]) -> list[int | None]:
        found = (records.identified(id) for id in ("first", "second"))
        return [each.inner.size if each and each.inner else None for each in found]

    mine, other = identified(), identified()
    names = [Ref.default(name) for name in ("a", "b", "c")]
    for name, id in zip(names, ("first", "second"), strict=False):
        await mine.add(name, Thing(id, inner=Inner(1)))
    await other.load()
    moved = await mine.rename(names[0], names[2], Thing("first", inner=Inner(2)), at=mine.revision(names[0]))
    changed = await mine.replace(names[1], Thing("second", inner=Inner(3)), at=mine.revision(names[1]))
    assert sizes(mine) == [2, 3] and sizes(other) == [1, 1]
    for name, found in ((names[2], moved), (names[1], changed)):
        other.apply(Change(f"/things/{name.key}", encode(found.value), found.revision))
    other.apply(Change(f"/things/{names[0].key}", None, moved.revision))  # the removal of the old name comes last
    assert sizes(other) == [2, 3]
    await mine.remove(names[2])
    assert sizes(mine) == [None, 3]
    await other.load()
    assert sizes(other) == [None, 3]


async def test_records_of_a_newer_version_are_left_unchanged(store: SlowStore) -> None:
    records = things(store)
    await records.add("a", Thing("a"))
    revision = await store.put("/things/a", b"{")
    records.apply(Change("/things/a", b"{", revision))
    assert records.get("a") == Thing("a")
    with pytest.raises(HostFailure, match="cannot be read"):
        await replace(records, 2)
    entry = await store.get("/things/a")
    assert entry is not None and entry.value == b"{"


async def many(records: Collection[Thing], count: int) -> dict[str, Versioned[Thing]]:
    """So many records, and their replacements."""
    for number in range(count):
        await put(records, f"{number:03}")
    return {thing.name: Versioned(replaced(thing), records.revision(thing.name)) for thing in records}


def replaced(thing: Thing) -> Thing:
    return dataclasses.replace(thing, inner=Inner(2))


async def test_many_records_are_replaced_in_commits_of_bounded_size(store: SlowStore) -> None:
    records = things(store)
    wanted = await many(records, 2 * BATCH + 5)
    store.largest = 0
    await records.replace_all(wanted)
    assert store.largest == 2 * BATCH
    assert all(thing.inner == Inner(2) for thing in records) and await same(store, records)


async def test_a_refused_commit_reverts_the_earlier_ones(store: SlowStore) -> None:
    records, other = things(store), things(store)
    wanted = await many(records, 2 * BATCH + 5)
    await other.load()
    await replace(other, 9, f"{2 * BATCH + 1:03}")
    with pytest.raises(PreconditionFailed):
        await records.replace_all(wanted)
    assert [thing.name for thing in records if thing.inner is not None] == [f"{2 * BATCH + 1:03}"]
    assert await same(store, records)


Write = Callable[[Collection[Thing]], Awaitable[object]]
WRITES: dict[str, Write] = {
    "add": lambda records: records.add("b", Thing("b")),
    "put": lambda records: put(records, "a", Thing("a", inner=Inner(7))),
    "replace": lambda records: replace(records, 7),
    "replace_all": lambda records: replace_all(records, "a", 8),
    "rename": lambda records: rename(records, "a", "b"),
    "remove": lambda records: records.remove("a"),
}


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_fails_changes_nothing(write: str, store: SlowStore) -> None:
    records = things(store)
    await put(records, "a", Thing("a"))
    store.failing = True
    with pytest.raises(HostFailure):
        await WRITES[write](records)
    assert list(records) == [Thing("a")] and await same(store, records)


@pytest.mark.parametrize("write", WRITES)
async def test_a_cancelled_write_is_in_cache_and_store_or_in_neither(write: str, store: SlowStore) -> None:
    records = things(store)
    await put(records, "a", Thing("a"))
    for turns in range(4):
        task = asyncio.ensure_future(WRITES[write](records))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.005)
        assert await same(store, records)
        await records.remove("b")
        await put(records, "a", Thing("a"))


async def test_several_records_are_replaced_together_or_not_at_all(store: SlowStore) -> None:
    records, other = things(store), things(store)
    for name in ("a", "b"):
        await put(records, name, Thing(name))
    await other.load()
    await replace(other, 1, "b")
    with pytest.raises(PreconditionFailed):
        await replace_all(records, "ab")
    assert list(records) == [Thing("a"), Thing("b", inner=Inner(1))]
    await replace_all(records, "ab")
    assert list(records) == [Thing("a", inner=Inner(2)), Thing("b", inner=Inner(2))] and await same(store, records)
    with pytest.raises(NotFound):
        await replace_all(records, "abc")
    await records.replace_all({})


async def test_reading_records_of_another_version(store: SlowStore) -> None:
    await store.put("/things/a", b'{"name": "a", "inner": {"size": 5, "later": 1}, "new": [1, {"x": 2}]}')
    records = things(store)
    await records.load()
    assert list(records) == [Thing("a", inner=Inner(5))]


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"{", b"[]", b"3", b"null", b'{"when": "2026-01-01"}', b'{"name": "a", "when": 3}']
)
async def test_unreadable_records_are_named_and_kept(store: SlowStore, value: bytes) -> None:
    await things(store).add("b", Thing("b"))
    await store.put("/things/a", value)
    with pytest.raises(HostFailure, match="thing 'a'"):
        await things(store).load()
    entry = await store.get("/things/a")
    assert entry is not None and entry.value == value
