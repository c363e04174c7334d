"""Host ids of instances: unused ones, reserved as long as they are in use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.errors import HostFailure, IsolaError
from isola.instances.ranges import order_of
from isola.model.identity import ID_RANGE_SIZE as SIZE
from isola.model.reference import Ref
from isola.testing.parts import World

FIRST = 1 << 20
EXTENTS = st.lists(st.tuples(st.integers(0, 2**31), st.integers(1, 2**24)), max_size=20)


@given(EXTENTS, st.sampled_from(["isola", "isola-12ab"]))
def test_ranges_do_not_overlap_reserved_ids(taken: list[tuple[int, int]], tag: str) -> None:
    bases = order_of([(FIRST, 400 * SIZE)], taken, tag)
    for base in bases[:500]:
        assert not any(first < base + SIZE and base < first + count for first, count in taken)
    assert len(bases) == len(set(bases))
    assert all(b - a >= SIZE for a, b in zip(sorted(bases), sorted(bases)[1:], strict=False))


def test_exactly_the_granted_ids_are_used() -> None:
    assert order_of([(FIRST, 3 * SIZE), (2 * FIRST, SIZE + 1)], [], "isola") == (
        FIRST,
        FIRST + SIZE,
        FIRST + 2 * SIZE,
        2 * FIRST,
    )


def test_if_all_granted_ids_are_taken_other_ids_are_used() -> None:
    bases = order_of([(1_000_000, 1_000_000_000)], [(1_000_000, 1_000_000_000)], "isola")
    assert bases and not [base for base in bases if 1_000_000 - SIZE < base < 1_001_000_000]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    await world.import_image()
    yield world
    world.forget()


async def base(world: World, name: str) -> int:
    return (await world.create(name)).idmap.base


async def test_ranges_of_others_are_left_alone(world: World) -> None:
    world.host.id_ranges.others = [(FIRST, 100 * SIZE)]
    world.host.id_ranges.names = {await first_free(world)}
    await world.parts.close()
    await world.start()
    found = await base(world, "one")
    assert found >= FIRST + 100 * SIZE and found not in world.host.id_ranges.names


async def first_free(world: World) -> int:
    found = await base(world, "trial")
    await world.finish(world.parts.services.instances.delete(Ref.default("trial")))
    return found


async def test_daemons_side_by_side_see_each_other_s_stopped_instances(world: World) -> None:
    # The tags of the directories may be close, and a stopped instance has no processes.
    order = [await first_free(world)]
    world.host.id_ranges.held = {order[0]: "/srv/other/abc"}
    assert await base(world, "one") != order[0]


async def test_a_range_is_free_when_it_is_unused(world: World) -> None:
    first = await base(world, "one")
    assert await base(world, "two") != first
    await world.finish(world.parts.services.instances.delete(Ref.default("one")))
    world.host.id_ranges.running = {first + 33}
    assert await base(world, "three") != first
    world.host.id_ranges.running = set()
    assert await base(world, "four") == first


async def test_a_deletion_does_not_read_the_claims_of_all_instances(world: World) -> None:
    await base(world, "one")
    before = world.host.id_ranges.listed
    await world.finish(world.parts.services.instances.delete(Ref.default("one")))
    assert world.host.id_ranges.held == {} and world.host.id_ranges.listed == before


async def test_a_failed_creation_releases_its_range(world: World) -> None:
    world.host.id_ranges.held.clear()
    with pytest.raises(IsolaError):
        await world.create("one", devices={"eth0": {"type": "nic", "network": "isolabr0", "ipv4.address": "192.0.2.1"}})
    assert world.host.id_ranges.held == {}


async def test_the_next_daemon_claims_the_ranges_of_its_records_only(world: World) -> None:
    instance = await world.create("one")
    other = {FIRST + 7 * SIZE: "/srv/other/abc"}
    world.host.id_ranges.held = {FIRST + 9 * SIZE: f"{world.directory}/gone", **other}
    await world.parts.close()
    await world.start()
    assert world.host.id_ranges.held == {instance.idmap.base: f"{world.directory}/{instance.id}", **other}


async def test_a_volume_that_is_left_keeps_its_ids_reserved(world: World) -> None:
    left = await world.create("one")
    world.host.id_ranges.held[FIRST + 9 * SIZE] = f"{world.directory}/{left.id}"
    await world.parts.close()
    await world.start()
    assert world.host.id_ranges.held[FIRST + 9 * SIZE] == f"{world.directory}/{left.id}"


async def test_exhausted_ranges_are_an_error(world: World) -> None:
    world.host.id_ranges.root = [(FIRST, SIZE)]
    await world.parts.close()
    await world.start()
    await base(world, "one")
    with pytest.raises(HostFailure, match="No free range"):
        await world.create("two")


async def test_ranges_of_daemons_that_are_gone_are_taken_when_no_other_is_left(world: World) -> None:
    ranges = world.host.id_ranges
    ranges.root, ranges.gone = [(FIRST, 3 * SIZE)], {"/srv/gone"}
    ranges.held = {FIRST: "/srv/gone/a", FIRST + SIZE: "/srv/other/b"}
    await world.parts.close()
    await world.start()
    assert await base(world, "one") == FIRST + 2 * SIZE
    assert ranges.held[FIRST] == "/srv/gone/a", "the directory may come back"
    assert await base(world, "two") == FIRST
    with pytest.raises(HostFailure, match="No free range"):
        await world.create("three")
    assert ranges.held[FIRST + SIZE] == "/srv/other/b"


async def test_the_name_service_is_not_queried_at_each_creation(world: World) -> None:
    bases = {await base(world, f"one{number}") for number in range(8)}
    assert len(bases) == 8 and world.host.id_ranges.asked.count(64) == 1
    assert len([count for count in world.host.id_ranges.asked if count]) == 1
