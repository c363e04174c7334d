"""Typed records over the store: what is in memory is what is stored, whoever writes at once or gives up half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from isola.errors import AlreadyExists, HostFailure, NotFound, PreconditionFailed
from isola.state import Check, Collection, Delete, Put, mapping_codec, record_codec
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
    words: dict[str, dict[str, str]] = field(default_factory=dict)


class SlowStore(FakeStore):
    """Commits take a moment, in which others may do something; they may fail."""

    failing = False

    async def commit(self, *steps: Check | Put | Delete) -> int:
        await asyncio.sleep(0)
        if self.failing:
            raise HostFailure("the disk is full")
        revision = await super().commit(*steps)
        await asyncio.sleep(0.001)
        return revision


@pytest.fixture
def store() -> SlowStore:
    return SlowStore(FakeClock())


def things(store: SlowStore) -> Collection[Thing]:
    return Collection(store, "thing", "/things/", record_codec(Thing))


async def same(store: SlowStore, records: Collection[Thing]) -> bool:
    """Whether memory is what a new daemon would read."""
    fresh = things(store)
    await fresh.load()
    return [(t, fresh.revision(t.name)) for t in fresh] == [(t, records.revision(t.name)) for t in records]


async def test_what_is_written_is_read_again_whole(store: SlowStore) -> None:
    records = things(store)
    thing = Thing("a", datetime(2026, 1, 1, tzinfo=UTC), Inner(2), (Inner(3), Inner(4)), {"x": {"y": "z"}})
    await records.add("a", thing)
    await records.put("b", Thing("b"))
    fresh = things(store)
    await fresh.load()
    assert list(fresh) == [thing, Thing("b")] and len(fresh) == 2 and "a" in fresh and "c" not in fresh


async def test_collections_do_not_see_each_other(store: SlowStore) -> None:
    records = things(store)
    other = Collection(store, "other", "/others/", mapping_codec())
    await records.put("a", Thing("a"))
    await other.put("config", {"k": "v"})
    await other.load()
    await records.load()
    assert list(other) == [{"k": "v"}] and list(records) == [Thing("a")]


async def test_names_are_taken_once(store: SlowStore) -> None:
    records = things(store)
    await records.add("a", Thing("a"))
    with pytest.raises(AlreadyExists, match="Thing 'a'"):
        await records.add("a", Thing("a"))
    await records.put("b", Thing("b"))
    with pytest.raises(AlreadyExists):
        await records.rename("a", "b", Thing("b"))
    with pytest.raises(NotFound):
        await records.rename("nope", "c", Thing("c"))
    with pytest.raises(NotFound):
        await records.replace("nope", Thing("nope"))
    await records.rename("a", "c", Thing("c"))
    assert [thing.name for thing in records] == ["b", "c"] and await same(store, records)


async def test_revisions_change_with_every_write_and_only_then(store: SlowStore) -> None:
    records = things(store)
    assert records.revision("a") == 0
    seen = []
    for size in range(3):
        await records.put("a", Thing("a", inner=Inner(size)))
        seen.append(records.revision("a"))
    await records.put("b", Thing("b"))
    assert seen == sorted(set(seen)) and records.revision("a") == seen[-1]
    await records.remove("a")
    await records.remove("a")
    assert records.revision("a") == 0 and records.find("a") is None and await same(store, records)


async def test_of_two_writers_at_once_one_is_told(store: SlowStore) -> None:
    records = things(store)
    await records.put("a", Thing("a"))
    writes = [records.replace("a", Thing("a", inner=Inner(size))) for size in range(5)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [type(None)] + [PreconditionFailed] * 4
    assert records.get("a").inner == Inner(0) and await same(store, records)


async def test_a_second_daemon_that_was_first_is_noticed(store: SlowStore) -> None:
    records, other = things(store), things(store)
    await records.put("a", Thing("a"))
    await other.load()
    await other.replace("a", Thing("a", inner=Inner(9)))
    with pytest.raises(PreconditionFailed):
        await records.replace("a", Thing("a", inner=Inner(1)))
    with pytest.raises(PreconditionFailed):
        await records.rename("a", "b", Thing("b"))
    assert records.get("a") == Thing("a"), "what was not written is not shown"
    await records.load()
    assert records.get("a").inner == Inner(9)


Write = Callable[[Collection[Thing]], Awaitable[None]]
WRITES: dict[str, Write] = {
    "add": lambda records: records.add("b", Thing("b")),
    "put": lambda records: records.put("a", Thing("a", inner=Inner(7))),
    "replace": lambda records: records.replace("a", Thing("a", inner=Inner(7))),
    "replace_all": lambda records: records.replace_all({"a": Thing("a", inner=Inner(8))}),
    "rename": lambda records: records.rename("a", "b", Thing("b")),
    "remove": lambda records: records.remove("a"),
}


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_fails_changes_nothing(write: str, store: SlowStore) -> None:
    records = things(store)
    await records.put("a", Thing("a"))
    store.failing = True
    with pytest.raises(HostFailure):
        await WRITES[write](records)
    assert list(records) == [Thing("a")] and await same(store, records)


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_is_cancelled_is_in_both_or_in_neither(write: str, store: SlowStore) -> None:
    records = things(store)
    await records.put("a", Thing("a"))
    for turns in range(4):
        task = asyncio.ensure_future(WRITES[write](records))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.005)
        assert await same(store, records)
        await records.remove("b")
        await records.put("a", Thing("a"))


async def test_several_records_are_replaced_together_or_not_at_all(store: SlowStore) -> None:
    records, other = things(store), things(store)
    for name in ("a", "b"):
        await records.put(name, Thing(name))
    await other.load()
    await other.replace("b", Thing("b", inner=Inner(1)))
    both = {name: Thing(name, inner=Inner(2)) for name in ("a", "b")}
    with pytest.raises(PreconditionFailed):
        await records.replace_all(both)
    assert list(records) == [Thing("a"), Thing("b")]
    await records.load()
    await records.replace_all(both)
    assert list(records) == list(both.values()) and await same(store, records)
    with pytest.raises(NotFound):
        await records.replace_all(both | {"c": Thing("c")})
    await records.replace_all({})


async def test_reading_what_another_version_wrote(store: SlowStore) -> None:
    await store.put("/things/a", b'{"name": "a", "inner": {"size": 5, "later": 1}, "new": [1, {"x": 2}]}')
    records = things(store)
    await records.load()
    assert list(records) == [Thing("a", inner=Inner(5))]


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"{", b"[]", b"3", b"null", b'{"when": "2026-01-01"}', b'{"name": "a", "when": 3}']
)
async def test_a_record_that_cannot_be_read_is_named_and_stays(store: SlowStore, value: bytes) -> None:
    await things(store).add("b", Thing("b"))
    await store.put("/things/a", value)
    with pytest.raises(HostFailure, match="thing 'a'"):
        await things(store).load()
    entry = await store.get("/things/a")
    assert entry is not None and entry.value == value
