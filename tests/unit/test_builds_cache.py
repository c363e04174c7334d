"""Results that builds keep: found again, replaced, dropped in the order of their use, with what they held."""

from __future__ import annotations

import asyncio
from collections.abc import Collection as Many
from datetime import UTC, datetime, timedelta

import pytest
from interleaving import Interleaver

from isola.builds.cache import Cache
from isola.builds.ordering import MOST_HELD, Ordering
from isola.model.build import BuildEvent, BuildEventKind, BuildResult
from isola.model.image import Layer
from isola.model.reference import Kind
from isola.state import Collection, References, Role, record_codec
from isola.testing.clock import FakeClock
from isola.testing.store import FakeStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEX = "0123456789abcdef"


def layer(number: int, size: int = 10) -> Layer:
    return Layer(
        f"sha256:{HEX[number] * 64}", "application/vnd.oci.image.layer.v1.tar+zstd", size, f"sha256:{number:064}"
    )


class Kept:
    """A cache over a store that has all blobs but the missing ones."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.released: list[str] = []
        self.dropped: set[str] = set()
        self.references = References()
        role: Role[BuildResult] = Role(
            self.references, entity=lambda each: each.entity, mentions=lambda each: each.mentions
        )
        store = FakeStore(FakeClock())
        records = Collection(store, "build result", "/build-results/", record_codec(BuildResult), role=role)
        self.cache = Cache(records, self._has, self._release, self._drop)

    async def _has(self, digest: str) -> bool:
        return digest not in self.missing

    async def _release(self, digests: Many[str]) -> None:
        await asyncio.sleep(0)  # as it writes to the disk
        self.released += digests

    async def _drop(self, layers: Many[str]) -> None:
        self.dropped |= set(layers)

    def in_use(self) -> set[str]:
        """Names of all layers and blobs that records hold."""
        kinds = (Kind.IMAGE_LAYERS, Kind.IMAGE_BLOBS)
        return {name for kind in kinds for used, _ in self.references.of_kind(kind) for name in used.names}

    async def keep(self, key: str, number: int, at: int) -> None:
        chain = (f"sha256:{number:064}",)
        await self.cache.keep(key, f"RUN {key}", layer(number), chain, NOW + timedelta(hours=at))


@pytest.fixture
def kept() -> Kept:
    return Kept()


async def test_a_result_is_found_while_its_layer_exists(kept: Kept) -> None:
    await kept.keep("a", 1, 0)
    await kept.cache.keep("b", "ENV x", None, (), NOW)
    found = await kept.cache.find("a", NOW)
    assert found is not None and found.layer == layer(1)
    assert (await kept.cache.find("b", NOW)) is not None and await kept.cache.find("c", NOW) is None
    kept.missing.add(layer(1).digest)
    assert await kept.cache.find("a", NOW) is None


async def test_its_layers_are_in_use_until_it_is_dropped(kept: Kept) -> None:
    await kept.keep("a", 1, 0)
    assert kept.in_use() == {layer(1).digest, f"sha256:{1:064}"}
    assert await kept.cache.prune() == (["a"], 10)
    assert kept.released == [layer(1).digest] and kept.dropped == {f"sha256:{1:064}"}
    assert kept.in_use() == set()


async def test_the_least_recently_used_ones_are_dropped_first(kept: Kept) -> None:
    for number, key in enumerate("abc", 1):
        await kept.keep(key, number, number)
    await kept.cache.find("a", NOW + timedelta(hours=9))
    assert await kept.cache.prune(most=20) == (["b"], 10)
    assert await kept.cache.prune(most=20) == ([], 0)
    assert await kept.cache.prune(before=NOW + timedelta(hours=4)) == (["c"], 10)
    assert kept.cache.size() == 10 and len(kept.cache) == 1


async def test_uses_are_counted(kept: Kept) -> None:
    await kept.keep("a", 1, 0)
    for minutes in (1, 2, 30):
        await kept.cache.find("a", NOW + timedelta(minutes=minutes))
    [found] = kept.cache.all()
    assert (found.uses, found.used_at) == (4, NOW + timedelta(minutes=30))
    await kept.keep("a", 2, 1)
    assert [each.uses for each in kept.cache.all()] == [1]


async def test_only_those_that_are_chosen_are_dropped(kept: Kept) -> None:
    for number, key in enumerate("abc", 1):
        await kept.keep(key, number, number)
    assert await kept.cache.prune(only={"b", "x"}) == (["b"], 10)
    assert await kept.cache.prune(only=set()) == ([], 0)
    assert [each.key for each in kept.cache.all()] == ["a", "c"]


async def test_the_size_follows_what_is_kept_and_dropped(kept: Kept) -> None:
    await kept.keep("a", 1, 1)
    assert kept.cache.size() == 10 and await kept.cache.prune(most=10) == ([], 0)
    await kept.keep("b", 2, 2)
    assert kept.cache.size() == 20
    assert await kept.cache.prune(most=10) == (["a"], 10)
    assert kept.cache.size() == 10


async def test_a_result_that_is_made_again_releases_the_older_layer(kept: Kept) -> None:
    await kept.keep("a", 1, 0)
    await kept.keep("a", 2, 1)
    found = await kept.cache.find("a", NOW)
    assert found is not None and found.layer == layer(2) and kept.released == [layer(1).digest]


async def test_a_result_that_is_made_again_while_it_is_pruned_is_kept() -> None:
    """Wherever the build waits meanwhile."""
    interleaver = Interleaver()
    for at in interleaver.suspensions():
        kept = Kept()
        await kept.keep("one", 1, at=0)

        async def again(kept: Kept = kept) -> None:
            await asyncio.create_task(kept.keep("one", 2, at=1))

        async def prune(kept: Kept = kept) -> None:
            await kept.cache.prune()

        await interleaver.run(again(), prune, at)
        found = await kept.cache.find("one", NOW)
        assert found is None or found.layer == layer(2), f"at suspension {at}"
    assert at > 1


def test_requests_to_agents_do_not_wait_for_their_turn() -> None:
    told: list[str] = []
    ordering = Ordering([0, 1], lambda event: told.append(event.text))
    ordering.take(BuildEvent(BuildEventKind.STEP, 1, "later"))
    ordering.take(BuildEvent(BuildEventKind.AGENT, 1, "now"))
    assert told == ["now"]


def test_stages_are_told_about_in_their_order() -> None:
    told: list[str] = []
    ordering = Ordering([0, 2, 3], lambda event: told.append(event.text))
    for stage, text in ((2, "c1"), (0, "a1"), (3, "d1"), (2, "c2"), (0, "a2")):
        ordering.take(BuildEvent(BuildEventKind.STEP, stage, text))
    assert told == ["a1", "a2"]
    ordering.ended(2)
    assert told == ["a1", "a2"]
    ordering.ended(0)
    assert told == ["a1", "a2", "c1", "c2", "d1"]
    ordering.take(BuildEvent(BuildEventKind.STEP, 3, "d2"))
    assert told[-1] == "d2"


def test_a_failed_build_tells_everything_and_holds_no_more_than_a_bound() -> None:
    told: list[BuildEvent] = []
    ordering = Ordering([0, 1], told.append)
    for _ in range(6):
        ordering.take(BuildEvent(BuildEventKind.OUTPUT, 1, data=bytes(MOST_HELD // 4)))
    ordering.take(BuildEvent(BuildEventKind.STEP, 1, "last"))
    ordering.all_ended()
    assert len(told) == 5 and told[-1].text == "last"
