"""Verbs of custom volumes that fail, are cancelled or killed at each of their points, and what may not be touched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from volume_house import COPY, DATA, House, copied, furnished, with_data

from isola.errors import Forbidden, HostFailure, IsolaError
from isola.model.volume import VolumeRef
from isola.operations import Operation


@pytest.fixture
async def house() -> AsyncIterator[House]:
    yield await furnished()


class StopsAt:
    """Fails or cancels the next operation at its n-th point, or stops it there like a kill."""

    def __init__(self, number: int, action: str) -> None:
        self.left = number
        self.action = action
        self.first: Operation | None = None

    async def reached(self, operation: Operation, point: str) -> None:
        self.first = self.first or operation
        if operation is not self.first:
            return
        self.left -= 1
        if self.left == -1:
            if self.action == "cancel":
                operation.cancel()
                return
            if self.action == "kill":
                operation._rollback.forget()
            raise HostFailure(f"Injected at {point}")


VERBS: dict[str, Callable[[House], Coroutine[Any, Any, None]]] = {
    "create": lambda house: house.finish(house.volumes.create(COPY, {"size": "1GiB"})),
    "copy": lambda house: house.finish(house.volumes.copy(DATA, COPY)),
    "copy away": lambda house: house.finish(house.volumes.copy(DATA, VolumeRef.custom("slow", "copy"))),
    "rename": lambda house: house.finish(house.volumes.move(DATA, COPY)),
    "move": lambda house: house.finish(house.volumes.move(DATA, VolumeRef.custom("slow", "data"))),
    "delete": lambda house: house.finish(house.volumes.delete(DATA)),
    "snapshot": lambda house: house.finish(house.volumes.snapshots.create(DATA, "s3")),
    "delete snapshot": lambda house: house.finish(house.volumes.snapshots.delete(DATA, "s-one")),
    "restore": lambda house: house.finish(house.volumes.snapshots.restore(DATA, "s-one")),
}


@pytest.mark.parametrize("action", ["fail", "cancel", "kill"])
@pytest.mark.parametrize("pool", ["fast", "slow"])
async def test_an_interrupted_refresh_has_the_old_or_the_new_content(pool: str, action: str) -> None:
    """Afterwards it can be repeated."""
    reached = 0
    for number in range(60):
        house, copy = await copied(pool)
        house.observer = stops = StopsAt(number, action)
        broken = False
        try:
            await house.finish(house.volumes.refresh(DATA, copy))
        except IsolaError:
            broken = True
        if stops.left >= 0:
            assert not broken
            break
        reached += 1
        house.observer = None
        later = await house.again() if action == "kill" else house
        await later.picture()
        assert action != "kill" or all(each.ready for each in later.snapshot_records)
        assert await later.read(copy) in ("three", "five")
        await later.finish(later.volumes.refresh(DATA, copy))
        assert [each.name for each in later.volumes.snapshots.of(copy)] == ["s-two", "s-one"]
        assert await later.read(copy) == "five"
        assert all(each.ready for each in later.snapshot_records)
        await later.picture()
    assert reached >= 6


@pytest.mark.parametrize("action", ["fail", "cancel", "kill"])
@pytest.mark.parametrize("verb", VERBS)
async def test_interrupted_verbs_are_completed_or_rolled_back(verb: str, action: str) -> None:
    """After a kill, by the next daemon. Afterwards it can be repeated."""
    reached = 0
    for number in range(60):
        house = await with_data()
        before = await house.picture()
        house.observer = stops = StopsAt(number, action)
        broken = False
        try:
            await VERBS[verb](house)
        except IsolaError:
            broken = True
        if stops.left >= 0:
            assert not broken
            break
        reached += 1
        later = await house.again()
        picture = await later.picture()
        if broken and action != "kill" and verb not in ("delete", "delete snapshot", "move", "restore"):
            assert picture == before or all(record.ready for record in later.records)
        assert all(record.ready for record in later.records)
        if DATA.key in later.records:
            assert await later.read(DATA) in ("three", "one" if verb == "restore" else "three")
        if picture == before:
            await VERBS[verb](later)
            await later.picture()
    assert reached >= 2


async def test_a_foreign_directory_survives(house: House) -> None:
    await house.finish(house.volumes.create(DATA, {}))
    foreign = house.pools.driver("slow").place / "custom/foreign"
    await house.host.files.make_directory(foreign)
    await house.host.files.write(foreign / "file", b"precious")
    later = await house.again()
    assert await later.host.files.read(foreign / "file") == b"precious"
    assert later.volumes.in_pool("slow") == []


async def test_limits_of_the_project_are_checked_before_volumes_change(house: House) -> None:
    house.most = 1 << 30
    with pytest.raises(Forbidden):
        await house.volumes.create(DATA, {"size": "2GiB"})
    await house.finish(house.volumes.create(DATA, {"size": "1GiB"}))
    with pytest.raises(Forbidden):
        await house.volumes.copy(DATA, COPY, config={"size": "2GiB"})
    with pytest.raises(Forbidden):
        await house.volumes.update(DATA, lambda found: replace(found, config={"size": "2GiB"}))
    begun = await house.volumes.create(COPY, {"size": "1GiB"})
    house.most = 1 << 20  # lowered while it waits
    with pytest.raises(Forbidden):
        await house.operations.finish(begun)
    assert [(record.name, record.size) for record in house.volumes] == [("data", 1 << 30)]
